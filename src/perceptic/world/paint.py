"""Colours, textures and background patterns as arithmetic on coordinates.

As in `shapes`, only exactly defined operations touch arrays, so that pixels do not depend on the machine.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from perceptic.world.scene import Background, SceneObject, Style
from perceptic.world.vocabulary import BACKGROUND_COLOURS, COLOURS

Array = NDArray[np.float64]

SWAPPED_COLOURS: Final = {
    "red": (172, 12, 60),
    "orange": (240, 112, 52),
    "yellow": (216, 192, 24),
    "green": (98, 188, 78),
    "cyan": (24, 176, 186),
    "blue": (86, 130, 240),
    "purple": (170, 98, 216),
    "pink": (234, 96, 158),
    "brown": (150, 98, 60),
    "black": (46, 42, 50),
    "grey": (106, 116, 128),
    "white": (230, 228, 214),
}
"""Other shades that still deserve the same names; out-of-distribution variant "palette_swap" only."""

_LIGHT = 140.0
_HAZE = 0.14


def object_colours(item: SceneObject, style: Style, haze: Array) -> tuple[Array, Array]:
    """Base and texture colour of an object, RGB in [0, 255]; far objects are mixed with `haze`, the depth cue."""
    palette = SWAPPED_COLOURS if style.palette == "swapped" else COLOURS
    base = np.array(palette[item.colour], dtype=np.float64)
    if item.next_colour:
        # Rounded: played backwards, the same mixture must not differ in its last bit.
        base = np.round(base + item.colour_change * (np.array(palette[item.next_colour]) - base), 3)
    if style.confusable:
        base = base + style.confusable * (np.array(COLOURS[nearest_colour(item.colour)]) - base)
    base = np.clip(base + item.tint, 0.0, 255.0)
    second = base * 0.38 if _luma(base) > _LIGHT else base + 0.62 * (255.0 - base)
    if style.palette == "swapped":
        second = second[[2, 0, 1]]
    share = _HAZE * item.depth
    return base + share * (haze - base), second + share * (haze - second)


def contrast_colour(colour: Array) -> Array:
    """Black or white, whichever reads better on `colour`."""
    return np.full(3, 12.0) if _luma(colour) > _LIGHT - 20 else np.full(3, 250.0)


@lru_cache(maxsize=64)
def nearest_colour(colour: str) -> str:
    """The other colour name whose standard value is closest in RGB."""
    here = COLOURS[colour]
    others = [name for name in COLOURS if name != colour]
    return min(others, key=lambda name: sum((a - b) ** 2 for a, b in zip(here, COLOURS[name], strict=True)))


def texture_share(texture: str, x: Array, y: Array, distance: Array, radius: float, scale: float) -> Array:
    """Share of the second colour per pixel, in [0, 1].

    Args:
        texture: a name from TEXTURES other than "solid".
        x, y, distance: position and outline distance in units of the radius.
        radius: the object's radius in unit coordinates.
        scale: pixels per radius.
    """
    # Large objects get a larger pattern, but not in proportion: small ones keep at least 4 pixels at 64.
    period = (0.035 + 0.25 * radius) / radius
    if texture == "striped":
        return _stripes((x + y) * 0.70710678, period, scale)
    if texture == "dotted":
        return _dots(x, y, period * 1.1, scale)
    if texture == "checkered":
        return _checks(x, y, period * 1.5, scale)
    if texture == "shaded":
        return np.clip(0.5 + 0.55 * y, 0.0, 1.0) * 0.8
    width = max(0.13 * scale, 1.4)
    return np.clip(distance * scale + width + 0.5, 0.0, 1.0)


@lru_cache(maxsize=64)
def background_pixels(background: Background, size: int) -> Array:
    """The background, (size, size, 3) in [0, 255]. Cached and read-only: every frame of a clip shares it."""
    axis = (np.arange(size) + 0.5) / size
    first = np.array(BACKGROUND_COLOURS[background.colour], dtype=np.float64)
    second = np.array(BACKGROUND_COLOURS[background.second_colour], dtype=np.float64)
    share = _BACKGROUNDS[background.pattern](axis[None, :], axis[:, None], background.phase, size)
    pixels = first + np.broadcast_to(share, (size, size))[..., None] * (second - first)
    if background.mirrored:
        pixels = pixels[:, ::-1]
    pixels.setflags(write=False)
    return pixels


def background_mean(background: Background) -> Array:
    """The colour that haze takes: that of the background's main colour."""
    return np.array(BACKGROUND_COLOURS[background.colour], dtype=np.float64)


