"""Training rows about what happens in a clip, asked so that no answer can be read from an earlier turn.

The same questions are asked about the list of events in words, where order is learned from a line of text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from perceptic.world.acts import NUM_TOLD_FRAMES, told_frames
from perceptic.world.clip import Clip, scene_at
from perceptic.world.clip_questions import DIRECTIONS, clip_questions
from perceptic.world.drills import about, event_list, question_row
from perceptic.world.places import GRID_SIDE, cell_words, place_words
from perceptic.world.plm_rows import Row
from perceptic.world.question import Question
from perceptic.world.randomness import chance, pick, shuffled, whole
from perceptic.world.words import VISIBLE, reading, to_read

_NAMING_NO_EVENT: Final = ("motion_direction", "event_kind", "event_actor", "final_state", "stillness")
_MOVES: Final = 10
"""Of one text."""
_IN_THE_LIST: Final = ("motion_direction", "event_kind", "event_actor", "event_order")


def video_questions_row(path: str, clip: Clip, rng: np.random.Generator) -> Row | None:
    """What each object does, in one conversation; None if nothing can be asked.

    Directions take steps to answer and have rows of their own, as orders and times have.
    """
    found = [one for one in clip_questions(clip, rng) if one.kind in _NAMING_NO_EVENT and one.answer not in DIRECTIONS]
    turns = [(one.question, one.answer) for one in _asked(found, rng)]
    return {"video": path, "conversations": about("video", turns)} if turns else None


def video_directions_row(path: str, clip: Clip, rng: np.random.Generator) -> Row | None:
    """Which way objects move, told after their first and last place; None if none moves once."""
    moves = [one for one in clip_questions(clip, rng) if one.answer in DIRECTIONS]
    turns = [(one.question, _direction(clip, one)) for one in shuffled(rng, moves)]
    return {"video": path, "conversations": about("video", turns)} if turns else None


def video_orders_row(path: str, clip: Clip, rng: np.random.Generator) -> Row | None:
    """What happens first, or last, or after something; None where no two events differ."""
    found = [question for question in clip_questions(clip, rng) if question.kind == "event_order"]
    return question_row("video", path, shuffled(rng, _one_a_pair(found, rng)))


def event_words_row(clip: Clip, rng: np.random.Generator) -> Row | None:
    """Reading of the list of events with what it answers; None if nothing can be asked."""
    found = [question for question in clip_questions(clip, rng) if question.kind in _IN_THE_LIST]
    turns = [(question.question, question.answer) for question in _asked(found, rng)]
    return reading(event_list(clip), turns) if turns else None


def move_words_row(rng: np.random.Generator) -> Row:
    """Readings of moves anywhere: two places and the direction that follows from them, as an answer has them."""
    return to_read("; ".join(_move(rng) for _ in range(_MOVES)))


def _move(rng: np.random.Generator) -> str:
    first, last = sorted(shuffled(rng, list(range(GRID_SIDE)))[:2])
    across, direction = whole(rng, 0, GRID_SIDE - 1), pick(rng, DIRECTIONS)
    along = (last, first) if direction in ("left", "up") else (first, last)
    is_level = direction in ("left", "right")
    before, after = (cell_words(cell, across) if is_level else cell_words(across, cell) for cell in along)
    return f"0 {before}, {NUM_TOLD_FRAMES - 1} {after}: {direction}"


def _asked(found: Sequence[Question], rng: np.random.Generator) -> list[Question]:
    telling = [_one_of(own, rng) for own in _by_object(found)]
    orders = [question for question in found if question.kind == "event_order"]
    return shuffled(rng, telling) + shuffled(rng, _one_a_pair(orders, rng))


def _one_a_pair(orders: Sequence[Question], rng: np.random.Generator) -> list[Question]:
    """Two questions are about a pair of events, of which one answers the other."""
    return [pick(rng, both) for both in zip(orders[::2], orders[1::2], strict=True)]


def _direction(clip: Clip, question: Question) -> str:
    """ "0 c four, 7 f four: right": a direction is nowhere in a single frame, and a model of a few layers finds it in
    steps that it writes down."""
    index, frames = question.object_index, told_frames(clip)
    assert index is not None, "a direction is that of an object"
    items = [(number, scene_at(clip, frame).objects[index]) for number, frame in enumerate(frames)]
    seen = [(number, item) for number, item in items if item.opacity >= VISIBLE]
    ends = ", ".join(f"{number} {place_words(item)}" for number, item in (seen[0], seen[-1]))
    return f"{ends}: {question.answer}"


def _by_object(found: Sequence[Question]) -> list[list[Question]]:
    """Questions that name no event, object by object."""
    groups: dict[int | None, list[Question]] = {}
    for question in found:
        if question.kind in _NAMING_NO_EVENT:
            groups.setdefault(question.object_index, []).append(question)
    return list(groups.values())


def _one_of(own: Sequence[Question], rng: np.random.Generator) -> Question:
    """Directions twice in three, where there is one to ask about: they are learned last."""
    directions = [question for question in own if question.kind == "motion_direction"]
    return pick(rng, directions if directions and chance(rng, 2 / 3) else own)
