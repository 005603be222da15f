"""SODA_c: dense captions against dense captions, in order (datasets-and-benchmarks section 2.6).

Source: S. Fujita et al., SODA: Story Oriented Dense Video Captioning Evaluation Framework (ECCV 2020). PLM-VideoBench
puts a judge's score where the paper has METEOR.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perceptic.errors import DataError
from perceptic.metrics.checks import FloatArray
from perceptic.metrics.temporal import Stretch, stretches, temporal_iou


@dataclass(frozen=True)
class SodaScore:
    """One video's score.

    Attributes:
        matched: sum of overlap times similarity over the best matching.
        num_targets, num_predictions: sizes of the two lists.
    """

    matched: float
    num_targets: int
    num_predictions: int

    @property
    def precision(self) -> float:
        return self.matched / self.num_predictions if self.num_predictions else 0.0

    @property
    def recall(self) -> float:
        return self.matched / self.num_targets

    @property
    def f_measure(self) -> float:
        """RDCap's figure for a row; the benchmark's is the mean over rows."""
        return 2 * self.matched / (self.num_targets + self.num_predictions)


def soda_c(targets: Sequence[Stretch], predictions: Sequence[Stretch], similarities: npt.ArrayLike | None) -> SodaScore:
    """Score of one video: the best matching of events that keeps the order of both lists.

    Args:
        targets, predictions: in the order in which they are listed. No predictions: score 0.
        similarities: (targets, predictions) how alike the captions are, 1 for the same, such as a judge's score
            divided by 10. None is right where there are no predictions.

    Raises:
        DataError: no targets, similarities of another shape or not finite.
    """
    if not targets:
        raise DataError("targets: expected at least one event, got none")
    if not predictions:
        return SodaScore(0.0, len(targets), 0)
    table = np.asarray(similarities if similarities is not None else [], dtype=np.float64)
    if table.shape != (len(targets), len(predictions)):
        raise DataError(
            f"similarities: expected {len(targets)} targets x {len(predictions)} predictions, got shape {table.shape}"
        )
    if not np.isfinite(table).all():
        raise DataError("similarities: expected finite numbers, found NaN or infinities")
    overlaps = temporal_iou(stretches(targets)[:, None], stretches(predictions)[None])
    return SodaScore(best_ordered_matching(overlaps * table), len(targets), len(predictions))


def best_ordered_matching(gains: FloatArray) -> float:
    """Largest sum of gains (N, M) over one-to-one pairs that cross nowhere."""
    best = np.zeros(gains.shape[1] + 1)
    for row in gains:
        previous = best
        best = previous.copy()
        for column, gain in enumerate(row, start=1):
            best[column] = max(previous[column], best[column - 1], previous[column - 1] + gain)
    return float(best[-1])
