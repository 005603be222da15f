"""Training rows that ask where the objects of a clip are in single frames, and which way they have moved since.

Which way something moves is nowhere in a single frame. A model of a few layers finds it in steps that it writes down:
two places, then the answer behind a colon ("0 c four, 7 f four: right").
"""

from __future__ import annotations

from typing import Final

import numpy as np

from perceptic.world.acts import told_frames
from perceptic.world.clip import MOVES, Clip, scene_at
from perceptic.world.clip_questions import clip_questions
from perceptic.world.drills import about
from perceptic.world.places import place_words
from perceptic.world.plm_rows import Row
from perceptic.world.question import Question
from perceptic.world.randomness import shuffled
from perceptic.world.scene import Scene
from perceptic.world.words import VISIBLE, colour_now

_PLACES: Final = 12
_DIRECTIONS: Final = tuple(kind.split()[1] for kind in MOVES)


def video_places_row(path: str, clip: Clip, rng: np.random.Generator) -> Row | None:
    """Where objects are in single frames, asked in random order so that no answer is the one before; None if all look
    like another."""
    asked = []
    for number, frame in enumerate(told_frames(clip)):
        scene = scene_at(clip, frame)
        for index in _told_apart(scene):
            item = scene.objects[index]
            asked.append((f"{number}: {colour_now(item)} {item.shape}?", place_words(item)))
    if not asked:
        return None
    (ask, answer), *others = shuffled(rng, asked)[:_PLACES]
    return {"video": path, "conversations": about("video", [(f"Where in each frame? {ask}", answer), *others])}


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
    return [i for i, item in enumerate(scene.objects) if item.opacity >= VISIBLE and names.count(names[i]) == 1]
