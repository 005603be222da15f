"""Reading what a metric is given: every function here returns a checked array or says what was expected."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from perceptic.errors import ConfigError, DataError

FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]
IntArray: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]


def numbers(values: npt.ArrayLike, name: str, axes: tuple[str, ...], *, finite: bool = True) -> FloatArray:
    """`values` as float32 or float64 with one axis for each name in `axes`, none of them empty.

    Args:
        finite: whether infinities are refused too; NaN always is, because any order of it would be made up.
    """
    array = _floating(values, name)
    _require_shape(array, name, axes)
    if not (np.isfinite(array).all() if finite else not np.isnan(array).any()):
        bad = ~np.isfinite(array) if finite else np.isnan(array)
        first = tuple(int(index) for index in np.argwhere(bad)[0])
        wanted = "finite numbers" if finite else "numbers"
        raise DataError(f"{name}: expected {wanted}, found {array[first]} at {first} ({int(bad.sum())} such values)")
    return array


def integers(values: npt.ArrayLike, name: str, axes: tuple[str, ...]) -> IntArray:
    """`values` as int64 with one axis for each name in `axes`, none of them empty."""
    array = np.asarray(values)
    _require_shape(array, name, axes)
    if array.dtype.kind not in "iu":
        raise DataError(f"{name}: expected whole numbers, got {array.dtype}")
    return array.astype(np.int64)


def labels(values: npt.ArrayLike, name: str, axes: tuple[str, ...], num_classes: int) -> IntArray:
    """Whole numbers in [0, num_classes)."""
    array = integers(values, name, axes)
    require_below(array, name, num_classes)
    return array


def require_below(array: npt.NDArray[Any], name: str, limit: int, advice: str = "") -> None:
    """Every number of an array, which may be empty, lies in [0, limit)."""
    if array.size and (array.min() < 0 or array.max() >= limit):
        found = f"{int(array.min())} to {int(array.max())}"
        raise DataError(f"{name}: expected numbers from 0 to {limit - 1}, found {found}{advice}")


def truths(values: npt.ArrayLike, name: str, axes: tuple[str, ...]) -> BoolArray:
    """Booleans, or the numbers 0 and 1."""
    array = np.asarray(values)
    _require_shape(array, name, axes)
    if array.dtype.kind not in "biuf" or not np.isin(array, (0, 1)).all():
        raise DataError(f"{name}: expected booleans or the numbers 0 and 1, got other values ({array.dtype})")
    return array.astype(np.bool_)


def same_shape(first: npt.NDArray[Any], first_name: str, second: npt.NDArray[Any], second_name: str) -> None:
    if first.shape != second.shape:
        raise DataError(f"{first_name} and {second_name} must have one shape, not {first.shape} and {second.shape}")


def same_length(**sized: Sequence[Any] | npt.NDArray[Any]) -> int:
    """The length that all have, at least 1."""
    lengths = {name: len(values) for name, values in sized.items()}
    if len(set(lengths.values())) != 1:
        raise DataError("one entry per sample expected everywhere, got " + _listed(lengths))
    (length,) = set(lengths.values())
    if length == 0:
        raise DataError(f"{', '.join(lengths)}: expected at least one sample, got none")
    return length


def positive(value: int, name: str) -> int:
    if value < 1:
        raise ConfigError(f"{name} must be at least 1, not {value}")
    return value


def share(part: npt.ArrayLike, whole: npt.ArrayLike) -> FloatArray:
    """`part / whole`, element by element; NaN where the whole is 0."""
    sizes = np.asarray(whole, dtype=np.float64)
    result: FloatArray = np.divide(part, sizes, out=np.full(sizes.shape, np.nan), where=sizes > 0)
    return result


@dataclass(frozen=True)
class Grouping:
    """Which group each sample belongs to.

    Attributes:
        keys: the groups, in order of first appearance.
        numbers: (N,) index into `keys`.
    """

    keys: tuple[Hashable, ...]
    numbers: IntArray


def grouping(groups: Sequence[Hashable] | npt.NDArray[Any]) -> Grouping:
    """Numbers groups, whatever names them: strings, numbers, tuples."""
    seen: dict[Hashable, int] = {}
    found = [seen.setdefault(group, len(seen)) for group in _as_list(groups)]
    return Grouping(tuple(seen), np.array(found, dtype=np.int64))


def mean_by_group(values: npt.ArrayLike, groups: Sequence[Hashable] | npt.NDArray[Any]) -> dict[Hashable, float]:
    """Mean of the values (N,) of each group, in order of first appearance: per class, per source, per question type."""
    array = numbers(values, "values", ("samples",))
    same_length(values=array, groups=groups)
    parts = grouping(groups)
    sums = np.bincount(parts.numbers, weights=array)
    return dict(zip(parts.keys, (sums / np.bincount(parts.numbers)).tolist(), strict=True))


def _as_list(groups: Sequence[Hashable] | npt.NDArray[Any]) -> list[Hashable]:
    return groups.tolist() if isinstance(groups, np.ndarray) else list(groups)


def _floating(values: npt.ArrayLike, name: str) -> FloatArray:
    try:
        array = np.asarray(values)
        # float32 stays: a matrix of similarities may be as large as memory allows.
        return array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name}: expected an array of numbers ({error})") from error


def _require_shape(array: npt.NDArray[Any], name: str, axes: tuple[str, ...]) -> None:
    if array.ndim != len(axes):
        raise DataError(f"{name}: expected an array of ({', '.join(axes)}), got shape {array.shape}")
    for axis, size in zip(axes, array.shape, strict=True):
        if size == 0:
            raise DataError(f"{name}: expected at least one of {axis}, got shape {array.shape}")


def _listed(lengths: dict[str, int]) -> str:
    return ", ".join(f"{length} {name}" for name, length in lengths.items())
