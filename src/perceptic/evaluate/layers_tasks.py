"""The tasks of a layer sweep: what one layer's frozen features are worth for each, and the control beside it.

The control is the same measurement with the truth shuffled (labels among pictures, masks and depths among pictures,
patches of a frame among places); a score that does not fall to chance there measures something else.

Shapes: N pictures, F frames, R, C rows and columns of patches, D feature size, H, W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from perceptic.evaluate.classifiers import nearest_neighbour_scores, sweep_logistic
from perceptic.evaluate.dense import (
    VOID,
    HeadTraining,
    PatchHead,
    fit_depth,
    fit_segmentation,
    predict_depths,
    predict_masks,
)
from perceptic.evaluate.layers_data import Classification, Dense, Depth, Segmentation, VideoMasks
from perceptic.evaluate.propagation import Propagation, coarse_masks, propagate
from perceptic.evaluate.result import Score
from perceptic.metrics import (
    ObjectScore,
    bootstrap_sums,
    class_ious,
    confusion_counts,
    depth_scores,
    mean_iou,
    pixel_accuracy,
    video_object_scores,
)
from perceptic.metrics.bootstrap import Resampling
from perceptic.metrics.checks import FloatArray

_PREDICTED_AT_ONCE = 64
_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)


@dataclass(frozen=True)
class LayerScore:
    """One layer on one task: the headline, the shuffled control, and other metrics by name."""

    score: Score
    control: Score
    extra: dict[str, Score] = field(default_factory=dict)


def score_classification(train: Tensor, test: Tensor, data: Classification, seed: int) -> LayerScore:
    """Accuracy of logistic regression on pooled features (N, D), its penalty chosen on held-out items; and k-NN."""
    classes = len(data.class_names)
    labels = {"true": data.train.labels, "shuffled": data.train.labels[_order(len(train), seed)]}
    truth = torch.from_numpy(data.test.labels)
    chance = 100.0 / classes

    def accuracy(scores: Tensor) -> Score:
        hits: FloatArray = (scores.argmax(dim=1) == truth).double().numpy()
        return Score.mean(hits, seed=seed, chance=chance)

    def probed(kind: str) -> Score:
        fit = sweep_logistic(train, torch.from_numpy(labels[kind]), classes, penalties=_PENALTIES, seed=seed)
        return accuracy(fit.classifier(test))

    nearest = nearest_neighbour_scores(train, torch.from_numpy(labels["true"]), test, classes)
    return LayerScore(probed("true"), probed("shuffled"), {"k-NN accuracy": accuracy(nearest)})


def score_retrieval(queries: Tensor, gallery: Tensor, seed: int) -> LayerScore:
    """Recall at 1 and 5 of the changed pictures (N, D) among the unchanged ones (N, D), by cosine."""
    scores = F.normalize(queries, dim=-1) @ F.normalize(gallery, dim=-1).T
    truth = torch.arange(len(scores))
    chance = 100.0 / len(scores)

    def hits(right: Tensor, k: int) -> FloatArray:
        found = scores.topk(min(k, len(scores)), dim=1).indices
        return (found == right[:, None]).any(dim=1).double().numpy()

    shuffled = torch.from_numpy(np.random.default_rng(seed).permutation(len(scores)))
    return LayerScore(
        Score.mean(hits(truth, 1), seed=seed, chance=chance),
        Score.mean(hits(shuffled, 1), seed=seed, chance=chance),
        {"recall at 5": Score.mean(hits(truth, 5), seed=seed, chance=5 * chance)},
    )


def score_segmentation(train: Tensor, test: Tensor, data: Segmentation, training: HeadTraining) -> LayerScore:
    """mIoU of a linear head over patch features (N, R, C, D), counts summed over the test set."""
    classes = len(data.class_names)
    masks, truth = data.train.truth.astype(np.uint8), data.test.truth.astype(np.uint8)

    def measure(train_masks: NDArray[np.uint8]) -> FloatArray:
        head = fit_segmentation(train, train_masks, classes, training)
        return _confusions(head, test, truth, classes)

    counts = measure(masks)
    ious = class_ious(counts.sum(axis=0))
    shuffled = measure(masks[_order(len(masks), training.seed)])
    return LayerScore(
        _summed(counts, training.seed),
        _summed(shuffled, training.seed),
        {
            "background IoU": Score(100.0 * float(ious[0])),
            "pixel accuracy": Score(100.0 * float(pixel_accuracy(counts.sum(axis=0)))),
        },
    )


def score_depth(train: Tensor, test: Tensor, data: Depth, training: HeadTraining) -> LayerScore:
    """RMSE (lower is better) and the share of pixels within a factor of 1.25, of a linear head over depth bins."""
    depths, truth = data.train.truth.astype(np.float32), data.test.truth.astype(np.float32)
    size = (truth.shape[1], truth.shape[2])

    def measure(train_depths: NDArray[np.float32]) -> NDArray[np.float32]:
        return predict_depths(fit_depth(train, train_depths, training), test, size)

    predicted = measure(depths)
    scores = depth_scores(predicted, truth)
    return LayerScore(
        _rmse(predicted, truth, training.seed),
        _rmse(measure(depths[_order(len(depths), training.seed)]), truth, training.seed),
        {"delta 1.25": Score(100.0 * scores.delta1), "relative error": Score(scores.relative_error)},
    )


def depth_of_nothing(data: Depth) -> float:
    """RMSE of the training set's mean depth: what a head without any feature reaches."""
    known = [_valid(dense) for dense in (data.train, data.test)]
    return float(np.sqrt(np.mean((known[1] - known[0].mean()) ** 2)))


