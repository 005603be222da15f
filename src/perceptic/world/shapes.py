"""Signed distances of the shapes: negative inside, in units of the shape's radius.

Only +, -, *, /, sqrt, min and max touch arrays: IEEE 754 defines them to the last bit, so pixels are the same on every
machine. Each shape fits the disc of radius 1.05 about its origin (x right, y down).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from perceptic.world.randomness import cos_sin

Array = NDArray[np.float64]


def shape_distance(shape: str, x: Array, y: Array) -> Array:
    """Distance to the outline of `shape`, negative inside.

    Args:
        shape: a name from SHAPES.
        x: coordinates to the right, any shape that broadcasts with `y`.
        y: coordinates downwards.
    """
    return _DISTANCES[shape](x, y)


def polygon_distance(vertices: Array, x: Array, y: Array) -> Array:
    """Exact signed distance to a simple polygon of `vertices` (E, 2); all edges are computed at once."""
    start = vertices[:, :, None, None]
    end = np.roll(vertices, -1, axis=0)[:, :, None, None]
    edge = end - start
    start_x, start_y, edge_x, edge_y = start[:, 0], start[:, 1], edge[:, 0], edge[:, 1]
    from_x, from_y = x - start_x, y - start_y
    along = (from_x * edge_x + from_y * edge_y) / (edge_x * edge_x + edge_y * edge_y)
    np.maximum(along, 0.0, out=along)
    np.minimum(along, 1.0, out=along)
    off_x, off_y = from_x - edge_x * along, from_y - edge_y * along
    distance = np.sqrt((off_x * off_x + off_y * off_y).min(axis=0))
    # Compared as coordinates, not as differences: neighbouring edges must round alike at the corner they share.
    below, above = y >= start_y, y < end[:, 1]
    # A ray to the right crosses the edge: upward edges count when the point lies left of them, downward ones mirrored.
    side = edge_x * from_y > edge_y * from_x
    crossings = (below & above & side) | ~(below | above | side)
    inside = np.logical_xor.reduce(crossings, axis=0)
    signed: Array = np.where(inside, -distance, distance)
    return signed


def _disc(x: Array, y: Array, centre_x: float, centre_y: float, radius: float) -> Array:
    across, down = x - centre_x, y - centre_y
    return np.sqrt(across * across + down * down) - radius


def _regular(count: int, radius: float, turn: float = 0.0) -> Array:
    return np.array([_polar(radius, turn + 360.0 * index / count) for index in range(count)])


def _polar(radius: float, degrees: float) -> tuple[float, float]:
    cosine, sine = cos_sin(degrees - 90.0)
    return radius * cosine, radius * sine


def _polygon(vertices: Array | list[tuple[float, float]]) -> Callable[[Array, Array], Array]:
    fixed = np.array(vertices, dtype=np.float64)
    return lambda x, y: polygon_distance(fixed, x, y)


def _circle(x: Array, y: Array) -> Array:
    return _disc(x, y, 0.0, 0.0, 0.97)


def _ring(x: Array, y: Array) -> Array:
    return np.abs(_disc(x, y, 0.0, 0.0, 0.72)) - 0.26


def _crescent(x: Array, y: Array) -> Array:
    return np.maximum(_disc(x, y, 0.1, 0.0, 0.98), -_disc(x, y, 0.55, 0.0, 0.78))


def _flower(x: Array, y: Array) -> Array:
    petals = [_disc(x, y, *_polar(0.6, 72.0 * index), 0.39) for index in range(5)]
    union: Array = np.minimum.reduce([*petals, _disc(x, y, 0.0, 0.0, 0.62)])
    return union


def _heart(x: Array, y: Array) -> Array:
    lobes = np.minimum(_disc(x, y, -0.45, -0.32, 0.5), _disc(x, y, 0.45, -0.32, 0.5))
    return np.minimum(lobes, polygon_distance(_HEART_BODY, x, y))


def _drop(x: Array, y: Array) -> Array:
    return np.minimum(_disc(x, y, 0.0, 0.36, 0.62), polygon_distance(_DROP_TIP, x, y))


_HEART_BODY = np.array([(0.0, 0.95), (-0.84, 0.0), (-0.45, -0.4), (0.0, -0.3), (0.45, -0.4), (0.84, 0.0)])
_DROP_TIP = np.array([(0.0, -1.0), (0.545, 0.07), (0.0, 0.4), (-0.545, 0.07)])
_STAR = [_polar(1.02 if index % 2 == 0 else 0.44, 36.0 * index) for index in range(10)]
_CROSS = [
    (-0.32, -0.97), (0.32, -0.97), (0.32, -0.32), (0.97, -0.32), (0.97, 0.32), (0.32, 0.32),
    (0.32, 0.97), (-0.32, 0.97), (-0.32, 0.32), (-0.97, 0.32), (-0.97, -0.32), (-0.32, -0.32),
]  # fmt: skip
_ARROW = [(1.0, 0.0), (0.2, 0.75), (0.2, 0.28), (-0.95, 0.28), (-0.95, -0.28), (0.2, -0.28), (0.2, -0.75)]
_BOLT = [(0.35, -1.0), (-0.62, 0.15), (-0.08, 0.15), (-0.35, 1.0), (0.62, -0.22), (0.08, -0.22)]
_HOUSE = [(0.0, -0.98), (0.95, -0.12), (0.7, -0.12), (0.7, 0.85), (-0.7, 0.85), (-0.7, -0.12), (-0.95, -0.12)]
_HOURGLASS = [(-0.75, -0.92), (0.75, -0.92), (0.14, 0.0), (0.75, 0.92), (-0.75, 0.92), (-0.14, 0.0)]

_DISTANCES: Final[dict[str, Callable[[Array, Array], Array]]] = {
    "circle": _circle,
    "square": _polygon([(-0.82, -0.82), (0.82, -0.82), (0.82, 0.82), (-0.82, 0.82)]),
    "triangle": _polygon([(0.0, -0.95), (0.95, 0.75), (-0.95, 0.75)]),
    "diamond": _polygon([(0.0, -1.05), (0.68, 0.0), (0.0, 1.05), (-0.68, 0.0)]),
    "hexagon": _polygon(_regular(6, 1.0, 30.0)),
    "star": _polygon(_STAR),
    "heart": _heart,
    "cross": _polygon(_CROSS),
    "crescent": _crescent,
    "ring": _ring,
    "arrow": _polygon(_ARROW),
    "drop": _drop,
    "flower": _flower,
    "bolt": _polygon(_BOLT),
    "house": _polygon(_HOUSE),
    "hourglass": _polygon(_HOURGLASS),
}
