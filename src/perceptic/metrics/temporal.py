"""Overlap of stretches of time, and localisation by it (datasets-and-benchmarks sections 2.6 and 2.7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perceptic.errors import DataError
from perceptic.metrics.checks import FloatArray, numbers, same_length
from perceptic.metrics.modes import Mode, require_mode

RECALL_THRESHOLDS = (0.3, 0.5, 0.7, 0.9)
# Keeps two stretches without length from dividing by nothing; the harness's figure, so that ties at 0.9 fall alike.
_EPSILON = 1e-8


@dataclass(frozen=True)
class Stretch:
    """From `start` to `end`, in seconds or frame numbers; either order."""

    start: float
    end: float


def temporal_iou(first: npt.ArrayLike, second: npt.ArrayLike) -> FloatArray:
    """Intersection over union of stretches (..., 2) against (..., 2), broadcast; in [0, 1).

    Time is continuous: a stretch from frame 5 to frame 5 has no length and overlaps nothing, and two that merely touch
    overlap by 0. The ends of a stretch may come in either order.

    Raises:
        DataError: an array without a last axis of 2, NaN or infinities.
    """
    start, end = _sorted_ends(first, "first")
    other_start, other_end = _sorted_ends(second, "second")
    shared = np.maximum(0.0, np.minimum(end, other_end) - np.maximum(start, other_start))
    hull = np.maximum(end, other_end) - np.minimum(start, other_start)
    union = np.minimum(hull, (end - start) + (other_end - other_start))
    return np.asarray(shared / (union + _EPSILON))


def stretches(values: Sequence[Stretch]) -> FloatArray:
    """(N, 2) starts and ends."""
    return np.array([(value.start, value.end) for value in values], dtype=np.float64).reshape(-1, 2)


@dataclass(frozen=True)
class Localisation:
    """How well one predicted stretch per row finds the true one.

    Attributes:
        recalls: (N, 4) whether the overlap of each row is above 0.3, 0.5, 0.7, 0.9.
        ious: (N,) overlap of each row.
        num_unparsed: rows without a prediction, which count as overlap 0.
        num_without_length: rows left out because the true stretch has no length (clean mode alone).
    """

    recalls: npt.NDArray[np.bool_]
    ious: FloatArray
    num_unparsed: int
    num_without_length: int

    @property
    def row_scores(self) -> FloatArray:
        """(N,) mean over the thresholds, in [0, 1]: what a bootstrap draws from."""
        return np.asarray(self.recalls.mean(axis=1))

    @property
    def mean_recall(self) -> float:
        """RTLoc's figure: mean over thresholds, then over rows. With one prediction for each row also the precision."""
        return float(self.row_scores.mean())

    @property
    def mean_iou(self) -> float:
        """The figure of Charades-STA."""
        return float(self.ious.mean())


def localisation(
    predictions: Sequence[Stretch | None],
    targets: Sequence[Stretch],
    mode: Mode = "compatible",
    thresholds: Sequence[float] = RECALL_THRESHOLDS,
) -> Localisation:
    """Recall at several overlaps, *strictly* above each threshold, and mean overlap.

    Compatible: a true stretch whose ends fell on one of the 32 frames can never be hit, and counts. Clean: it is left
    out and counted apart.

    Args:
        predictions: one for each row, None where the answer could not be read.

    Raises:
        DataError: no rows, lengths that differ, no true stretch with a length where those without are left out.
    """
    require_mode(mode)
    same_length(predictions=predictions, targets=targets)
    pairs = list(zip(predictions, targets, strict=True))
    if mode == "clean":
        pairs = [(predicted, true) for predicted, true in pairs if true.start != true.end]
        if not pairs:
            raise DataError("targets: expected at least one stretch with a length, got none")
    # What was not read is put where nothing true can be: a stretch without length overlaps nothing.
    read = stretches([predicted or Stretch(true.start, true.start) for predicted, true in pairs])
    ious = temporal_iou(read, stretches([true for _, true in pairs]))
    return Localisation(
        recalls=ious[:, None] > numbers(thresholds, "thresholds", ("thresholds",)),
        ious=ious,
        num_unparsed=sum(predicted is None for predicted, _ in pairs),
        num_without_length=len(targets) - len(pairs),
    )


def _sorted_ends(values: npt.ArrayLike, name: str) -> tuple[FloatArray, FloatArray]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 0 or array.shape[-1] != 2:
        raise DataError(f"{name}: expected stretches of (..., start and end), got shape {array.shape}")
    if not np.isfinite(array).all():
        raise DataError(f"{name}: expected finite starts and ends, found NaN or infinities")
    return array.min(axis=-1), array.max(axis=-1)
