"""The papers' augmentation on decoded pixels: random crop, brightness and saturation jitter, horizontal flip.

Crops may cut away what a caption names, jitter may turn one named colour into another: both are bounded by the recipe
(training-recipes 1.7 for the papers' values; a world of exact captions takes milder ones).

Shapes: B batch, F frames, H/W pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """How samples are varied.

    Attributes:
        crop_scale: smallest and largest share of the area that a crop keeps.
        crop_ratio: smallest and largest width-to-height ratio of a crop.
        crop_share: share of samples that are cropped at all.
        brightness: half-width of the factor around 1. saturation: likewise.
        flip_share: share of flip-safe samples that are mirrored (their captions with them).
    """

    crop_scale: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (0.75, 1.3333333)
    crop_share: float = 1.0
    brightness: float = 0.32
    saturation: float = 0.32
    flip_share: float = 0.5


def augment(
    pixels_BFCHW: NDArray[np.uint8],
    flips_B: NDArray[np.bool_],
    image_size: int,
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> Tensor:
    """uint8 (B, F, 3, H, W) to float32 in [-1, 1], (B, F, 3, image_size, image_size). A clip's frames vary together."""
    crops = [_crop(clip, image_size, augmentation, rng) for clip in pixels_BFCHW]
    x = torch.stack(crops)
    x = torch.where(torch.from_numpy(flips_B)[:, None, None, None, None], x.flip(-1), x)
    x = x * _factors(augmentation.brightness, len(x), rng)
    # Rec. 601 luma, as torchvision and Pillow mix colours for saturation.
    grey = (x * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=2, keepdim=True)
    x = torch.lerp(grey.expand_as(x), x, _factors(augmentation.saturation, len(x), rng))
    return _to_unit_range(x.clamp_(0.0, 255.0))


def plain(pixels_BFCHW: NDArray[np.uint8], image_size: int) -> Tensor:
    """As `augment` without any variation: an antialiased squash alone."""
    batch, frames = pixels_BFCHW.shape[:2]
    x = _resize(torch.from_numpy(np.array(pixels_BFCHW)).flatten(0, 1), image_size)
    return _to_unit_range(x.reshape(batch, frames, *x.shape[1:]))


def _crop(clip: NDArray[np.uint8], image_size: int, augmentation: Augmentation, rng: np.random.Generator) -> Tensor:
    height, width = clip.shape[-2:]
    top, left, rows, columns = 0, 0, height, width
    if rng.random() < augmentation.crop_share:
        area = rng.uniform(*augmentation.crop_scale) * height * width
        narrowest, widest = augmentation.crop_ratio
        ratio = math.exp(rng.uniform(math.log(narrowest), math.log(widest)))
        rows = min(height, max(1, round(math.sqrt(area / ratio))))
        columns = min(width, max(1, round(math.sqrt(area * ratio))))
        top = int(rng.integers(height - rows + 1))
        left = int(rng.integers(width - columns + 1))
    window = np.array(clip[:, :, top : top + rows, left : left + columns])
    return _resize(torch.from_numpy(window), image_size)


def _resize(pixels_FCHW: Tensor, image_size: int) -> Tensor:
    x = pixels_FCHW.float()
    if x.shape[-2:] == (image_size, image_size):
        return x
    return F.interpolate(x, size=(image_size, image_size), mode="bilinear", antialias=True)


def _to_unit_range(levels: Tensor) -> Tensor:
    return levels.div_(127.5).sub_(1.0)


def _factors(half_width: float, count: int, rng: np.random.Generator) -> Tensor:
    factors = rng.uniform(1.0 - half_width, 1.0 + half_width, count).astype(np.float32)
    return torch.from_numpy(factors)[:, None, None, None, None]
