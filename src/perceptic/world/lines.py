"""Training rows of one long line: what is where, what each object is like, how many there are, who does what and when.

A question has an answer of a word or two behind three times as many words of template. A line says thirty things about
one picture or clip in random order, so that none can be guessed from the one before: a small model learns to look
things up from lines, and from questions that they can be asked for (docs/plm-nano.md).
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from itertools import pairwise
from typing import Final

import numpy as np

from perceptic.world.acts import STILL, acts_between, told_frames
from perceptic.world.clip import Clip, scene_at
from perceptic.world.drills import about
from perceptic.world.maps import BACKGROUND, shown
from perceptic.world.places import GRID_SIDE, cell_words, place_words
from perceptic.world.plm_rows import Row
from perceptic.world.randomness import pick, shuffled
from perceptic.world.rendering import Rendered
from perceptic.world.scene import Scene, SceneObject
from perceptic.world.scene_questions import absent_pairs, counted
from perceptic.world.vocabulary import COLOURS, SHAPES
from perceptic.world.words import VISIBLE, colour_now

_SHOWING: Final = 16
_EMPTY: Final = 8
"""Patches of a row that show objects, and that show none."""
_ABSENT: Final = 3
"""Shapes and colours that a tally names though no object has them."""
GONE: Final = "gone"


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
    return _line("image", path, "What is where?", told)


def image_names_row(path: str, scene: Scene, rng: np.random.Generator) -> Row | None:
    """Every object by its name, colour or shape first, with its place, size and texture, objects and what is said of
    them in random order; None for a chart."""
    if not scene.objects:
        return None
    told = []
    for item in shuffled(rng, list(scene.objects)):
        name = shuffled(rng, [item.colour, item.shape])
        told.append(" ".join([*name, *shuffled(rng, [place_words(item), item.size, item.texture])]))
    return _line("image", path, "What is each object like?", told)


def image_tally_row(path: str, scene: Scene, rng: np.random.Generator) -> Row | None:
    """How many there are of each shape and colour that is there, and of some that are not, and whether there is an
    object of a colour and a shape, in random order; None for a chart."""
    if not scene.objects:
        return None
    shapes = _with_absent({item.shape for item in scene.objects}, SHAPES, rng)
    colours = _with_absent({item.colour for item in scene.objects}, tuple(COLOURS), rng)
    told = [f"objects {len(scene.objects)}"]
    told += [f"{things} {number}" for things, number in counted(scene.objects, shapes, colours)]
    present = {(item.colour, item.shape) for item in scene.objects}
    absent, tempting = absent_pairs(present, scene.split)
    told += [f"{colour} {shape} yes" for colour, shape in sorted(present)]
    told += [f"{colour} {shape} no" for colour, shape in shuffled(rng, tempting or absent)[: len(present)]]
    told += ["{} {} no".format(*pick(rng, absent))]
    return _line("image", path, "How many of each are there?", shuffled(rng, told))


def video_places_row(path: str, clip: Clip, rng: np.random.Generator) -> Row | None:
    """Where objects are in single frames, or that they are gone or not there yet, in random order so that no place is
    the one before; None if all look like another."""
    told = []
    for number, frame in enumerate(told_frames(clip)):
        objects = scene_at(clip, frame).objects
        for index in _told_apart(objects):
            item = objects[index]
            place = place_words(item) if item.opacity >= VISIBLE else GONE
            told.append(f"{number} {colour_now(item)} {item.shape} {place}")
    return _line("video", path, "Where is what in each frame?", shuffled(rng, told)) if told else None


def video_acts_row(path: str, clip: Clip, rng: np.random.Generator) -> Row | None:
    """What objects do up to a frame since the one before, and of as many that they do nothing, in random order; None if
    all look like another."""
    doing: list[str] = []
    still: list[str] = []
    frames = told_frames(clip)
    for number, (before, now) in enumerate(pairwise(frames), start=1):
        acts = acts_between(clip, before, now)
        objects = scene_at(clip, now).objects
        for index in _told_apart(objects):
            item, act = objects[index], acts.get(index, STILL)
            (still if act == STILL else doing).append(f"{number} {colour_now(item)} {item.shape} {act}")
    told = shuffled(rng, doing + shuffled(rng, still)[: max(len(doing), 1)])
    return _line("video", path, "What happens before each frame?", told) if told else None


def _line(medium: str, path: str, ask: str, told: Sequence[str]) -> Row:
    return {medium: path, "conversations": about(medium, [(ask, ", ".join(told))])}


def _with_absent(present: Set[str], known: Sequence[str], rng: np.random.Generator) -> list[str]:
    absent = [word for word in known if word not in present]
    return sorted(present) + shuffled(rng, absent)[:_ABSENT]


def _told_apart(objects: Sequence[SceneObject]) -> list[int]:
    """Numbers of the objects that share their name with no other."""
    names = [(colour_now(item), item.shape) for item in objects]
    return [index for index, name in enumerate(names) if names.count(name) == 1]
