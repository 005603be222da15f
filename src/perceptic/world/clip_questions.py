"""Questions about clips: who does what, in which direction and order, and when."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import numpy as np

from perceptic.world.clip import EVENT_KINDS, MOVES, Clip, Event, EventKind, scene_at
from perceptic.world.clip_captioning import action_phrase, actor_reference
from perceptic.world.question import Question
from perceptic.world.randomness import chance, shuffled
from perceptic.world.vocabulary import COLOURS, SIZES
from perceptic.world.wording import reference

DIRECTIONS: Final = ("left", "right", "up", "down")
_TURNS: Final = ("clockwise", "anticlockwise")
_BARE_FORMS: Final[dict[EventKind, str]] = {
    "moves left": "move left", "moves right": "move right", "moves up": "move up", "moves down": "move down",
    "grows": "grow", "shrinks": "shrink", "turns clockwise": "turn clockwise",
    "turns anticlockwise": "turn anticlockwise", "appears": "appear", "disappears": "disappear",
    "changes colour": "change colour", "bounces": "bounce", "shakes": "shake",
}  # fmt: skip


def clip_questions(clip: Clip, rng: np.random.Generator) -> list[Question]:
    """All questions of a clip."""
    found = [question for event in clip.events for question in _about_event(clip, event)]
    for first, second in pairwise(clip.events):
        found += _about_order(clip, first, second, rng)
    return found + _about_end(clip) + _about_stillness(clip)


def event_sentence(clip: Clip, event: Event) -> str:
    """ "the red star moves left", canonical wording."""
    return f"{actor_reference(clip, event)} {action_phrase(event)}"


def interval_answer(clip: Clip, event: Event) -> str:
    """ "[0.5, 1.6]": start and end in seconds, one decimal."""
    return f"[{clip.start_seconds(event):.1f}, {clip.end_seconds(event):.1f}]"


def _about_event(clip: Clip, event: Event) -> list[Question]:
    actor, index = actor_reference(clip, event), event.object_index
    own = [other for other in clip.events if other.object_index == index]
    found = []
    moves = [other for other in own if other.kind in MOVES]
    if moves == [event]:
        direction = event.kind.split()[1]
        found.append(Question("motion_direction", f"Which way does {actor} move?", direction, DIRECTIONS, index))
    turns = [other for other in own if other.kind.startswith("turns")]
    if turns == [event]:
        sense = event.kind.split()[1]
        found.append(Question("motion_direction", f"Which way does {actor} turn?", sense, _TURNS, index))
    if own == [event]:
        found.append(Question("event_kind", f"What does {actor} do?", event.kind, EVENT_KINDS, index))
    if sum(other.kind == event.kind for other in clip.events) == 1:
        question = f"Which object {event.kind}?"
        found.append(Question("event_actor", question, f"{event.before.colour} {event.before.shape}", (), index))
    if sum(other.kind == event.kind for other in own) == 1:
        question = f"When does {actor} {_BARE_FORMS[event.kind]}? Give start and end in seconds as [start, end]."
        found.append(Question("event_interval", question, interval_answer(clip, event), (), index))
    return found


def _about_order(clip: Clip, first: Event, second: Event, rng: np.random.Generator) -> list[Question]:
    one, two = event_sentence(clip, first), event_sentence(clip, second)
    if one == two or sum(event_sentence(clip, event) in (one, two) for event in clip.events) > 2:
        return []
    choices = tuple(shuffled(rng, (one, two)))
    wanted = "first" if chance(rng, 0.5) else "last"
    question = f"What happens {wanted} of these: {choices[0]}, or {choices[1]}?"
    found = [Question("event_order", question, one if wanted == "first" else two, choices)]
    others = {event_sentence(clip, event) for event in clip.events} | {one, two}
    found.append(Question("event_order", f"What happens right after {one}?", two, tuple(sorted(others - {one}))))
    return found


def _about_end(clip: Clip) -> list[Question]:
    found = []
    last = scene_at(clip, clip.num_frames - 1).objects
    for index, (before, after) in enumerate(zip(clip.scene.objects, last, strict=True)):
        if after.opacity == 0.0:
            continue
        others = [item for place, item in enumerate(last) if place != index and item.opacity > 0.0]
        actor = reference(after, others)
        if before.colour != after.colour and actor == f"the {after.shape}":
            question = f"What colour is {actor} at the end?"
            found.append(Question("final_state", question, after.colour, tuple(COLOURS), index))
        if before.size != after.size:
            question = f"What size is {actor} at the end?"
            found.append(Question("final_state", question, after.size, tuple(SIZES), index))
    return found


def _about_stillness(clip: Clip) -> list[Question]:
    actors = {event.object_index for event in clip.events}
    still = [index for index in range(len(clip.scene.objects)) if index not in actors]
    if len(still) != 1:
        return []
    item = clip.scene.objects[still[0]]
    question = "Which object does nothing?"
    return [Question("stillness", question, f"{item.colour} {item.shape}", (), still[0])]
