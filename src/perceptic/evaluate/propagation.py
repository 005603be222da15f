"""Tracking without training: labels of the first frame handed on from patch to like patch (DAVIS protocol).

The mask of the first frame is given. Every patch of a later frame takes the labels of the patches most like it among
the first frame and the last few, weighted by likeness (datasets-and-benchmarks 4.1; the procedure and its defaults are
those of A. Jabri et al., Space-Time Correspondence as a Contrastive Random Walk, 2020, as DINO's evaluation uses them).

Shapes: F frames, R, C rows and columns of patches, P = R*C patches, D feature size, O objects and the background,
H, W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from perceptic.errors import ConfigError, DataError

Mask = NDArray[np.uint8]


@dataclass(frozen=True)
class Propagation:
    """How labels are handed on.

    Attributes:
        num_context: previous frames that are looked at, besides the first one.
        num_neighbours: patches whose labels are averaged. temperature: likeness counts as exp(cosine / temperature).
        radius: how far, in patches along each axis, a label may come from.
    """

    num_context: int = 7
    num_neighbours: int = 5
    temperature: float = 0.1
    radius: int = 12

    def __post_init__(self) -> None:
        if self.num_context < 0 or self.num_neighbours < 1 or self.radius < 0 or self.temperature <= 0:
            raise ConfigError(
                f"num_context and radius must be at least 0, num_neighbours at least 1, temperature above 0: {self}"
            )


@torch.inference_mode()
def propagate(features: Tensor, first_mask: Mask, settings: Propagation | None = None) -> Mask:
    """Object numbers of every pixel of every frame, (F, H, W); the first frame is the given mask.

    Args:
        features: (F, R, C, D) patch features of the frames; their length does not matter.
        first_mask: (H, W) object numbers, 0 for the background.

    Raises:
        DataError: no object in the mask, or features of another shape.
    """
    chosen = settings or Propagation()
    if features.ndim != 4 or not len(features):
        raise DataError(f"features: expected (frames, rows, columns, size), got shape {tuple(features.shape)}")
    objects = [0, *sorted(set(first_mask[first_mask > 0].tolist()))]
    if len(objects) == 1:
        raise DataError("first_mask: expected an object, found only background")
    units_FPD = F.normalize(features.float(), dim=-1).flatten(1, 2)
    grid = (features.shape[1], features.shape[2])
    labels_PO = _patch_labels(first_mask, objects, grid)
    masks = [first_mask]
    for soft_PO in _walk(units_FPD, labels_PO, grid, chosen):
        masks.append(_pixels(soft_PO, objects, grid, first_mask.shape))
    return np.stack(masks)


def coarse_masks(masks: Mask, grid: tuple[int, int]) -> Mask:
    """Masks (F, H, W) brought to a grid of patches and back: what no tracker on that grid can exceed by much."""
    objects = sorted({0, *np.unique(masks).tolist()})
    shape = (masks.shape[1], masks.shape[2])
    return np.stack([_pixels(_patch_labels(mask, objects, grid), objects, grid, shape) for mask in masks])


def _walk(units_FPD: Tensor, labels_PO: Tensor, grid: tuple[int, int], settings: Propagation) -> Iterator[Tensor]:
    """Soft labels (P, O) of frames 1, 2, ... in turn."""
    near_PP = _neighbourhood(grid, settings.radius)
    known = {0: labels_PO}
    for frame in range(1, len(units_FPD)):
        context = sorted({0, *range(max(0, frame - settings.num_context), frame)})
        soft_PO = _hand_on(units_FPD[frame], [(units_FPD[i], known[i]) for i in context], near_PP, settings)
        known[frame] = soft_PO
        yield soft_PO


def _hand_on(target_PD: Tensor, context: list[tuple[Tensor, Tensor]], near_PP: Tensor, settings: Propagation) -> Tensor:
    """Labels (P, O) for a frame from the frames and labels of its context."""
    likeness, sources = [], []
    for place, (source_PD, _) in enumerate(context):
        cosines_PP = (target_PD @ source_PD.T).masked_fill(~near_PP, -torch.inf)
        # The best of all frames are among the best of each: one frame's affinities are held at a time.
        best = cosines_PP.topk(min(settings.num_neighbours, len(source_PD)), dim=1)
        likeness.append(best.values)
        sources.append(best.indices + place * len(source_PD))
    best_of_all = torch.cat(likeness, dim=1).topk(min(settings.num_neighbours, len(near_PP)), dim=1)
    chosen_PK = torch.cat(sources, dim=1).gather(1, best_of_all.indices)
    weights_PK = (best_of_all.values / settings.temperature).softmax(dim=1)
    labels_MO = torch.cat([labels for _, labels in context])
    return (weights_PK[..., None] * labels_MO[chosen_PK]).sum(dim=1)


def _neighbourhood(grid: tuple[int, int], radius: int) -> Tensor:
    """(P, P) booleans: whether two patches lie within `radius` of each other along both axes."""
    row, column = (axis.flatten() for axis in torch.meshgrid(*(torch.arange(n) for n in grid), indexing="ij"))
    far_down = (row[:, None] - row[None]).abs() > radius
    far_across = (column[:, None] - column[None]).abs() > radius
    return ~(far_down | far_across)


def _patch_labels(mask: Mask, objects: list[int], grid: tuple[int, int]) -> Tensor:
    """(P, O): the share of each patch that each object covers."""
    one_hot = np.stack([mask == number for number in objects]).astype(np.float32)
    shares_ORC = F.adaptive_avg_pool2d(torch.from_numpy(one_hot), grid)
    return shares_ORC.flatten(1).T.contiguous()


def _pixels(soft_PO: Tensor, objects: list[int], grid: tuple[int, int], size: tuple[int, ...]) -> Mask:
    """Soft patch labels to object numbers (H, W): upsampled bilinearly, then the strongest."""
    maps_1ORC = soft_PO.T.unflatten(1, grid)[None]
    strongest = F.interpolate(maps_1ORC, size=size[-2:], mode="bilinear", align_corners=False)[0].argmax(dim=0)
    numbers: Mask = np.asarray(objects, dtype=np.uint8)[strongest.numpy()]
    return numbers
