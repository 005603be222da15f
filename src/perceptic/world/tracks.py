"""Training rows that follow objects through a clip: where one is in a frame, and what it does from frame to frame.

What moves where, what comes first and when is nowhere in a single frame. A model of a few layers finds it in steps that
it writes down: the places of an object, then the answer behind a colon ("0 c four, 7 f four: right").
"""

from __future__ import annotations

from typing import Final

import numpy as np

from perceptic.world.acts import STILL, acts_between, told_frames
from perceptic.world.clip import MOVES, Clip, Event, scene_at
from perceptic.world.clip_questions import clip_questions, event_sentence
from perceptic.world.clip_rendering import RenderedClip
from perceptic.world.drills import about, time_turns, tube_times
from perceptic.world.places import place_words
from perceptic.world.plm_rows import Row, box_map, conversation
from perceptic.world.question import Question
from perceptic.world.randomness import pick, shuffled
from perceptic.world.scene import Scene
from perceptic.world.words import VISIBLE, colour_now

_PLACES: Final = 12
_READINGS: Final = 6
_GONE: Final = "gone"
_DIRECTIONS: Final = tuple(kind.split()[1] for kind in MOVES)


def video_places_row(path: str, clip: Clip, rng: np.random.Generator) -> Row | None:
    """Where objects are in single frames, asked in random order so that no answer is the one before."""
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


def video_tracks_row(path: str, clip: Clip, rng: np.random.Generator) -> Row | None:
    """Directions with the places that tell them, then one object's track or an order or a time with its tracks."""
    found = clip_questions(clip, rng)
    turns = [(one.question, _direction(clip, one)) for one in shuffled(rng, found) if one.answer in _DIRECTIONS]
    orders = [(one.question, f"{_both(clip, one)}: {one.answer}") for one in found if one.kind == "event_order"]
    times = time_turns(clip, rng, track_words)
    following = [options for options in (orders, times) if options]
    if following:
        turns.append(pick(rng, pick(rng, following)))
    return {"video": path, "conversations": about("video", turns)} if turns else None


def tube_tracks_row(path: str, clip: Clip, rendered: RenderedClip, rng: np.random.Generator) -> Row | None:
    """When the boxed object does something, told after its track; None where it does everything twice."""
    index = pick(rng, clip.events).object_index
    turns = tube_times(clip, index, rng, track_words)[:1]
    row = {"video": path, "bbox_map": box_map(rendered, index)}
    return {**row, "conversations": about("video", turns)} if turns else None


def track_reading_row(clip: Clip, rng: np.random.Generator) -> Row | None:
    """The same steps told in the questions, so that only what follows from them is to be learned; None if nothing does.

    What follows from a track is learned from texts for a fraction of what it takes with the clip.
    """
    found = clip_questions(clip, rng)
    steps = [(one.question, _direction(clip, one)) for one in found if one.answer in _DIRECTIONS]
    steps += [(one.question, f"{_both(clip, one)}: {one.answer}") for one in found if one.kind == "event_order"]
    steps += time_turns(clip, rng, track_words)
    told = [(ask, *steps_told.rsplit(": ", 1)) for ask, steps_told in shuffled(rng, steps)]
    turns = [(f"{ask} {steps_told}:", answer) for ask, steps_told, answer in told[:_READINGS]]
    return {"conversations": conversation(*turns)} if turns else None


def track_words(clip: Clip, index: int) -> str:
    """ "0 c four still, 1 d four right": place and act of an object in each frame that a model sees."""
    frames, told = told_frames(clip), []
    for number, (before, now) in enumerate(zip([frames[0], *frames], frames, strict=False)):
        item = scene_at(clip, now).objects[index]
        where = place_words(item) if item.opacity >= VISIBLE else _GONE
        told.append(f"{number} {where} {acts_between(clip, before, now).get(index, STILL)}")
    return ", ".join(told)


def _direction(clip: Clip, question: Question) -> str:
    index, frames = question.object_index, told_frames(clip)
    assert index is not None, "a direction is that of an object"
    items = [(number, scene_at(clip, frame).objects[index]) for number, frame in enumerate(frames)]
    seen = [(number, item) for number, item in items if item.opacity >= VISIBLE]
    ends = ", ".join(f"{number} {place_words(item)}" for number, item in (seen[0], seen[-1]))
    return f"{ends}: {question.answer}"


def _both(clip: Clip, question: Question) -> str:
    """The tracks of those whose events are compared, in the order of the clip."""
    indices: dict[int, None] = dict.fromkeys(event.object_index for event in _named(clip, question))
    return "; ".join(f"{clip.scene.objects[index].shape} {track_words(clip, index)}" for index in indices)


def _named(clip: Clip, question: Question) -> list[Event]:
    told = f"{question.question} {question.answer}"
    return [event for event in clip.events if event_sentence(clip, event) in told]


def _told_apart(scene: Scene) -> list[int]:
    names = [(colour_now(item), item.shape) for item in scene.objects]
    return [i for i, item in enumerate(scene.objects) if item.opacity >= VISIBLE and names.count(names[i]) == 1]
