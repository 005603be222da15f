"""Average precision of ranked lists (perception-encoder section 6.1)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from perceptic.errors import DataError
from perceptic.metrics.checks import BoolArray, FloatArray, numbers, same_length, same_shape, truths


def average_precision(scores: npt.ArrayLike, is_positive: npt.ArrayLike) -> float:
    """Mean of the precision at each positive in the order of falling scores, in [0, 1]; 0 without positives.

    Equal scores form one step, taken whole: a constant score gets the share of positives, in whatever order the
    samples come.

    Args:
        scores: (N,), larger is better.
        is_positive: (N,) booleans.

    Raises:
        DataError: no samples, NaN or infinities, lengths that differ.
    """
    values = numbers(scores, "scores", ("samples",))
    positive = truths(is_positive, "is_positive", ("samples",))
    same_length(scores=values, is_positive=positive)
    return _average_precision(values, positive)


def mean_average_precision(scores: npt.ArrayLike, is_positive: npt.ArrayLike, *, skip_absent: bool = False) -> float:
    """Mean over classes of `average_precision`, in [0, 1]: the metric of multi-label sets.

    Args:
        scores, is_positive: (N, C).
        skip_absent: leave out classes without a positive. The reference counts them as 0, and so does the default.

    Raises:
        DataError: as `average_precision`; no class with a positive where those without are left out.
    """
    values = numbers(scores, "scores", ("samples", "classes"))
    positive = truths(is_positive, "is_positive", ("samples", "classes"))
    same_shape(values, "scores", positive, "is_positive")
    wanted = np.flatnonzero(positive.any(axis=0)) if skip_absent else np.arange(values.shape[1])
    if len(wanted) == 0:
        raise DataError("is_positive: expected at least one class with a positive sample, got none")
    return float(np.mean([_average_precision(values[:, column], positive[:, column]) for column in wanted]))


def _average_precision(scores: FloatArray, positive: BoolArray) -> float:
    if not positive.any():
        return 0.0
    order = np.argsort(-scores, kind="stable")
    falling = -scores[order]
    # How many samples score at least as much as each: the end of its step of equal scores.
    num_at_least = np.searchsorted(falling, falling, side="right")
    precisions = np.cumsum(positive[order])[num_at_least - 1] / num_at_least
    return float(precisions[positive[order]].mean())
