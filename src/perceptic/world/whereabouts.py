"""Training rows that ask where things are: what is at a place, how many there are, and which way something has moved.

What a model of a few layers does not find at once it finds in steps that it writes down: the places of what it counts,
or two places of what moves, then the answer behind a colon ("c four, f two: 2", "0 c four, 7 f four: right").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import product
from math import hypot
from typing import Final

import numpy as np

from perceptic.world.acts import told_frames
from perceptic.world.clip import MOVES, Clip, scene_at
from perceptic.world.clip_questions import clip_questions
from perceptic.world.drills import about
from perceptic.world.places import COLUMNS, GRID_SIDE, ROWS, cell_of, place_words
from perceptic.world.plm_rows import Row
from perceptic.world.question import Question
from perceptic.world.randomness import chance, pick, shuffled
from perceptic.world.scene import Scene, SceneObject
from perceptic.world.scene_questions import count_question, existence_question
from perceptic.world.vocabulary import COLOURS, SHAPES
from perceptic.world.wording import plural
from perceptic.world.words import VISIBLE, colour_now

_EMPTY: Final = "nothing"
_MAX_EMPTY: Final = 2
_EXISTENCE_QUESTIONS: Final = 5
_GONE: Final = "gone"
_PLACES: Final = 20
_DIRECTIONS: Final = tuple(kind.split()[1] for kind in MOVES)


def image_cells_row(path: str, scene: Scene, rng: np.random.Generator) -> Row | None:
    """What is at places, some of them empty, or where things are; None for a chart, or where several share each place.

    A place is that of an object's middle. Asked one way or the other, so that no answer stands in an earlier question.
    """
    cells, names = Counter(map(cell_of, scene.objects)), Counter(map(_name, scene.objects))
    alone = [item for item in scene.objects if cells[cell_of(item)] == 1]
    if chance(rng, 0.6):
        opening = "What is at each place?"
        asked = [(place_words(item), _name(item)) for item in alone]
        asked += [(place, _EMPTY) for place in shuffled(rng, _empty_places(scene))[:_MAX_EMPTY]]
    else:
        opening = "Where is each object?"
        asked = [(_name(item), place_words(item)) for item in alone if names[_name(item)] == 1]
    if not scene.objects or not asked:
        return None
    return {"image": path, "conversations": about("image", _opened(opening, shuffled(rng, asked)))}


def image_counts_row(path: str, scene: Scene, rng: np.random.Generator) -> Row | None:
    """What is there, then how many of shapes, of colours and in all, told after where each is; None for a chart."""
    if not scene.objects:
        return None
    shapes = [pick(rng, scene.objects).shape, pick(rng, SHAPES)]
    colours = [pick(rng, scene.objects).colour, pick(rng, tuple(COLOURS))]
    counted = {plural(shape): [item for item in scene.objects if item.shape == shape] for shape in shapes}
    counted |= {f"{colour} objects": [item for item in scene.objects if item.colour == colour] for colour in colours}
    told = [*shuffled(rng, list(counted.items())), ("objects", list(scene.objects))]
    pairs = [existence_question(scene.objects, scene.split, rng) for _ in range(_EXISTENCE_QUESTIONS)]
    turns = list({one.question: (one.question, one.answer) for one in pairs}.values())
    turns += [(count_question(things, len(found)).question, _counted(found)) for things, found in told]
    return {"image": path, "conversations": about("image", turns)}


def video_places_row(path: str, clip: Clip, rng: np.random.Generator) -> Row | None:
    """Where objects are in single frames, or that they are gone or not there yet, in random order so that no answer is
    the one before; None if all look like another."""
    asked = []
    for number, frame in enumerate(told_frames(clip)):
        scene = scene_at(clip, frame)
        for index in _told_apart(scene):
            item = scene.objects[index]
            place = place_words(item) if item.opacity >= VISIBLE else _GONE
            asked.append((f"{number}: {colour_now(item)} {item.shape}", place))
    if not asked:
        return None
    turns = _opened("Where in each frame?", shuffled(rng, asked)[:_PLACES])
    return {"video": path, "conversations": about("video", turns)}


def video_directions_row(path: str, clip: Clip, rng: np.random.Generator) -> Row | None:
    """Which way objects move, told after their first and last place; None if none moves once."""
    moves = [one for one in clip_questions(clip, rng) if one.answer in _DIRECTIONS]
    turns = [(one.question, _direction(clip, one)) for one in shuffled(rng, moves)]
    return {"video": path, "conversations": about("video", turns)} if turns else None


def _direction(clip: Clip, question: Question) -> str:
    index, frames = question.object_index, told_frames(clip)
    assert index is not None, "a direction is that of an object"
    items = [(number, scene_at(clip, frame).objects[index]) for number, frame in enumerate(frames)]
    seen = [(number, item) for number, item in items if item.opacity >= VISIBLE]
    ends = ", ".join(f"{number} {place_words(item)}" for number, item in (seen[0], seen[-1]))
    return f"{ends}: {question.answer}"


def _told_apart(scene: Scene) -> list[int]:
    names = [(colour_now(item), item.shape) for item in scene.objects]
    return [index for index, name in enumerate(names) if names.count(name) == 1]


def _opened(opening: str, asked: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Short questions, of which the first is told what they ask for."""
    (first, answer), *others = [(f"{ask}?", answer) for ask, answer in asked]
    return [(f"{opening} {first}", answer), *others]


def _counted(found: Sequence[SceneObject]) -> str:
    """ "c four, f two: 2": column by column."""
    places = [place_words(item) for item in sorted(found, key=cell_of)]
    return f"{', '.join(places)}: {len(places)}" if places else "0"


def _name(item: SceneObject) -> str:
    return f"{item.colour} {item.shape}"


def _empty_places(scene: Scene) -> list[str]:
    """Cells whose middle is outside of every object."""
    middles = [(number + 0.5) / GRID_SIDE for number in range(GRID_SIDE)]
    return [
        f"{COLUMNS[column]} {ROWS[row]}"
        for (column, x), (row, y) in product(enumerate(middles), enumerate(middles))
        if all(hypot(item.x - x, item.y - y) > item.radius + 0.5 / GRID_SIDE for item in scene.objects)
    ]
