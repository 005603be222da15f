"""Errors of predicted depth (datasets-and-benchmarks section 4.1).

Given many pictures at once, their pixels are pooled. Some published figures average over pictures instead: then call
this for each picture and average.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perceptic.errors import DataError
from perceptic.metrics.checks import FloatArray, same_shape


@dataclass(frozen=True)
class DepthScores:
    """Errors over valid pixels.

    Attributes:
        rmse: root of the mean squared error, in the unit of the depths.
        relative_error: mean of |predicted - true| / true.
        delta1, delta2, delta3: share of pixels with max(predicted / true, true / predicted) < 1.25, 1.25², 1.25³.
        num_pixels: how many were valid.
    """

    rmse: float
    relative_error: float
    delta1: float
    delta2: float
    delta3: float
    num_pixels: int


def depth_scores(
    predictions: npt.ArrayLike, targets: npt.ArrayLike, is_valid: npt.ArrayLike | None = None
) -> DepthScores:
    """Scores of depths of any one shape.

    Args:
        predictions: a prediction of 0 or less is outside of every delta.
        targets: true depths, in the same unit.
        is_valid: booleans; by default where the true depth is finite and above 0 (sensors write 0 for "unknown").

    Raises:
        DataError: shapes that differ, no valid pixel, a true depth of 0 or less called valid, NaN or infinities where
            it counts.
    """
    predicted, true = np.asarray(predictions, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    same_shape(predicted, "predictions", true, "targets")
    valid = np.isfinite(true) & (true > 0) if is_valid is None else np.asarray(is_valid, dtype=np.bool_)
    same_shape(valid, "is_valid", true, "targets")
    if not valid.any():
        raise DataError("targets: expected at least one valid pixel (finite, above 0), found none")
    predicted, true = predicted[valid], true[valid]
    if not np.isfinite(predicted).all():
        raise DataError(f"predictions: expected finite depths, {int((~np.isfinite(predicted)).sum())} are not")
    if not (np.isfinite(true).all() and (true > 0).all()):
        raise DataError("targets: expected finite depths above 0 wherever is_valid says so")
    return _scores(predicted, true)


def _scores(predicted: FloatArray, true: FloatArray) -> DepthScores:
    inverse = np.divide(true, predicted, out=np.full(true.shape, np.inf), where=predicted > 0)
    ratio = np.maximum(predicted / true, inverse)
    return DepthScores(
        rmse=float(np.sqrt(np.mean((predicted - true) ** 2))),
        relative_error=float(np.mean(np.abs(predicted - true) / true)),
        delta1=float((ratio < 1.25).mean()),
        delta2=float((ratio < 1.25**2).mean()),
        delta3=float((ratio < 1.25**3).mean()),
        num_pixels=len(true),
    )
