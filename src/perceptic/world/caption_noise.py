"""Captions that are wrong on purpose, as web captions are: facts missing, facts mistaken.

With perfect captions, augmentation and data-engine gains shrink; training asks for a stated amount of noise.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from perceptic.errors import ConfigError
from perceptic.world.clip import MOVES, Clip, EventKind
from perceptic.world.randomness import chance, pick
from perceptic.world.scene import Scene, SceneObject
from perceptic.world.vocabulary import COLOURS, SHAPES, SIZES, TEXTURES, is_seen_pair

_CONFUSED_KINDS: Final[tuple[EventKind, ...]] = (*MOVES, "grows", "shrinks", "turns clockwise", "turns anticlockwise")


@dataclass(frozen=True, slots=True)
class CaptionNoise:
    """Probabilities per object kind and attribute: `missing` leaves the attribute (or the whole object) out, `wrong`
    names another value. Colour-shape pairs that training must not see are never named by mistake."""

    missing: float = 0.08
    wrong: float = 0.04

    def __post_init__(self) -> None:
        for name in ("missing", "wrong"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"CaptionNoise.{name} is {getattr(self, name)}; give a probability from 0 to 1")


def misdescribe(scene: Scene, rng: np.random.Generator, noise: CaptionNoise) -> Scene:
    """The scene as a careless observer saw it: for wording only, never for rendering. An empty attribute is unknown.
    Objects that look alike are mistaken alike."""
    seen: dict[tuple[str, str], SceneObject | None] = {}
    objects: list[SceneObject] = []
    for item in scene.objects:
        kind = (item.colour, item.shape)
        if kind not in seen:
            seen[kind] = _careless(item, rng, noise)
        glance = seen[kind]
        if glance is not None:
            objects.append(
                replace(item, size=glance.size, texture=glance.texture, colour=glance.colour, shape=glance.shape)
            )
    sign = None if chance(rng, noise.missing) else scene.sign
    return replace(scene, objects=tuple(objects) or scene.objects[:1], sign=sign)


def misdescribe_clip(clip: Clip, rng: np.random.Generator, noise: CaptionNoise) -> Clip:
    """The clip as a careless observer saw it: events may be missed (never all) or taken for others, objects be
    misdescribed. For wording only."""
    glances = [_careless(item, rng, noise) or item for item in clip.scene.objects]
    events = [event for event in clip.events if not chance(rng, noise.missing)] or [clip.events[0]]
    told = [
        replace(
            event,
            kind=pick(rng, _CONFUSED_KINDS)
            if event.kind in _CONFUSED_KINDS and chance(rng, noise.wrong)
            else event.kind,
            before=_as_seen(event.before, clip.scene.objects[event.object_index], glances[event.object_index]),
            after=_as_seen(event.after, clip.scene.objects[event.object_index], glances[event.object_index]),
        )
        for event in events
    ]
    sign = None if chance(rng, noise.missing) else clip.scene.sign
    return replace(clip, scene=replace(clip.scene, objects=tuple(glances), sign=sign), events=tuple(told))


def _as_seen(state: SceneObject, truth: SceneObject, glance: SceneObject) -> SceneObject:
    """A later state of an object with the attributes that were mistaken at first sight."""
    colour, shape = glance.colour if state.colour == truth.colour else state.colour, glance.shape
    if colour and not is_seen_pair(colour, shape):
        colour, shape = state.colour, state.shape
    size = glance.size if state.size == truth.size else state.size
    return replace(state, shape=shape, colour=colour, texture=glance.texture, size=size)


def _careless(item: SceneObject, rng: np.random.Generator, noise: CaptionNoise) -> SceneObject | None:
    if chance(rng, noise.missing):
        return None
    size = _mistaken(item.size, tuple(SIZES), rng, noise)
    texture = _mistaken(item.texture, TEXTURES, rng, noise)
    colour = _mistaken(item.colour, tuple(COLOURS), rng, noise)
    shape = item.shape
    if chance(rng, noise.wrong):
        shape = pick(rng, SHAPES)
    if colour and not is_seen_pair(colour, shape):
        # A held-out pair may stand in its own split's captions, but no mistake may name another one.
        colour, shape = item.colour, item.shape
    return replace(item, size=size, texture=texture, colour=colour, shape=shape)


def _mistaken(value: str, others: tuple[str, ...], rng: np.random.Generator, noise: CaptionNoise) -> str:
    if chance(rng, noise.missing):
        return ""
    return pick(rng, others) if chance(rng, noise.wrong) else value
