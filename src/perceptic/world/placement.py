"""Where objects stand: apart, overlapping, or one inside another; and which is nearer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from perceptic.world.randomness import between, cos_sin
from perceptic.world.scene import INNER_RADIUS, SceneObject
from perceptic.world.shapes import shape_distance
from perceptic.world.vocabulary import SIZES

_SMALLER: Final = {"large": "medium", "medium": "small"}
_EDGE: Final = 0.015
_TRIES: Final = 40
_MIN_COVERED: Final = 0.1
_MAX_COVERED: Final = 0.45
_GRID: Final = (np.arange(32) + 0.5) / 32
_APART: Final = 0.97
"""Separate objects keep this share of the sum of their radii between centres, well above what counts as overlap."""


@dataclass(frozen=True, slots=True)
class Band:
    """The rows that objects may use, in unit coordinates; a sign takes the rest."""

    top: float = 0.0
    bottom: float = 1.0


def place_apart(rng: np.random.Generator, looks: Sequence[SceneObject], band: Band) -> list[SceneObject]:
    """Give every look a place of its own; objects that find no room are drawn a size smaller."""
    return _fill(rng, [], looks, band)


def place_beside(
    rng: np.random.Generator, placed: Sequence[SceneObject], looks: Sequence[SceneObject], band: Band
) -> list[SceneObject]:
    """Add looks to objects that already have their places."""
    return _fill(rng, list(placed), looks, band)


def place_alike(rng: np.random.Generator, look: SceneObject, count: int, band: Band) -> list[SceneObject]:
    """`count` copies of one look, apart, all of the largest size that fits."""
    while True:
        placed: list[SceneObject] = []
        for _ in range(count):
            spot = _try_place(rng, look, placed, band)
            if spot is None:
                break
            placed.append(spot)
        if len(placed) == count:
            return placed
        look = _shrink(look)


def place_overlapping(rng: np.random.Generator, looks: Sequence[SceneObject], band: Band) -> list[SceneObject]:
    """The first look partly covers the second; the others stand apart."""
    front, back = looks[0], looks[1]
    while True:
        back = _somewhere(rng, back, band)
        behind = _footprint(back)
        for _ in range(_TRIES):
            distance = between(rng, 0.45, 0.76) * (front.radius + back.radius)
            near = _beside(rng, front, back, distance)
            # Enough to be seen as covering, not so much that the covered one cannot be recognised.
            if _in_frame(near, band) and _MIN_COVERED <= _covered_share(_footprint(near), behind) <= _MAX_COVERED:
                near = replace(near, depth=round(min(near.depth, back.depth - 0.08), 4))
                return _fill(rng, [near, back], looks[2:], band)
        front = _shrink(front)


def place_inside(rng: np.random.Generator, looks: Sequence[SceneObject], band: Band) -> list[SceneObject]:
    """The first look lies within the second, which must be large and of a shape that can hold it."""
    outer = _somewhere(rng, looks[1], band)
    room = INNER_RADIUS[outer.shape] * outer.radius - 0.85 * looks[0].radius
    inner = _beside(rng, looks[0], outer, between(rng, 0.0, 0.9) * max(room, 0.0))
    inner = replace(inner, depth=round(outer.depth - 0.06, 4))
    return _fill(rng, [inner, outer], looks[2:], band)


def resized(look: SceneObject, size: str) -> SceneObject:
    """The same look in another named size, its small deviation from the nominal radius kept."""
    return replace(look, size=size, radius=round(look.radius * SIZES[size] / SIZES[look.size], 6))


def _covered_share(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """How much of the smaller object's area both objects share."""
    smaller = min(int(first.sum()), int(second.sum()))
    return int((first & second).sum()) / smaller if smaller else 0.0


def _footprint(item: SceneObject) -> NDArray[np.bool_]:
    """What the object covers, on a fixed coarse grid: a picture's size must not decide where things stand."""
    cosine, sine = cos_sin(item.rotation)
    across, down = (_GRID - item.x)[None, :] / item.radius, (_GRID - item.y)[:, None] / item.radius
    x, y = across * cosine + down * sine, down * cosine - across * sine
    inside: NDArray[np.bool_] = shape_distance(item.shape, -x if item.mirrored else x, y) <= 0.0
    return inside


def _fill(
    rng: np.random.Generator, fixed: list[SceneObject], looks: Sequence[SceneObject], band: Band
) -> list[SceneObject]:
    while True:
        placed = list(fixed)
        for look in looks:
            spot = _place_or_shrink(rng, look, placed, band)
            if spot is None:
                break
            placed.append(spot)
        if len(placed) == len(fixed) + len(looks):
            return placed
        # The earlier ones took too much room: everybody becomes smaller; small ones simply get other places.
        looks = [_shrink(look) for look in looks]


def _place_or_shrink(
    rng: np.random.Generator, look: SceneObject, placed: list[SceneObject], band: Band
) -> SceneObject | None:
    while True:
        spot = _try_place(rng, look, placed, band)
        if spot is not None or look.size == "small":
            return spot
        look = _shrink(look)


def _try_place(
    rng: np.random.Generator, look: SceneObject, placed: list[SceneObject], band: Band
) -> SceneObject | None:
    for _ in range(_TRIES):
        spot = _somewhere(rng, look, band)
        if all(_distance(spot, other) >= _APART * (spot.radius + other.radius) for other in placed):
            return spot
    return None


def _somewhere(rng: np.random.Generator, look: SceneObject, band: Band) -> SceneObject:
    margin = look.radius + _EDGE
    x = between(rng, margin, 1.0 - margin)
    return _at(rng, look, x, between(rng, band.top + margin, band.bottom - margin))


def _beside(rng: np.random.Generator, look: SceneObject, other: SceneObject, distance: float) -> SceneObject:
    # A random direction without trigonometry: a point of the unit disc, pushed out to its rim.
    while True:
        x, y = between(rng, -1.0, 1.0), between(rng, -1.0, 1.0)
        length = (x * x + y * y) ** 0.5
        if 0.1 < length <= 1.0:
            return _at(rng, look, other.x + distance * x / length, other.y + distance * y / length)


def _at(rng: np.random.Generator, look: SceneObject, x: float, y: float) -> SceneObject:
    # Lower in the picture is nearer, as on a ground plane, with some play.
    depth = min(max(0.9 - 0.75 * y + between(rng, -0.07, 0.07), 0.2), 0.9)
    return replace(look, x=round(x, 5), y=round(y, 5), depth=round(depth, 4))


def _shrink(look: SceneObject) -> SceneObject:
    return resized(look, _SMALLER.get(look.size, "small"))


def _in_frame(item: SceneObject, band: Band) -> bool:
    margin = item.radius
    return margin <= item.x <= 1.0 - margin and band.top + margin <= item.y <= band.bottom - margin


def _distance(first: SceneObject, second: SceneObject) -> float:
    return float(((first.x - second.x) ** 2 + (first.y - second.y) ** 2) ** 0.5)
