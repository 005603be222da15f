"""Any Pillow mode to 8-bit RGB, without the clipping that a plain `convert("RGB")` does to deep pictures."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

# Integers of more than 8 bits: Pillow opens 16-bit greyscale files in one of these, by format and version.
_INTEGER_MODES = frozenset({"I", "I;16", "I;16L", "I;16B", "I;16N"})
_SIXTEEN_BIT_WHITE = 65535


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB.

    - Alpha is dropped, not blended: a transparent pixel keeps the colour stored under it, as the encoder's original
      preprocessing does (perception-encoder spec 4).
    - Palette entries become their colours; 1-bit becomes black and white; greyscale is repeated three times.
    - CMYK, YCbCr, LAB and HSV go through Pillow's own formulas; embedded colour profiles are ignored.
    - 16-bit greyscale is scaled by 255/65535 and rounded. 32-bit integers that fit in 16 bits are read as such;
      others, and floats outside [0, 1], are stretched from their smallest and largest value to [0, 255].
    """
    if image.mode == "RGB":
        return image
    if image.mode in _INTEGER_MODES:
        return _from_levels(_integer_levels(np.asarray(image)))
    if image.mode == "F":
        return _from_levels(_float_levels(np.asarray(image)))
    if image.mode in ("P", "PA"):
        # By way of RGBA: a palette with one alpha per entry makes a direct conversion warn.
        image = image.convert("RGBA")
    return image.convert("RGB")


def _integer_levels(values: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    wide = values.astype(np.int64)
    low, high = int(wide.min(initial=0)), int(wide.max(initial=0))
    if low >= 0 and high <= _SIXTEEN_BIT_WHITE:
        return ((wide * 255 + _SIXTEEN_BIT_WHITE // 2) // _SIXTEEN_BIT_WHITE).astype(np.uint8)
    return _stretched(wide.astype(np.float64))


def _float_levels(values: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    finite = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    if finite.min(initial=0.0) >= 0.0 and finite.max(initial=0.0) <= 1.0:
        return np.rint(finite * 255).astype(np.uint8)
    return _stretched(finite)


def _stretched(values: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    low, high = float(values.min()), float(values.max())
    return np.rint((values - low) * (255 / max(high - low, 1e-300))).astype(np.uint8)


def _from_levels(levels: npt.NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(levels).convert("RGB")