def _luma(colour: Array) -> float:
    return 0.299 * float(colour[0]) + 0.587 * float(colour[1]) + 0.114 * float(colour[2])


def _fold(position: Array) -> Array:
    """Triangle wave of period 1: distance to the middle of the period, 0 to 0.5."""
    return np.abs(position - np.floor(position) - 0.5)


def _stripes(along: Array, period: float, scale: float) -> Array:
    return np.clip((0.23 - _fold(along / period)) * (period * scale) + 0.5, 0.0, 1.0)


def _dots(x: Array, y: Array, period: float, scale: float) -> Array:
    across, down = _fold(x / period), _fold(y / period)
    return np.clip((0.3 - np.sqrt(across * across + down * down)) * (period * scale) + 0.5, 0.0, 1.0)


def _checks(x: Array, y: Array, period: float, scale: float) -> Array:
    sharpness = 2.0 * period * scale
    across = np.clip((_fold(x / period) - 0.25) * sharpness, -1.0, 1.0)
    down = np.clip((_fold(y / period) - 0.25) * sharpness, -1.0, 1.0)
    return 0.5 - 0.5 * across * down


def _plain(x: Array, y: Array, phase: float, size: int) -> Array:
    return np.zeros((1, 1))


def _gradient(x: Array, y: Array, phase: float, size: int) -> Array:
    along = x + 0.0 * y if phase < 0.5 else y + 0.0 * x
    return 0.75 * along


# Pattern contrast stays well below an object's, so that objects remain the figure.
def _wide_stripes(x: Array, y: Array, phase: float, size: int) -> Array:
    along = x + 0.0 * y if phase < 0.5 else y + 0.0 * x
    return 0.45 * _stripes(along + phase, 0.22, size)


def _wide_dots(x: Array, y: Array, phase: float, size: int) -> Array:
    return 0.45 * _dots(x + phase, y + phase, 0.2, size)


def _wide_checks(x: Array, y: Array, phase: float, size: int) -> Array:
    return 0.4 * _checks(x + phase, y + phase, 0.4, size)


def _bricks(x: Array, y: Array, phase: float, size: int) -> Array:
    row = np.floor(y / 0.16 + phase)
    odd = row - 2.0 * np.floor(row / 2.0)
    joint = np.maximum(_stripes(y / 0.16 + phase, 1.0, 0.16 * size), _stripes(x / 0.3 + 0.5 * odd, 1.0, 0.3 * size))
    return 0.5 * joint


def _ripples(x: Array, y: Array, phase: float, size: int) -> Array:
    across, down = x - phase, y - 0.4
    return 0.5 * _stripes(np.sqrt(across * across + down * down), 0.15, size)


def _zigzag(x: Array, y: Array, phase: float, size: int) -> Array:
    return 0.5 * _stripes(y + 0.35 * _fold(x / 0.24 + phase), 0.18, size)


_BACKGROUNDS: Final[dict[str, Callable[[Array, Array, float, int], Array]]] = {
    "plain": _plain,
    "gradient": _gradient,
    "striped": _wide_stripes,
    "dotted": _wide_dots,
    "checkered": _wide_checks,
    "bricks": _bricks,
    "ripples": _ripples,
    "zigzag": _zigzag,
}
