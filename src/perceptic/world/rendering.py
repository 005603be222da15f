"""Scenes to pixels, masks, depth and boxes: painter's algorithm over analytic, antialiased shapes.

Shape legend: H, W image size in pixels (H = W here), N objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from perceptic.errors import ConfigError
from perceptic.world.chart_render import draw_chart
from perceptic.world.font import GLYPH_HEIGHT, draw_ink, text_coverage
from perceptic.world.paint import (
    background_mean,
    background_pixels,
    contrast_colour,
    object_colours,
    texture_share,
)
from perceptic.world.randomness import cos_sin
from perceptic.world.scene import Scene, SceneObject, Sign, Style
from perceptic.world.shapes import shape_distance

Array = NDArray[np.float64]

CONFUSABLE_SHAPES: Final = {
    "circle": "hexagon", "hexagon": "circle", "square": "diamond", "diamond": "square", "triangle": "house",
    "house": "triangle", "star": "flower", "flower": "star", "heart": "drop", "drop": "heart", "cross": "star",
    "crescent": "ring", "ring": "crescent", "arrow": "triangle", "bolt": "hourglass", "hourglass": "bolt",
}  # fmt: skip

BACKGROUND_DEPTH: Final = 1.0
SIGN_HEIGHT: Final = 0.23
"""Height of a sign's panel; objects keep out of it."""
_SIGN_TEXT: Final = 0.17
_REACH = 1.12

# Where the middle of a shape's body is, in radii below its centre: text goes there.
_TEXT_ANCHOR = {"triangle": 0.25, "house": 0.2, "drop": 0.36, "heart": -0.1}


@dataclass(frozen=True, slots=True)
class Box:
    """Pixel rectangle: left and top inclusive, right and bottom exclusive."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def xyxy(self) -> tuple[int, int, int, int]:
        return self.left, self.top, self.right, self.bottom

    @property
    def xywh(self) -> tuple[int, int, int, int]:
        return self.left, self.top, self.right - self.left, self.bottom - self.top


@dataclass(frozen=True, slots=True)
class Rendered:
    """A picture with its exact annotations. A pixel belongs to an object when at least half of it is covered.

    pixels (H, W, 3) uint8 RGB; owners (H, W) int16, index of the visible object or -1; amodal_masks (N, H, W) bool,
    as if nothing were in front; depth (H, W) float32, 0 near to 1 (the background); boxes of the visible part and
    amodal_boxes of the whole object inside the frame, None where there is none.
    """

    pixels: NDArray[np.uint8]
    owners: NDArray[np.int16]
    amodal_masks: NDArray[np.bool_]
    depth: NDArray[np.float32]
    boxes: tuple[Box | None, ...]
    amodal_boxes: tuple[Box | None, ...]

    @property
    def masks(self) -> NDArray[np.bool_]:
        """Visible masks (N, H, W) bool: disjoint; together with the background they cover every pixel once."""
        masks: NDArray[np.bool_] = self.owners[None] == np.arange(len(self.boxes), dtype=np.int16)[:, None, None]
        return masks


def render_pixels(scene: Scene, size: int) -> NDArray[np.uint8]:
    """The picture alone, (size, size, 3) uint8 RGB: the fast path for training.

    Raises:
        ConfigError: size below 16.
    """
    return _to_bytes(_paint(scene, size, None))


def render(scene: Scene, size: int) -> Rendered:
    """The picture with masks, depth and boxes. Raises ConfigError for a size below 16."""
    layers = _Layers.empty(len(scene.objects), size)
    pixels = _to_bytes(_paint(scene, size, layers))
    present = [layers.owners == index for index in range(len(scene.objects))]
    return Rendered(
        pixels=pixels,
        owners=layers.owners,
        amodal_masks=layers.amodal_masks,
        depth=layers.depth,
        boxes=tuple(mask_box(mask) for mask in present),
        amodal_boxes=tuple(mask_box(mask) for mask in layers.amodal_masks),
    )


def mask_box(mask: NDArray[np.bool_]) -> Box | None:
    """The tightest box around the True pixels of an (H, W) mask, None if there are none."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


@dataclass(slots=True)
class _Layers:
    owners: NDArray[np.int16]
    amodal_masks: NDArray[np.bool_]
    depth: NDArray[np.float32]

    @classmethod
    def empty(cls, count: int, size: int) -> _Layers:
        return cls(
            np.full((size, size), -1, dtype=np.int16),
            np.zeros((count, size, size), dtype=bool),
            np.full((size, size), BACKGROUND_DEPTH, dtype=np.float32),
        )

    def add(self, index: int, window: tuple[slice, slice], coverage: Array, depth: float) -> None:
        covered = coverage >= 0.5
        self.amodal_masks[index][window] = covered
        self.owners[window][covered] = index
        self.depth[window][covered] = depth


