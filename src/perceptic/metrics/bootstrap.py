"""Confidence intervals by the percentile bootstrap: draw the samples again with replacement, many times.

Four doors to one idea, by how a metric is made of its samples:

- `bootstrap_mean`: a mean of one score per sample (accuracy, recall, ANLS, CIDEr, SODA). The difference of two models
  on the same samples is the mean of the differences.
- `bootstrap_sums`: a function of sums over samples (mIoU of summed confusions, F1 of summed counts, pooled RMSE).
- `bootstrap_average`: a weighted average of means over independent sets (the overall score of a suite).
- `bootstrap_statistic`: anything else (mean average precision), one call for each resample.

Samples that hang together (captions of one picture, questions on one video) are drawn together when `groups` names
them; otherwise the interval would be too narrow. Source: B. Efron, R. Tibshirani, An Introduction to the Bootstrap.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from perceptic.errors import ConfigError, DataError
from perceptic.metrics.checks import FloatArray, Grouping, IntArray, grouping, numbers, positive, same_length

Groups = Sequence[Hashable] | npt.NDArray[Any]
# Draws held at a time: 32 MB, whatever the number of samples.
_DRAWS = 2**22


@dataclass(frozen=True)
class ConfidenceInterval:
    """A metric and the range in which the middle `level` of its resampled values lies.

    Attributes:
        value: the metric of the samples themselves.
        low, high: NaN with a single unit, of which resampling says nothing.
        level: such as 0.95.
        num_units: how many samples, or groups of samples, were drawn from.
        num_resamples: how often.
        num_undefined: resamples in which the metric had no value (no sample of a class, say); they are left out.
    """

    value: float
    low: float
    high: float
    level: float
    num_units: int
    num_resamples: int
    num_undefined: int = 0


@dataclass(frozen=True)
class Resampling:
    """How to draw. The same settings and samples give the same interval, on every machine."""

    level: float = 0.95
    num_resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise ConfigError(f"level must lie between 0 and 1, not {self.level}")
        positive(self.num_resamples, "num_resamples")

    def interval(self, value: float, resampled: FloatArray, num_units: int) -> ConfidenceInterval:
        """The percentile interval of the resampled values (R,)."""
        defined = resampled[~np.isnan(resampled)]
        low, high = math.nan, math.nan
        if num_units > 1 and len(defined):
            tail = (1 - self.level) / 2
            low, high = (float(bound) for bound in np.quantile(defined, (tail, 1 - tail)))
        num_undefined = len(resampled) - len(defined)
        return ConfidenceInterval(value, low, high, self.level, num_units, self.num_resamples, num_undefined)


DEFAULT = Resampling()


def bootstrap_mean(
    values: npt.ArrayLike, *, groups: Groups | None = None, resampling: Resampling = DEFAULT
) -> ConfidenceInterval:
    """Interval of the mean of values (N,): one score per sample; booleans count as 0 and 1.

    Raises:
        DataError: no samples, NaN or infinities, not one group per sample.
    """
    scores = numbers(values, "values", ("samples",)).astype(np.float64)
    table = np.stack([scores, np.ones_like(scores)], axis=1)
    return bootstrap_sums(table, _mean_of_sums, groups=groups, resampling=resampling)


def bootstrap_sums(
    contributions: npt.ArrayLike,
    statistic: Callable[[FloatArray], npt.ArrayLike],
    *,
    groups: Groups | None = None,
    resampling: Resampling = DEFAULT,
) -> ConfidenceInterval:
    """Interval of a metric that depends on its samples through sums alone.

    Args:
        contributions: (N, ...) what each sample adds, such as its confusion counts (N, C, C).
        statistic: takes sums of shape (R, ...) and gives R values, such as `mean_iou`. NaN where it has none.

    Raises:
        DataError: no samples, NaN or infinities, not one group per sample, a statistic of another shape.
    """
    shape = np.asarray(contributions).shape
    axes = ("samples", *(f"axis {number}" for number in range(1, max(len(shape), 1))))
    table = numbers(contributions, "contributions", axes).astype(np.float64)
    units = _summed_by_unit(table.reshape(len(table), -1), groups)
    resampled: list[FloatArray] = []
    for counts in _drawn_counts(len(units), resampling):
        resampled.append(_values(statistic, (counts @ units).reshape(len(counts), *shape[1:])))
    (value,) = _values(statistic, units.sum(axis=0).reshape(1, *shape[1:]))
    return resampling.interval(float(value), np.concatenate(resampled), len(units))


def bootstrap_average(
    sets: Sequence[npt.ArrayLike],
    *,
    weights: Sequence[float] | None = None,
    groups: Sequence[Groups | None] | None = None,
    resampling: Resampling = DEFAULT,
) -> ConfidenceInterval:
    """Interval of a weighted average of the means of independent sets, each drawn for itself.

    Args:
        sets: scores (N_i,) of each set.
        weights: one for each set, equal by default; scaled to sum to 1.
        groups: for each set the groups of its samples, or None.

    Raises:
        DataError: no sets, not one weight or entry of groups per set, weights without a positive sum, a bad set.
    """
    num_sets = same_length(sets=sets, weights=[1.0] * len(sets) if weights is None else weights)
    shares = np.full(num_sets, 1.0 / num_sets) if weights is None else _shares(weights)
    all_groups = [None] * num_sets if groups is None else list(groups)
    same_length(sets=sets, groups=all_groups)
    value, num_units = 0.0, 0
    resampled: FloatArray = np.zeros(resampling.num_resamples)
    for number, (scores, share, group) in enumerate(zip(sets, shares, all_groups, strict=True)):
        array = numbers(scores, f"sets[{number}]", ("samples",)).astype(np.float64)
        units = _summed_by_unit(np.stack([array, np.ones_like(array)], axis=1), group)
        drawn = [_mean_of_sums(counts @ units) for counts in _drawn_counts(len(units), resampling, stream=number)]
        resampled = resampled + share * np.concatenate(drawn)
        value += share * float(array.mean())
        num_units += len(units)
    return resampling.interval(value, resampled, num_units)


def bootstrap_statistic(
    statistic: Callable[[IntArray], float],
    num_samples: int,
    *,
    groups: Groups | None = None,
    resampling: Resampling = DEFAULT,
) -> ConfidenceInterval:
    """Interval of any metric: `statistic` is called with the drawn sample numbers, once for each resample.

    Slower than the others by as much as the metric is; a sample that was drawn twice appears twice.

    Raises:
        DataError: no samples, not one group per sample.
    """
    if num_samples < 1:
        raise DataError(f"num_samples: expected at least one sample, got {num_samples}")
    everything = np.arange(num_samples)
    parts = _grouping(groups, num_samples)
    members = np.split(np.argsort(parts.numbers, kind="stable"), np.cumsum(np.bincount(parts.numbers))[:-1])
    rng = np.random.default_rng(resampling.seed)
    resampled = np.empty(resampling.num_resamples)
    for number in range(resampling.num_resamples):
        drawn = rng.integers(0, len(members), len(members))
        resampled[number] = statistic(np.concatenate([members[unit] for unit in drawn]))
    return resampling.interval(float(statistic(everything)), resampled, len(members))


def _mean_of_sums(sums: FloatArray) -> FloatArray:
    return np.asarray(sums[..., 0] / sums[..., 1])


def _values(statistic: Callable[[FloatArray], npt.ArrayLike], sums: FloatArray) -> FloatArray:
    values = np.asarray(statistic(sums), dtype=np.float64)
    if values.shape != (len(sums),):
        raise DataError(f"statistic: expected {len(sums)} values of sums {sums.shape}, got shape {values.shape}")
    return values


def _summed_by_unit(table: FloatArray, groups: Groups | None) -> FloatArray:
    """(U, F) sums of the rows (N, F) of each group; every row is its own without groups."""
    if groups is None:
        return table
    parts = _grouping(groups, len(table))
    sums = np.zeros((len(parts.keys), table.shape[1]))
    np.add.at(sums, parts.numbers, table)
    return sums


def _grouping(groups: Groups | None, num_samples: int) -> Grouping:
    if groups is None:
        return Grouping(tuple(range(num_samples)), np.arange(num_samples))
    if len(groups) != num_samples:
        raise DataError(f"groups: expected one for each of {num_samples} samples, got {len(groups)}")
    return grouping(groups)


def _drawn_counts(num_units: int, resampling: Resampling, stream: int = 0) -> Iterator[FloatArray]:
    """How often each unit was drawn, (rows, U), until there are `num_resamples` rows."""
    rng = np.random.default_rng([resampling.seed, stream])
    remaining = resampling.num_resamples
    while remaining:
        rows = min(remaining, max(1, _DRAWS // num_units))
        drawn = rng.integers(0, num_units, (rows, num_units)) + num_units * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * num_units).reshape(rows, num_units).astype(np.float64)
        remaining -= rows


def _shares(weights: Sequence[float]) -> FloatArray:
    array = numbers(weights, "weights", ("sets",))
    if array.sum() <= 0 or array.min() < 0:
        raise DataError(f"weights: expected numbers of at least 0 with a positive sum, got {list(weights)}")
    return np.asarray(array / array.sum())
