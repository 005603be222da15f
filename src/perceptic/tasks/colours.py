"""Numbers to colours: a heat scale for one value, and LCh for three. Pure functions; RGB leaves as uint8."""

from __future__ import annotations

import torch
from torch import Tensor

# Dark violet over red to light yellow: lightness rises evenly, so it reads without colour too.
_HEAT = torch.tensor(
    [[0, 0, 4], [40, 11, 84], [101, 21, 110], [159, 42, 99],
     [212, 72, 66], [245, 125, 21], [250, 193, 39], [252, 255, 164]]
)  # fmt: skip

_D65_WHITE = torch.tensor([0.95047, 1.0, 1.08883])
_XYZ_TO_RGB = torch.tensor([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]])
_LIGHTNESS = (25.0, 90.0)
_MAX_CHROMA = 70.0


def heat(values: Tensor) -> Tensor:
    """(..., ) values in [0, 1] to (..., 3) uint8 RGB."""
    position = values.clamp(0, 1) * (len(_HEAT) - 1)
    lower = position.floor().long().clamp(max=len(_HEAT) - 2)
    share = (position - lower)[..., None]
    return (_HEAT[lower] * (1 - share) + _HEAT[lower + 1] * share).round().to(torch.uint8)


def components_to_lch(components: Tensor) -> Tensor:
    """(..., 3) components in [0, 1] to (..., 3) uint8 RGB through LCh.

    The first becomes lightness; the second and third, centred, are the plane whose radius is chroma and whose angle is
    hue. Equal distances between features thus look about equally different, which plain RGB does not give.
    """
    low, high = _LIGHTNESS
    lightness = low + (high - low) * components[..., 0]
    plane = (components[..., 1:] - 0.5) * 2
    chroma = plane.norm(dim=-1).clamp(max=1) * _MAX_CHROMA
    hue = torch.atan2(plane[..., 1], plane[..., 0])
    return lab_to_rgb(torch.stack([lightness, chroma * hue.cos(), chroma * hue.sin()], dim=-1))


def lab_to_rgb(lab: Tensor) -> Tensor:
    """(..., 3) CIE L*a*b* (D65) to (..., 3) uint8 sRGB; colours outside sRGB are clipped."""
    y = (lab[..., 0] + 16) / 116
    f = torch.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], dim=-1)
    xyz = torch.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * _D65_WHITE
    linear = (xyz @ _XYZ_TO_RGB.T).clamp(0, 1)
    rgb = torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (rgb * 255).round().to(torch.uint8)
