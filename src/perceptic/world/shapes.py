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


class Polygon:
    """A simple polygon of vertices (E, 2), either way round. Its edges are prepared once: a scene asks for thousands
    of distances."""

    def __init__(self, vertices: Array | list[tuple[float, float]]) -> None:
        start = np.array(vertices, dtype=np.float64)[:, :, None, None]
        end = np.roll(start, -1, axis=0)
        edge = end - start
        self._start_x, self._start_y, self._end_y = start[:, 0], start[:, 1], end[:, 1]
        self._edge_x, self._edge_y = edge[:, 0], edge[:, 1]
        self._length_squared = self._edge_x * self._edge_x + self._edge_y * self._edge_y

    def distance(self, x: Array, y: Array) -> Array:
        """Exact signed distance, negative inside; all edges are computed at once."""
        if x.shape != y.shape:
            x, y = np.broadcast_arrays(x, y)
        from_x, from_y = x - self._start_x, y - self._start_y
        rise, run = from_x * self._edge_y, from_y * self._edge_x
        along = from_x * self._edge_x
        along += from_y * self._edge_y
        along /= self._length_squared
        np.maximum(along, 0.0, out=along)
        np.minimum(along, 1.0, out=along)
        from_x -= self._edge_x * along
        from_y -= self._edge_y * along
        from_x *= from_x
        from_y *= from_y
        from_x += from_y
        distance: Array = np.sqrt(from_x.min(axis=0))
        # Compared as coordinates, not as differences: neighbouring edges must round alike at the corner they share.
        below, above = y >= self._start_y, y < self._end_y
        # A ray to the right crosses the edge: upward edges count when the point lies left of them, downward ones
        # mirrored.
        side = run > rise
        crossings = (below & above & side) | ~(below | above | side)
        inside = np.logical_xor.reduce(crossings, axis=0)
        return np.negative(distance, out=distance, where=inside)


def _disc(x: Array, y: Array, centre_x: float, centre_y: float, radius: float) -> Array:
    across, down = x - centre_x, y - centre_y
    return np.sqrt(across * across + down * down) - radius


def _regular(count: int, radius: float, turn: float = 0.0) -> Array:
    return np.array([_polar(radius, turn + 360.0 * index / count) for index in range(count)])


def _polar(radius: float, degrees: float) -> tuple[float, float]:
    cosine, sine = cos_sin(degrees - 90.0)
    return radius * cosine, radius * sine


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
    return np.minimum(lobes, _HEART_BODY.distance(x, y))


def _drop(x: Array, y: Array) -> Array:
    return np.minimum(_disc(x, y, 0.0, 0.36, 0.62), _DROP_TIP.distance(x, y))


_HEART_BODY = Polygon([(0.0, 0.95), (-0.84, 0.0), (-0.45, -0.4), (0.0, -0.3), (0.45, -0.4), (0.84, 0.0)])
_DROP_TIP = Polygon([(0.0, -1.0), (0.545, 0.07), (0.0, 0.4), (-0.545, 0.07)])
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
    "square": Polygon([(-0.82, -0.82), (0.82, -0.82), (0.82, 0.82), (-0.82, 0.82)]).distance,
    "triangle": Polygon([(0.0, -0.95), (0.95, 0.75), (-0.95, 0.75)]).distance,
    "diamond": Polygon([(0.0, -1.05), (0.68, 0.0), (0.0, 1.05), (-0.68, 0.0)]).distance,
    "hexagon": Polygon(_regular(6, 1.0, 30.0)).distance,
    "star": Polygon(_STAR).distance,
    "heart": _heart,
    "cross": Polygon(_CROSS).distance,
    "crescent": _crescent,
    "ring": _ring,
    "arrow": Polygon(_ARROW).distance,
    "drop": _drop,
    "flower": _flower,
    "bolt": Polygon(_BOLT).distance,
    "house": Polygon(_HOUSE).distance,
    "hourglass": Polygon(_HOURGLASS).distance,
}
