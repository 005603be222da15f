"""Counts of true against predicted classes: what accuracy per class and intersection over union are made of."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from perceptic.errors import DataError
from perceptic.metrics.checks import FloatArray, IntArray, positive, require_below, same_shape, share


def confusion_counts(
    predictions: npt.ArrayLike, targets: npt.ArrayLike, num_classes: int, *, ignore_label: int | None = None
) -> IntArray:
    """Counts (C, C): row = true class, column = predicted class. Counts of several pictures may be added.

    Args:
        predictions, targets: classes in [0, C), of any one shape.
        ignore_label: where the target is this, nothing is counted, whatever was predicted there.

    Raises:
        DataError: a class outside of [0, C), shapes that differ, anything but whole numbers, nothing at all.
    """
    positive(num_classes, "num_classes")
    predicted, true = np.asarray(predictions), np.asarray(targets)
    same_shape(predicted, "predictions", true, "targets")
    if predicted.size == 0:
        raise DataError("targets: expected at least one label, got none")
    for name, array in (("predictions", predicted), ("targets", true)):
        if array.dtype.kind not in "iu":
            raise DataError(f"{name}: expected whole numbers, got {array.dtype}")
    if ignore_label is not None:
        is_counted = true != ignore_label
        predicted, true = predicted[is_counted], true[is_counted]
    require_below(predicted, "predictions", num_classes)
    require_below(true, "targets", num_classes, "; pass ignore_label for samples that have no class")
    cells = true.astype(np.int64).ravel() * num_classes + predicted.astype(np.int64).ravel()
    return np.bincount(cells, minlength=num_classes**2).astype(np.int64).reshape(num_classes, num_classes)


def class_recalls(confusion: npt.ArrayLike) -> FloatArray:
    """Share of each true class that was found, (..., C) of counts (..., C, C); NaN for a class that never occurs."""
    counts = square_counts(confusion)
    return share(_diagonal(counts), counts.sum(axis=-1))


def class_ious(confusion: npt.ArrayLike) -> FloatArray:
    """Intersection over union of each class, (..., C) of counts (..., C, C).

    NaN for a class that is neither there nor predicted.
    """
    counts = square_counts(confusion)
    hits = _diagonal(counts)
    return share(hits, counts.sum(axis=-1) + counts.sum(axis=-2) - hits)


def mean_of_defined(values: FloatArray) -> FloatArray:
    """Mean over the last axis without NaN; NaN where nothing is left."""
    is_defined = ~np.isnan(values)
    return share(np.where(is_defined, values, 0.0).sum(axis=-1), is_defined.sum(axis=-1))


def square_counts(confusion: npt.ArrayLike) -> FloatArray:
    counts = np.asarray(confusion, dtype=np.float64)
    if counts.ndim < 2 or counts.shape[-1] != counts.shape[-2]:
        raise DataError(f"confusion: expected counts of (..., true class, predicted class), got shape {counts.shape}")
    if not (np.isfinite(counts).all() and (counts >= 0).all()):
        raise DataError("confusion: expected counts, got negative numbers, infinities or NaN")
    return counts


def _diagonal(counts: FloatArray) -> FloatArray:
    return np.diagonal(counts, axis1=-2, axis2=-1)
