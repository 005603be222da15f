"""J and F of video object segmentation, as DAVIS defines them (datasets-and-benchmarks section 4.1).

J is intersection over union of the regions. F compares their outlines: precision and recall of outline pixels that lie
within a small distance of the other outline. Source: F. Perazzi et al., A Benchmark Dataset and Evaluation Methodology
for Video Object Segmentation (CVPR 2016); the 2017 evaluation leaves out the first frame, which is given, and the last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perceptic.errors import ConfigError, DataError
from perceptic.metrics.checks import BoolArray, IntArray, integers, same_shape, truths

# The distance that still counts as the same outline, as a share of the picture's diagonal.
TOLERANCE = 0.008


@dataclass(frozen=True)
class RegionAndBoundary:
    """J and F, each in [0, 1]."""

    region: float
    boundary: float

    @property
    def mean(self) -> float:
        """J&F, the figure in the papers' tables."""
        return (self.region + self.boundary) / 2


@dataclass(frozen=True)
class ObjectScore(RegionAndBoundary):
    """J and F of one object, mean over the frames that count."""

    object_id: int
    num_frames: int


def region_similarity(prediction: npt.ArrayLike, target: npt.ArrayLike) -> float:
    """J of two masks (H, W): intersection over union; 1 if both are empty."""
    predicted, true = _two_masks(prediction, target)
    union = int((predicted | true).sum())
    return int((predicted & true).sum()) / union if union else 1.0


def boundary_similarity(prediction: npt.ArrayLike, target: npt.ArrayLike, tolerance: float = TOLERANCE) -> float:
    """F of two masks (H, W): harmonic mean of precision and recall of outline pixels.

    A mask without an outline (empty, or all of the picture) matches only another such mask: 1 then, otherwise 0.

    Args:
        tolerance: share of the diagonal; rounded up to whole pixels.
    """
    predicted, true = _two_masks(prediction, target)
    if not 0 <= tolerance < 1:
        raise ConfigError(f"tolerance is a share of the diagonal in [0, 1), not {tolerance}")
    radius = math.ceil(tolerance * math.hypot(*predicted.shape))
    outline, true_outline = mask_outline(predicted), mask_outline(true)
    num_outline, num_true = int(outline.sum()), int(true_outline.sum())
    if num_outline == 0 or num_true == 0:
        return float(num_outline == num_true)
    precision = int((outline & dilate(true_outline, radius)).sum()) / num_outline
    recall = int((true_outline & dilate(outline, radius)).sum()) / num_true
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def mask_outline(mask: BoolArray) -> BoolArray:
    """Pixels of (H, W) that differ from their neighbour to the right, below, or right below.

    One pixel wide, and shared by both sides of an edge, so that a mask and its complement have one outline.
    """
    outline = np.zeros(mask.shape, dtype=np.bool_)
    outline[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    outline[:-1] |= mask[:-1] != mask[1:]
    outline[:-1, :-1] |= mask[:-1, :-1] != mask[1:, 1:]
    return outline


def dilate(mask: BoolArray, radius: int) -> BoolArray:
    """Pixels of (H, W) within `radius` of a pixel of the mask.

    A disk is a stack of rows. One running count along each row tells for any half width at once whether a mask pixel
    lies within it, so the work grows with the radius, not with the area of the disk.
    """
    height, width = mask.shape
    # counts[y, radius + x] = mask pixels of row y left of column x; the margins repeat the ends of the row.
    counts = np.zeros((height, width + 1 + 2 * radius), dtype=np.int32)
    np.cumsum(mask, axis=1, out=counts[:, radius + 1 : radius + 1 + width])
    counts[:, radius + 1 + width :] = counts[:, radius + width, None]
    grown = np.zeros(mask.shape, dtype=np.bool_)
    for shift in range(min(radius, height - 1) + 1):
        half_width = math.isqrt(radius * radius - shift * shift)
        left, right = radius - half_width, radius + half_width + 1
        is_near = counts[:, right : right + width] > counts[:, left : left + width]
        grown[shift:] |= is_near[: height - shift]
        grown[: height - shift] |= is_near[shift:]
    return grown


def video_object_scores(
    predictions: npt.ArrayLike,
    targets: npt.ArrayLike,
    *,
    object_ids: Sequence[int] | None = None,
    tolerance: float = TOLERANCE,
    skip_ends: bool = True,
) -> tuple[ObjectScore, ...]:
    """J and F of every object of one video, mean over its frames.

    Args:
        predictions, targets: (F, H, W) object numbers, 0 for the background.
        object_ids: by default those of the first true frame, which is what a tracker is given.
        skip_ends: leave out the first and the last frame, as the official evaluation does.

    Raises:
        DataError: shapes that differ, no frame left, no object.
    """
    predicted = integers(predictions, "predictions", ("frames", "height", "width"))
    true = integers(targets, "targets", ("frames", "height", "width"))
    same_shape(predicted, "predictions", true, "targets")
    ids = sorted(set(true[0][true[0] > 0].tolist())) if object_ids is None else list(object_ids)
    if not ids:
        raise DataError("targets: expected an object in the first frame, found only background")
    frames = range(1, len(true) - 1) if skip_ends else range(len(true))
    if not frames:
        raise DataError(f"targets: expected at least 3 frames, as the first and the last do not count; got {len(true)}")
    return tuple(_object_score(predicted, true, object_id, frames, tolerance) for object_id in ids)


def region_and_boundary(scores: Sequence[RegionAndBoundary]) -> RegionAndBoundary:
    """Mean over objects, of one video or of all: every object counts the same, however long its video.

    Raises:
        DataError: no object.
    """
    if not scores:
        raise DataError("scores: expected at least one object, got none")
    regions, boundaries = zip(*((score.region, score.boundary) for score in scores), strict=True)
    return RegionAndBoundary(sum(regions) / len(scores), sum(boundaries) / len(scores))


def _object_score(predicted: IntArray, true: IntArray, object_id: int, frames: range, tolerance: float) -> ObjectScore:
    masks = [(predicted[frame] == object_id, true[frame] == object_id) for frame in frames]
    region = sum(region_similarity(*pair) for pair in masks) / len(frames)
    boundary = sum(boundary_similarity(*pair, tolerance) for pair in masks) / len(frames)
    return ObjectScore(region, boundary, object_id, len(frames))


def _two_masks(prediction: npt.ArrayLike, target: npt.ArrayLike) -> tuple[BoolArray, BoolArray]:
    predicted = truths(prediction, "prediction", ("height", "width"))
    true = truths(target, "target", ("height", "width"))
    same_shape(predicted, "prediction", true, "target")
    return predicted, true
