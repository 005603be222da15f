"""A scene as plain frozen data, and what is true of it.

Geometry is in unit coordinates: x to the right and y downwards in [0, 1], so that one scene renders at any size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from perceptic.world.charts import Chart
from perceptic.world.vocabulary import Split

Relation = Literal["left of", "right of", "above", "below", "in front of", "behind", "inside", "around"]

OPPOSITES: dict[Relation, Relation] = {
    "left of": "right of",
    "right of": "left of",
    "above": "below",
    "below": "above",
    "in front of": "behind",
    "behind": "in front of",
    "inside": "around",
    "around": "inside",
}

SIDE_MARGIN = 0.1
"""Centres must differ by this much along an axis before a side relation is claimed."""

INNER_RADIUS = {"circle": 0.97, "square": 0.8, "hexagon": 0.82, "ring": 0.55}
"""Shapes that can hold another object: radius of the largest centred disc they contain (a ring's hole counts)."""


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One object. `radius` is half its extent; `rotation` is in degrees, clockwise on screen; `depth` is in (0, 1),
    near to far; `text` is a letter or word drawn on it or ""; `tint` shifts its grey level by a few steps. Only inside
    clips do `opacity` fall below 1 and `colour_change` (0 to 1) lead from `colour` to `next_colour`."""

    shape: str
    colour: str
    size: str
    texture: str
    x: float
    y: float
    radius: float
    depth: float
    rotation: float = 0.0
    mirrored: bool = False
    text: str = ""
    tint: int = 0
    opacity: float = 1.0
    next_colour: str = ""
    colour_change: float = 0.0


@dataclass(frozen=True, slots=True)
class Background:
    """`colour` and `second_colour` are names from BACKGROUND_COLOURS; `phase` in [0, 1) shifts the pattern."""

    pattern: str
    colour: str
    second_colour: str
    phase: float = 0.0
    mirrored: bool = False


@dataclass(frozen=True, slots=True)
class Sign:
    """A word printed on the background, at the top or the bottom."""

    text: str
    place: Literal["top", "bottom"]
    dark: bool


@dataclass(frozen=True, slots=True)
class Style:
    """How objects are drawn; only the out-of-distribution variants leave the defaults.

    `confusable` in [0, 0.5) is how far shape and colour are pulled towards their nearest look-alikes.
    """

    palette: Literal["standard", "swapped"] = "standard"
    outline: bool = False
    confusable: float = 0.0


@dataclass(frozen=True, slots=True)
class Scene:
    """One image. A chart scene has a chart and no objects. Same scene, same pixels."""

    objects: tuple[SceneObject, ...]
    background: Background
    sign: Sign | None = None
    chart: Chart | None = None
    style: Style = Style()
    split: Split = "train"

    @property
    def texts(self) -> tuple[str, ...]:
        """Every letter or word that can be read in the scene, objects first."""
        words = [item.text for item in self.objects if item.text]
        if self.sign is not None:
            words.append(self.sign.text)
        if self.chart is not None and self.chart.title:
            words.append(self.chart.title)
        return tuple(words)


def holds(first: SceneObject, relation: Relation, second: SceneObject) -> bool:
    """Whether `first` stands in `relation` to `second` ("left of": first is to the left of second)."""
    if relation in ("right of", "below", "behind", "around"):
        return holds(second, OPPOSITES[relation], first)
    if relation == "left of":
        return second.x - first.x >= SIDE_MARGIN
    if relation == "above":
        return second.y - first.y >= SIDE_MARGIN
    if relation == "inside":
        return _is_inside(first, second)
    return first.depth < second.depth and _centre_distance(first, second) < 0.8 * (first.radius + second.radius)


def main_relation(first: SceneObject, second: SceneObject) -> Relation | None:
    """The relation a person would name first: containment, then overlap, then the side along the longer axis."""
    for relation in ("inside", "around", "in front of", "behind"):
        if holds(first, relation, second):
            return relation
    sideways = abs(first.x - second.x) >= abs(first.y - second.y)
    candidates: tuple[Relation, Relation] = ("left of", "right of") if sideways else ("above", "below")
    return next((relation for relation in candidates if holds(first, relation, second)), None)


def location(item: SceneObject) -> str:
    """Which ninth of the picture the centre is in: "top left", "top", ..., "centre"."""
    vertical = "top" if item.y < 0.36 else "bottom" if item.y > 0.64 else ""
    horizontal = "left" if item.x < 0.36 else "right" if item.x > 0.64 else ""
    return f"{vertical} {horizontal}".strip() or "centre"


def flip_scene(scene: Scene) -> Scene:
    """The scene mirrored left to right, its text still readable.

    Where `is_flip_safe` holds, rendering the result equals flipping the pixels (up to one grey level at edges).
    """
    objects = tuple(
        replace(item, x=round(1.0 - item.x, 9), rotation=-item.rotation, mirrored=not item.mirrored)
        for item in scene.objects
    )
    background = replace(scene.background, mirrored=not scene.background.mirrored)
    return replace(scene, objects=objects, background=background)


def is_flip_safe(scene: Scene) -> bool:
    """Whether mirrored pixels still show the same scene: no text and no chart (whose order would reverse)."""
    return not scene.texts and scene.chart is None


def _is_inside(first: SceneObject, second: SceneObject) -> bool:
    room = INNER_RADIUS.get(second.shape, 0.0) * second.radius
    # Shapes reach their nominal radius only at corners, hence the factor.
    return first.depth < second.depth and _centre_distance(first, second) + 0.85 * first.radius <= room


def _centre_distance(first: SceneObject, second: SceneObject) -> float:
    return float(((first.x - second.x) ** 2 + (first.y - second.y) ** 2) ** 0.5)
