"""The papers' augmentation on decoded pixels: random crop, colour jitter, horizontal flip (training-recipes 1.4, 1.7).

Crops may cut away what a caption names, jitter may turn one named colour into another: both are bounded by the recipe
(the defaults are the papers' values; a world of exact captions takes milder ones).

Every sample has a random generator of its own, from which always the same number of values is drawn. So a sample looks
the same whatever else is in its batch or on its process, and changing one option leaves the others' draws alone.

Shapes: B batch, F frames, H/W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from perceptic.data.colour_jitter import Jitter, jitter
from perceptic.errors import ConfigError

_NUM_DRAWS = 9


@dataclass(frozen=True)
class Augmentation:
    """How samples are varied.

    Attributes:
        crop_scale: smallest and largest share of the area that a crop keeps, drawn evenly; a window that would leave
            the picture is cut at its edge, and keeps less.
        crop_ratio: smallest and largest width-to-height ratio of a crop.
        crop_share: share of samples that are cropped at all.
        brightness: half-width of the factor around 1. contrast, saturation: likewise.
        hue: largest turn of the colour circle either way, in turns (0.5 is the opposite colour). The papers tried hue
            and contrast and rejected both (1.5).
        flip_share: share of flip-safe samples that are mirrored (their captions with them).
        flip_unsafe: mirror samples, too, of which nobody knows whether their captions stay true; their words stay. The
            papers mirror everything.
    """

    crop_scale: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (0.75, 1.3333333)
    crop_share: float = 1.0
    brightness: float = 0.32
    saturation: float = 0.32
    flip_share: float = 0.5
    contrast: float = 0.0
    hue: float = 0.0
    flip_unsafe: bool = False

    def __post_init__(self) -> None:
        for name in ("crop_scale", "crop_ratio"):
            low, high = getattr(self, name)
            if not 0.0 < low <= high:
                raise ConfigError(f"augmentation.{name}: expected 0 < smallest <= largest, not {low} and {high}")
        if self.crop_scale[1] > 1.0:
            raise ConfigError(
                f"augmentation.crop_scale: a crop keeps at most 1.0 of the area, not {self.crop_scale[1]}"
            )
        for name, most in (
            ("crop_share", 1.0),
            ("flip_share", 1.0),
            ("brightness", 1.0),
            ("contrast", 1.0),
            ("saturation", 1.0),
            ("hue", 0.5),
        ):
            value = getattr(self, name)
            if not 0.0 <= value <= most:
                raise ConfigError(f"augmentation.{name}: expected 0 to {most}, not {value}")


NO_AUGMENTATION = Augmentation(crop_share=0.0, brightness=0.0, saturation=0.0, flip_share=0.0)
"""Pixels as they are; distillation takes this (1.7)."""


@dataclass(frozen=True)
class Window:
    """A rectangle of whole pixels inside a picture."""

    top: int
    left: int
    rows: int
    columns: int


@dataclass(frozen=True)
class Variation:
    """What is done to one sample, all frames alike."""

    window: Window
    jitter: Jitter


def augment(
    pixels: Iterable[NDArray[np.uint8]],
    flips_B: NDArray[np.bool_],
    image_size: int,
    augmentation: Augmentation,
    generators: Sequence[np.random.Generator],
) -> Tensor:
    """Varied samples of one size.

    Args:
        pixels: B samples, uint8 (F, 3, H, W); H and W may differ between samples.
        flips_B: which are mirrored.
        image_size: pixels a side of the result.
        generators: one per sample.

    Returns:
        float32 in [-1, 1], (B, F, 3, image_size, image_size).
    """
    windows: list[Tensor] = []
    jitters: list[Jitter] = []
    for clip, flipped, generator in zip(pixels, flips_B.tolist(), generators, strict=True):
        variation = draw_variation(augmentation, clip.shape[-2], clip.shape[-1], generator)
        x = _resized_window(clip, variation.window, image_size)
        windows.append(x.flip(-1) if flipped else x)
        jitters.append(variation.jitter)
    return _to_unit_range(jitter(torch.stack(windows), jitters))


def draw_variation(augmentation: Augmentation, height: int, width: int, generator: np.random.Generator) -> Variation:
    """The crop and the jitter of one sample of `height` x `width` pixels; always draws `_NUM_DRAWS` values."""
    cropped, area, ratio, top, left, *colours = generator.random(_NUM_DRAWS).tolist()
    window = Window(0, 0, height, width)
    if cropped < augmentation.crop_share:
        kept = _between(*augmentation.crop_scale, area) * height * width
        narrowest, widest = augmentation.crop_ratio
        aspect = math.exp(_between(math.log(narrowest), math.log(widest), ratio))
        rows = min(height, max(1, round(math.sqrt(kept / aspect))))
        columns = min(width, max(1, round(math.sqrt(kept * aspect))))
        window = Window(int(top * (height - rows + 1)), int(left * (width - columns + 1)), rows, columns)
    widths = (augmentation.brightness, augmentation.contrast, augmentation.saturation)
    brightness, contrast, saturation = (
        _between(1.0 - width, 1.0 + width, draw) for width, draw in zip(widths, colours[:3], strict=True)
    )
    return Variation(
        window, Jitter(brightness, contrast, saturation, _between(-augmentation.hue, augmentation.hue, colours[3]))
    )


def plain(pixels_BFCHW: NDArray[np.uint8], image_size: int) -> Tensor:
    """As `augment` without any variation: an antialiased squash alone."""
    batch, frames = pixels_BFCHW.shape[:2]
    x = resize(torch.from_numpy(np.array(pixels_BFCHW)).flatten(0, 1).float(), image_size)
    return _to_unit_range(x.reshape(batch, frames, *x.shape[1:]))


def resize(pixels_BCHW: Tensor, image_size: int) -> Tensor:
    """Antialiased bilinear squash of float pixels to `image_size` a side."""
    if pixels_BCHW.shape[-2:] == (image_size, image_size):
        return pixels_BCHW
    return F.interpolate(pixels_BCHW, size=(image_size, image_size), mode="bilinear", antialias=True)


def _resized_window(clip_FCHW: NDArray[np.uint8], window: Window, image_size: int) -> Tensor:
    rows = slice(window.top, window.top + window.rows)
    columns = slice(window.left, window.left + window.columns)
    return resize(torch.from_numpy(np.array(clip_FCHW[:, :, rows, columns])).float(), image_size)


def _to_unit_range(levels: Tensor) -> Tensor:
    return levels.div_(127.5).sub_(1.0)


def _between(low: float, high: float, share: float) -> float:
    return low + (high - low) * share
