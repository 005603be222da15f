"""Linear heads on frozen patch features: segmentation and depth (training-recipes 3.1, datasets-and-benchmarks 4.1).

A head is batch normalisation and one linear layer, applied to every patch alike; its output is upsampled bilinearly to
the truth's size before it is scored. It is fitted on the patches' own grid: the target of a patch is the share of its
pixels in each class (or their mean depth), which is what the pixel loss comes to when a patch's output covers its
pixels alike. That costs a patch's area less than upsampling in every step.

Shapes: N pictures, R, C rows and columns of patches, D feature size, H, W pixels of the truth, K classes or bins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from perceptic.errors import ConfigError, DataError

VOID = 255
"""Pixels with this label are not in any class: neither trained on nor scored (ADE20K's convention)."""
_PICTURES_AT_ONCE = 32


@dataclass(frozen=True)
class HeadTraining:
    """How a head is fitted: AdamW as in the papers (lr 1e-3), cosine to zero."""

    steps: int = 600
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    num_bins: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.batch_size, self.num_bins) < 1 or self.learning_rate <= 0:
            raise ConfigError("steps, batch_size, num_bins and learning_rate must be above 0")


class PatchHead(nn.Module):
    """Batch normalisation and a linear layer over patch features: (N, R, C, D) to (N, R, C, K)."""

    def __init__(self, width: int, num_outputs: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        self.linear = nn.Linear(width, num_outputs)
        # Zero: all classes alike at first, so that nothing but the data decides.
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x_NRCD: Tensor) -> Tensor:
        normed: Tensor = self.norm(x_NRCD.flatten(0, 2))
        return self.linear(normed).unflatten(0, x_NRCD.shape[:3])  # type: ignore[no-any-return]


@dataclass(frozen=True)
class DepthHead:
    """A head whose outputs are scores of depth bins; the depth is their expected value. `centres` (K,)."""

    head: PatchHead
    centres: Tensor


def fit_segmentation(
    features: Tensor, masks: NDArray[np.integer], num_classes: int, training: HeadTraining | None = None
) -> PatchHead:
    """A head that tells classes apart.

    Args:
        features: (N, R, C, D), any float type. masks: (N, H, W) classes in [0, num_classes) or VOID.

    Raises:
        DataError: labels out of range, no labelled pixel, or as many masks as features do not match.
    """
    _check_pairs(features, masks, "masks")
    labelled = masks[masks != VOID]
    if labelled.size == 0:
        raise DataError("masks: expected labelled pixels, found only void")
    if int(labelled.min()) < 0 or int(labelled.max()) >= num_classes:
        raise DataError(f"masks: expected classes 0 to {num_classes - 1} or {VOID}, found {int(labelled.max())}")
    grid = (features.shape[1], features.shape[2])
    shares = torch.cat([class_shares(masks[i : i + 8], num_classes, grid) for i in range(0, len(masks), 8)])

    def loss(logits_NRCK: Tensor, rows: Tensor) -> Tensor:
        target = shares[rows]
        # Void pixels make a patch count less: its shares sum to less than one.
        return -(target * logits_NRCK.log_softmax(dim=-1)).sum() / target.sum().clamp_min(1e-6)

    return _fit(PatchHead(features.shape[-1], num_classes), features, loss, training or HeadTraining())


def class_shares(masks: NDArray[np.integer], num_classes: int, grid: tuple[int, int]) -> Tensor:
    """(N, R, C, K): the share of each patch's pixels in each class; void pixels are in none."""
    labels = torch.from_numpy(masks.astype(np.int64))
    one_hot = F.one_hot(labels.clamp(max=num_classes), num_classes + 1)[..., :num_classes]
    return F.adaptive_avg_pool2d(one_hot.permute(0, 3, 1, 2).float(), grid).permute(0, 2, 3, 1)


@torch.inference_mode()
def predict_masks(head: PatchHead, features: Tensor, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The likeliest class of every pixel, (N, H, W), after bilinear upsampling of the class scores."""
    parts = [_upsampled(head(part.float()), size).argmax(dim=1) for part in features.split(_PICTURES_AT_ONCE)]
    return torch.cat(parts).to(torch.uint8).numpy()


def fit_depth(
    features: Tensor,
    depths: NDArray[np.floating],
    training: HeadTraining | None = None,
    is_valid: NDArray[np.bool_] | None = None,
) -> DepthHead:
    """A head that tells depth: scores of bins between the nearest and the farthest depth, least squares.

    Args:
        features: (N, R, C, D). depths: (N, H, W) in any unit. is_valid: (N, H, W); default: finite and above 0.

    Raises:
        DataError: no valid depth, or numbers of pictures that differ.
    """
    _check_pairs(features, depths, "depths")
    valid = np.isfinite(depths) & (depths > 0) if is_valid is None else is_valid
    if not valid.any():
        raise DataError("depths: expected a valid depth (finite, above 0), found none")
    chosen = training or HeadTraining()
    low, high = float(depths[valid].min()), float(depths[valid].max())
    centres = torch.linspace(low, high, chosen.num_bins)
    grid = (features.shape[1], features.shape[2])
    weight = F.adaptive_avg_pool2d(torch.from_numpy(valid.astype(np.float32)), grid)
    known = torch.from_numpy(np.where(valid, depths, 0.0).astype(np.float32))
    target = F.adaptive_avg_pool2d(known, grid) / weight.clamp_min(1e-6)

    def loss(scores_NRCK: Tensor, rows: Tensor) -> Tensor:
        error = (scores_NRCK.softmax(dim=-1) @ centres - target[rows]).square()
        return (error * weight[rows]).sum() / weight[rows].sum().clamp_min(1e-6)

    return DepthHead(_fit(PatchHead(features.shape[-1], chosen.num_bins), features, loss, chosen), centres)


@torch.inference_mode()
def predict_depths(head: DepthHead, features: Tensor, size: tuple[int, int]) -> NDArray[np.float32]:
    """The depth of every pixel, (N, H, W), in the unit the head was fitted with."""
    parts = []
    for part in features.split(_PICTURES_AT_ONCE):
        depth = head.head(part.float()).softmax(dim=-1) @ head.centres
        parts.append(_upsampled(depth[..., None], size)[:, 0])
    return torch.cat(parts).numpy()


def _fit(
    head: PatchHead, features: Tensor, loss_of: Callable[[Tensor, Tensor], Tensor], training: HeadTraining
) -> PatchHead:
    """`loss_of(outputs, rows)` of the pictures `rows`; the head comes back in eval mode."""
    optimizer = torch.optim.AdamW(head.parameters(), training.learning_rate, weight_decay=training.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, training.steps)
    order = torch.Generator().manual_seed(training.seed)
    head.train()
    with torch.enable_grad():
        for _ in range(training.steps):
            rows = torch.randint(len(features), (min(training.batch_size, len(features)),), generator=order)
            loss = loss_of(head(features[rows].float()), rows)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
    return head.eval()


def _upsampled(maps_NRCK: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, R, C, K) to (N, K, H, W)."""
    return F.interpolate(maps_NRCK.permute(0, 3, 1, 2), size=size, mode="bilinear", align_corners=False)


def _check_pairs(features: Tensor, truths: NDArray[np.generic], name: str) -> None:
    if features.ndim != 4:
        raise DataError(f"features: expected (pictures, rows, columns, size), got shape {tuple(features.shape)}")
    if truths.ndim != 3 or len(truths) != len(features):
        raise DataError(f"{name}: expected ({len(features)}, height, width), got shape {truths.shape}")