def _paint(scene: Scene, size: int, layers: _Layers | None) -> Array:
    if size < 16:
        raise ConfigError(f"size {size}: pictures below 16 pixels cannot show the world's shapes")
    canvas = background_pixels(scene.background, size).copy()
    haze = background_mean(scene.background)
    if scene.sign is not None:
        _draw_sign(canvas, scene.sign)
    if scene.chart is not None:
        draw_chart(canvas, scene.chart)
    # Far objects first; equal depths keep their listed order.
    for index in sorted(range(len(scene.objects)), key=lambda i: -scene.objects[i].depth):
        item = scene.objects[index]
        painted = _draw_object(canvas, item, scene.style, haze)
        if painted is not None and layers is not None:
            layers.add(index, *painted, item.depth)
    return canvas


def _draw_object(
    canvas: Array, item: SceneObject, style: Style, haze: Array
) -> tuple[tuple[slice, slice], Array] | None:
    """Paint one object; returns its window and coverage, None if it lies outside the frame."""
    size = canvas.shape[0]
    window = _window(item, size)
    if window is None or item.opacity <= 0.0:
        return None
    rows, columns = window
    x, y = _local_coordinates(item, rows, columns, size)
    scale = item.radius * size
    distance = _styled_distance(item.shape, x, y, style)
    coverage = np.clip(0.5 - distance * scale, 0.0, 1.0) * item.opacity
    base, second = object_colours(item, style, haze)
    colour: Array = base
    if style.outline:
        # Paper-coloured inside, so that occlusion and masks stay those of the filled shape.
        stroke = np.clip(distance * scale + max(0.15 * scale, 1.6) + 0.5, 0.0, 1.0)
        colour = haze + stroke[..., None] * (base - haze)
    elif item.texture != "solid":
        share = texture_share(item.texture, x, y, distance, item.radius, scale)
        colour = base + share[..., None] * (second - base)
    patch = canvas[rows, columns]
    patch += coverage[..., None] * (colour - patch)
    if item.text and item.opacity >= 0.5:
        _draw_object_text(canvas, item, contrast_colour(haze if style.outline else base))
    return window, coverage


def _window(item: SceneObject, size: int) -> tuple[slice, slice] | None:
    reach = item.radius * _REACH * size + 1.0
    left, right = int(max(0.0, item.x * size - reach)), int(min(float(size), item.x * size + reach + 1.0))
    top, bottom = int(max(0.0, item.y * size - reach)), int(min(float(size), item.y * size + reach + 1.0))
    return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None


def _local_coordinates(item: SceneObject, rows: slice, columns: slice, size: int) -> tuple[Array, Array]:
    axis = _pixel_centres(size)
    across = ((axis[columns] - item.x) / item.radius)[None, :]
    down = ((axis[rows] - item.y) / item.radius)[:, None]
    cosine, sine = cos_sin(item.rotation)
    x = across * cosine + down * sine
    y = down * cosine - across * sine
    return (-x if item.mirrored else x), y


@lru_cache(maxsize=32)
def _pixel_centres(size: int) -> Array:
    axis = (np.arange(size) + 0.5) / size
    axis.setflags(write=False)
    return axis


def _styled_distance(shape: str, x: Array, y: Array, style: Style) -> Array:
    distance = shape_distance(shape, x, y)
    if style.confusable:
        other = shape_distance(CONFUSABLE_SHAPES[shape], x, y)
        distance = distance + style.confusable * (other - distance)
    return distance


def _draw_object_text(canvas: Array, item: SceneObject, ink: Array) -> None:
    size = canvas.shape[0]
    columns = 6 * len(item.text) - 1
    room = 1.5 * item.radius * size
    height = min(0.95 * item.radius * size, room * GLYPH_HEIGHT / columns)
    cosine, sine = cos_sin(item.rotation)
    anchor = _TEXT_ANCHOR.get(item.shape, 0.0) * item.radius
    coverage = text_coverage(item.text, max(GLYPH_HEIGHT, int(height + 0.5)))
    draw_ink(canvas, coverage, item.x - anchor * sine, item.y + anchor * cosine, ink)


def _draw_sign(canvas: Array, sign: Sign) -> None:
    size = canvas.shape[0]
    panel = int(SIGN_HEIGHT * size + 0.5)
    paper, ink = (np.full(3, 24.0), np.full(3, 246.0)) if sign.dark else (np.full(3, 246.0), np.full(3, 24.0))
    top = 0 if sign.place == "top" else size - panel
    canvas[top : top + panel] = paper
    middle = (top + 0.5 * panel) / size
    draw_ink(canvas, text_coverage(sign.text, max(GLYPH_HEIGHT, int(_SIGN_TEXT * size + 0.5))), 0.5, middle, ink)


def _to_bytes(canvas: Array) -> NDArray[np.uint8]:
    return (canvas + 0.5).astype(np.uint8)
