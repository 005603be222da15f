"""Training rows that ask what is where in a picture and in single frames, how many there are, and which way they move.

A line of many places teaches what a place is in a thirtieth of the words of as many questions. Which way something
moves is nowhere in a single frame: a model of a few layers finds it in steps that it writes down, two places and then
the answer behind a colon ("0 c four, 7 f four: right").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np

from perceptic.world.acts import told_frames
from perceptic.world.clip import Clip, scene_at
from perceptic.world.clip_questions import DIRECTIONS, clip_questions
from perceptic.world.drills import about, distinct, question_row
from perceptic.world.maps import BACKGROUND, shown
from perceptic.world.places import GRID_SIDE, cell_words, place_words
from perceptic.world.plm_rows import Row
from perceptic.world.question import Question
from perceptic.world.randomness import pick, shuffled
from perceptic.world.rendering import Rendered
from perceptic.world.scene import Scene, SceneObject
from perceptic.world.scene_questions import count_question, existence_question
from perceptic.world.vocabulary import COLOURS, SHAPES
from perceptic.world.wording import plural
from perceptic.world.words import VISIBLE, colour_now

_SHOWING: Final = 16
_EMPTY: Final = 8
"""Patches of a row that show objects, and that show none."""
_COUNTS: Final = 6
_EXISTENCE_QUESTIONS: Final = 4
_GONE: Final = "gone"


def image_scan_row(path: str, scene: Scene, rendered: Rendered, rng: np.random.Generator) -> Row | None:
    """What patches show, many of objects and some of the background, in random order; None for a chart."""
    if not scene.objects:
        return None
    showing, empty = [], []
    for cell, item in enumerate(shown(scene, rendered)):
        place = cell_words(cell % GRID_SIDE, cell // GRID_SIDE)
        if item is None:
            empty.append(f"{place} {BACKGROUND}")
        else:
            showing.append(f"{place} {item.colour} {item.shape}")
    told = shuffled(rng, shuffled(rng, showing)[:_SHOWING] + shuffled(rng, empty)[:_EMPTY])
    return {"image": path, "conversations": about("image", [("What is where?", ", ".join(told))])}


def image_counts_row(path: str, scene: Scene, rng: np.random.Generator) -> Row | None:
    """How many objects, then how many of each shape and colour, and what there is; None for a chart.

    All come before some, whose numbers would tell it.
    """
    if not scene.objects:
        return None
    shapes = Counter(item.shape for item in scene.objects)
    colours = Counter(item.colour for item in scene.objects)
    some = [(plural(shape), shapes[shape]) for shape in {*shapes, pick(rng, SHAPES)}]
    some += [(f"{colour} objects", colours[colour]) for colour in {*colours, pick(rng, tuple(COLOURS))}]
    told = [("objects", len(scene.objects)), *shuffled(rng, sorted(some))[:_COUNTS]]
    found = [count_question(things, number) for things, number in told]
    found += [existence_question(scene.objects, scene.split, rng) for _ in range(_EXISTENCE_QUESTIONS)]
    return question_row("image", path, distinct(found))


def video_places_row(path: str, clip: Clip, rng: np.random.Generator) -> Row | None:
    """Where objects are in single frames, or that they are gone or not there yet, in random order so that no place is
    the one before; None if all look like another."""
    told = []
    for number, frame in enumerate(told_frames(clip)):
        for item in _told_apart(scene_at(clip, frame).objects):
            place = place_words(item) if item.opacity >= VISIBLE else _GONE
            told.append(f"{number} {colour_now(item)} {item.shape} {place}")
    if not told:
        return None
    turn = "Where is what in each frame?", ", ".join(shuffled(rng, told))
    return {"video": path, "conversations": about("video", [turn])}


def video_directions_row(path: str, clip: Clip, rng: np.random.Generator) -> Row | None:
    """Which way objects move, told after their first and last place; None if none moves once."""
    moves = [one for one in clip_questions(clip, rng) if one.answer in DIRECTIONS]
    turns = [(one.question, _direction(clip, one)) for one in shuffled(rng, moves)]
    return {"video": path, "conversations": about("video", turns)} if turns else None


def _direction(clip: Clip, question: Question) -> str:
    index, frames = question.object_index, told_frames(clip)
    assert index is not None, "a direction is that of an object"
    items = [(number, scene_at(clip, frame).objects[index]) for number, frame in enumerate(frames)]
    seen = [(number, item) for number, item in items if item.opacity >= VISIBLE]
    ends = ", ".join(f"{number} {place_words(item)}" for number, item in (seen[0], seen[-1]))
    return f"{ends}: {question.answer}"


def _told_apart(objects: Sequence[SceneObject]) -> list[SceneObject]:
    names = [(colour_now(item), item.shape) for item in objects]
    return [item for item, name in zip(objects, names, strict=True) if names.count(name) == 1]