@dataclass(frozen=True)
class TrackedClip:
    """One layer on one clip: each object's J and F, with the frames' patches shuffled, and with the true masks merely
    brought to the patch grid and back (`coarse`: what this grid allows)."""

    objects: tuple[ObjectScore, ...]
    control: tuple[ObjectScore, ...]
    coarse: tuple[ObjectScore, ...]


def track(features: Tensor, clip: VideoMasks, settings: Propagation, seed: int) -> TrackedClip:
    """Label propagation through patch features (F, R, C, D)."""
    rows, columns = features.shape[1], features.shape[2]
    rng = np.random.default_rng(seed)
    places = torch.stack([torch.from_numpy(rng.permutation(rows * columns)) for _ in range(len(features))])
    places[0] = torch.arange(rows * columns)
    flat = features.flatten(1, 2)
    shuffled = flat.gather(1, places[..., None].expand_as(flat)).unflatten(1, (rows, columns))
    found = [propagate(frames, clip.masks[0], settings) for frames in (features, shuffled)]
    coarse = coarse_masks(clip.masks, (rows, columns))
    return TrackedClip(*(video_object_scores(masks, clip.masks) for masks in (*found, coarse)))


def j_and_f(objects: Sequence[ObjectScore], seed: int) -> Score:
    """Mean J&F over objects, percent."""
    return Score.mean([one.mean for one in objects], seed=seed)


def _order(count: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, count]).permutation(count)


def _confusions(head: PatchHead, features: Tensor, truth: NDArray[np.uint8], classes: int) -> FloatArray:
    """(N, K, K) counts, picture by picture."""
    size = (truth.shape[1], truth.shape[2])
    counts = np.zeros((len(truth), classes, classes))
    for start in range(0, len(truth), _PREDICTED_AT_ONCE):
        part = features[start : start + _PREDICTED_AT_ONCE]
        for index, predicted in enumerate(predict_masks(head, part, size), start):
            counts[index] = confusion_counts(predicted, truth[index], classes, ignore_label=VOID)
    return counts


def _summed(counts: FloatArray, seed: int) -> Score:
    return Score.of(bootstrap_sums(counts, mean_iou, resampling=Resampling(num_resamples=200, seed=seed)))


def _rmse(predicted: NDArray[np.float32], truth: NDArray[np.float32], seed: int) -> Score:
    valid = np.isfinite(truth) & (truth > 0)
    errors = np.where(valid, predicted - np.where(valid, truth, 0.0), 0.0) ** 2
    sums = np.stack([errors.sum(axis=(1, 2)), valid.sum(axis=(1, 2))], axis=1)
    interval = bootstrap_sums(
        sums, lambda total: np.sqrt(total[..., 0] / total[..., 1]), resampling=Resampling(seed=seed)
    )
    return Score.of(interval, scale=1.0)


def _valid(dense: Dense) -> NDArray[np.float32]:
    truth = dense.truth.astype(np.float32)
    return truth[np.isfinite(truth) & (truth > 0)]
