"""Questions with one right answer, about scenes, charts and clips."""

from __future__ import annotations

from collections import Counter

import numpy as np

from perceptic.world.chart_questions import chart_questions
from perceptic.world.clip import Clip
from perceptic.world.clip_questions import clip_questions
from perceptic.world.question import Question
from perceptic.world.randomness import seeded, shuffled
from perceptic.world.scene import Scene
from perceptic.world.scene_questions import scene_questions


def questions(
    world: Scene | Clip, seed: int | np.random.Generator = 0, *, limit: int | None = None
) -> tuple[Question, ...]:
    """Questions that a scene or clip answers exactly, in random order with kinds in turns, at most `limit` of them.

    Scenes: existence, colour, shape, size, texture, count, relation, location, reading, background. Charts:
    chart_value, chart_compare, chart_count, chart_trend, reading. Clips: motion_direction, event_kind, event_actor,
    event_order, event_interval, final_state, stillness. Yes and no are equally likely where both can be asked.
    """
    rng = seeded(seed, "questions")
    if isinstance(world, Clip):
        found = clip_questions(world, rng)
    elif world.chart is not None:
        found = chart_questions(world.chart, rng)
    else:
        found = scene_questions(world, rng)
    return tuple(_in_turns(shuffled(rng, found))[:limit])


def _in_turns(found: list[Question]) -> list[Question]:
    """Kinds take turns, so that the first few questions are not all of the most frequent kind."""
    seen: Counter[str] = Counter()
    turns: list[tuple[int, Question]] = []
    for question in found:
        turns.append((seen[question.kind], question))
        seen[question.kind] += 1
    return [question for _, question in sorted(turns, key=lambda turn: turn[0])]
