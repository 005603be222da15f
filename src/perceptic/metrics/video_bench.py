"""Figures of PLM-VideoBench (datasets-and-benchmarks sections 2.3 to 2.8): MBAcc, judged scores, the overall average.

RDCap's score is `soda_c`, RTLoc's is `localisation`; both are averaged over rows.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perceptic.errors import DataError
from perceptic.metrics.checks import BoolArray, FloatArray, grouping, same_length, truths
from perceptic.metrics.judge_replies import JudgedScore, Verdict

# Weights of FGQA, SGQA, RDCap, RCap, RTLoc: the three region tasks together count as much as each of the others.
VIDEO_BENCH_WEIGHTS = (1 / 3, 1 / 3, 1 / 9, 1 / 9, 1 / 9)


def group_all_correct(is_correct: npt.ArrayLike, groups: Sequence[Hashable]) -> BoolArray:
    """(G,) whether every row of a group is right, groups in order of first appearance.

    Args:
        is_correct: (N,) booleans.
        groups: (N,) what belongs together: FGQA's `qa_uid`, TemporalBench's clip.
    """
    correct = truths(is_correct, "is_correct", ("rows",))
    same_length(is_correct=correct, groups=groups)
    num_wrong = np.bincount(grouping(groups).numbers, weights=~correct)
    return np.asarray(num_wrong == 0)


def multi_binary_accuracy(is_correct: npt.ArrayLike, groups: Sequence[Hashable]) -> float:
    """MBAcc, FGQA's figure: share of groups with every row right, in [0, 1]. Chance is 0.5 ** rows of a group."""
    return float(group_all_correct(is_correct, groups).mean())


@dataclass(frozen=True)
class JudgedScores:
    """Judged rows of a set.

    Attributes:
        scores: (N,) in [0, 1]; 0 where the reply could not be read.
        is_read: (N,) whether it could.
    """

    scores: FloatArray
    is_read: BoolArray

    @property
    def mean(self) -> float:
        """The benchmark's figure: SGQA's accuracy, RCap's score."""
        return float(self.scores.mean())

    @property
    def success_rate(self) -> float:
        """Share of replies that could be read."""
        return float(self.is_read.mean())

    @property
    def mean_of_read(self) -> float:
        """The figure without unreadable replies; NaN if none could be read."""
        return float(self.scores[self.is_read].mean()) if self.is_read.any() else math.nan


def judged_scores(replies: Sequence[Verdict | JudgedScore]) -> JudgedScores:
    """Gathers parsed replies of a judge.

    Raises:
        DataError: no replies.
    """
    if not replies:
        raise DataError("replies: expected at least one, got none")
    scores = [float(reply.is_correct) if isinstance(reply, Verdict) else reply.score for reply in replies]
    return JudgedScores(np.array(scores), np.array([reply.failure is None for reply in replies]))


@dataclass(frozen=True)
class VideoBench:
    """The five figures of PLM-VideoBench, all as shares or all in percent."""

    fgqa: float
    sgqa: float
    rdcap: float
    rcap: float
    rtloc: float

    @property
    def average(self) -> float:
        """Mean of FGQA, SGQA and the mean of the three region tasks; never the mean of all five."""
        figures = (self.fgqa, self.sgqa, self.rdcap, self.rcap, self.rtloc)
        return sum(weight * figure for weight, figure in zip(VIDEO_BENCH_WEIGHTS, figures, strict=True))
