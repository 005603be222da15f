"""Brightness, contrast, saturation and hue of whole samples, with torchvision's and Pillow's meaning of the factors.

Order: brightness, contrast, saturation, hue; levels are cut to 0..255 once, at the end.

Shapes: B batch, F frames, C the three channels, H/W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_LUMA = (0.299, 0.587, 0.114)
"""Rec. 601, as torchvision and Pillow mix colours to grey."""


@dataclass(frozen=True)
class Jitter:
    """Factors around 1 of one sample, and its turn of the colour circle in turns."""

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0


def jitter(levels_BFCHW: Tensor, jitters: Sequence[Jitter]) -> Tensor:
    """Change B samples, each by its own jitter and a clip's frames alike.

    Args:
        levels_BFCHW: RGB levels, float in 0..255. jitters: B of them.
    """
    x = levels_BFCHW
    # Neutral factors are left out, so that an option that is off costs nothing.
    if any(item.brightness != 1.0 for item in jitters):
        x = x * _column(x, [item.brightness for item in jitters])
    if any(item.contrast != 1.0 for item in jitters):
        mean = grey_levels(x).mean(dim=(1, 2, 3, 4), keepdim=True)
        x = torch.lerp(mean.expand_as(x), x, _column(x, [item.contrast for item in jitters]))
    if any(item.saturation != 1.0 for item in jitters):
        x = torch.lerp(grey_levels(x).expand_as(x), x, _column(x, [item.saturation for item in jitters]))
    if any(item.hue != 0.0 for item in jitters):
        x = _turn_hue(x, _column(x, [item.hue for item in jitters]))
    return x.clamp(0.0, 255.0)


def grey_levels(x_BFCHW: Tensor) -> Tensor:
    """Luma, (B, F, 1, H, W)."""
    return (x_BFCHW * x_BFCHW.new_tensor(_LUMA)[:, None, None]).sum(dim=2, keepdim=True)


def _turn_hue(x_BFCHW: Tensor, turns: Tensor) -> Tensor:
    """Turn colours about the grey axis; luma stays, so a hue change is no brightness change.

    A turn in the plane of chroma (YIQ) instead of the corners of HSV: linear, so it is one small matrix per sample.
    """
    to_yiq = x_BFCHW.new_tensor([_LUMA, (0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135)])
    angle = turns.flatten() * (2.0 * math.pi)
    matrix = torch.zeros(len(angle), 3, 3, dtype=x_BFCHW.dtype)
    matrix[:, 0, 0] = 1.0
    matrix[:, 1, 1] = matrix[:, 2, 2] = angle.cos()
    matrix[:, 1, 2] = -angle.sin()
    matrix[:, 2, 1] = angle.sin()
    turned = torch.linalg.inv(to_yiq) @ matrix @ to_yiq
    return torch.einsum("bij,bfjhw->bfihw", turned, x_BFCHW)


def _column(x: Tensor, values: list[float]) -> Tensor:
    return x.new_tensor(values)[:, None, None, None, None]
