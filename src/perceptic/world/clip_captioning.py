"""Exact captions of clips at three lengths: who does what, in which order."""

from __future__ import annotations

from typing import Final

import numpy as np

from perceptic.world.caption_noise import CaptionNoise, misdescribe_clip
from perceptic.world.captioning import MAX_LONG_TOKENS, Captions, count_tokens
from perceptic.world.clip import Clip, Event, EventKind, scene_at
from perceptic.world.randomness import chance, pick, seeded
from perceptic.world.scene import SceneObject
from perceptic.world.wording import (
    background_phrase,
    brief_noun_phrase,
    joined,
    noun_phrase,
    reference,
    sentence,
    sign_phrase,
)

ACTION_WORDS: Final[dict[EventKind, tuple[str, ...]]] = {
    "moves left": ("moves left", "moves to the left", "slides left"),
    "moves right": ("moves right", "moves to the right", "slides right"),
    "moves up": ("moves up", "rises"),
    "moves down": ("moves down", "sinks"),
    "grows": ("grows", "gets bigger"),
    "shrinks": ("shrinks", "gets smaller"),
    "turns clockwise": ("turns clockwise", "spins clockwise"),
    "turns anticlockwise": ("turns anticlockwise", "spins anticlockwise"),
    "appears": ("appears", "fades in"),
    "disappears": ("disappears", "fades out"),
    "changes colour": ("turns", "changes colour to", "becomes"),
    "bounces": ("bounces", "hops up and down"),
    "shakes": ("shakes", "wobbles from side to side"),
}
_THEN: Final = ("then", "after that", "next")


def clip_captions(clip: Clip, seed: int | np.random.Generator = 0, *, noise: CaptionNoise | None = None) -> Captions:
    """Describe a clip in words chosen by `seed`.

    short: one or two events. medium: every event in order. long: also size, texture and text of every object, those
    that stay still, the background and the sign. With `noise`, facts and events may be missing or wrong.
    """
    rng = seeded(seed, "clip captions")
    if noise is not None:
        clip = misdescribe_clip(clip, rng, noise)
    return Captions(_short(clip, rng), _medium(clip, rng), _long(clip, rng))


def action_phrase(event: Event, rng: np.random.Generator | None = None) -> str:
    """What happens, without the actor: "moves left", "changes colour to blue". Canonical wording without `rng`."""
    words = ACTION_WORDS[event.kind]
    phrase = words[0] if rng is None else pick(rng, words)
    return f"{phrase} {event.after.colour}" if event.kind == "changes colour" else phrase


def actor_reference(clip: Clip, event: Event) -> str:
    """ "the star" or, among several stars, "the red star": its colour as the event begins."""
    now = scene_at(clip, event.start_frame).objects
    return reference(event.before, [item for index, item in enumerate(now) if index != event.object_index])


def _short(clip: Clip, rng: np.random.Generator) -> str:
    first = int(rng.random() * len(clip.events))
    chosen = clip.events[first : first + pick(rng, (1, 1, 2))]
    text = _story(clip, chosen, rng, size=chance(rng, 0.2), texture=False)
    return pick(rng, ("", "", "", "a video of how ", "a clip where ")) + text


def _medium(clip: Clip, rng: np.random.Generator) -> str:
    events = clip.events
    size, texture = chance(rng, 0.4), chance(rng, 0.4)
    if len(events) == 2 and chance(rng, 0.3):
        text = _pair(clip, events[0], events[1], rng, size=size, texture=texture)
    else:
        text = _story(clip, events, rng, size=size, texture=texture)
    still = _still(clip)
    if still and chance(rng, 0.5):
        text += f" while {joined([_mention(item, rng, size=size, texture=texture) for item in still])}"
        text += " stays still" if len(still) == 1 else " stay still"
    if clip.scene.sign is not None:
        text += f", with {sign_phrase(clip.scene.sign, rng)}"
    return text if chance(rng, 0.4) else sentence(text)


def _long(clip: Clip, rng: np.random.Generator) -> str:
    parts = [_story(clip, clip.events, rng, size=True, texture=True)]
    still = [_mention(item, rng, size=True, texture=True) for item in _still(clip)]
    if still:
        parts.append(f"{joined(still)} {pick(rng, _stay_words(len(still)))}")
    if _rests_at_end(clip):
        parts.append(pick(rng, ("then everything stops", "at the end nothing moves")))
    parts.append(f"the clip has {background_phrase(clip.scene.background, rng)}")
    if clip.scene.sign is not None:
        parts.append(f'the {clip.scene.sign.place} reads "{clip.scene.sign.text}"')
    text = " ".join(sentence(part) for part in parts)
    return text if count_tokens(text) <= MAX_LONG_TOKENS else _long_list(clip)


def _long_list(clip: Clip) -> str:
    """The same facts in the fewest words, for crowded clips."""
    parts: list[str] = []
    seen: set[int] = set()
    for event in clip.events:
        known = event.object_index in seen
        actor = actor_reference(clip, event).removeprefix("the ") if known else brief_noun_phrase(event.before)
        parts.append(f"{actor} {action_phrase(event)}")
        seen.add(event.object_index)
    parts += [f"{brief_noun_phrase(item)} stays" for item in _still(clip)]
    background = clip.scene.background
    colours = " and ".join(dict.fromkeys((background.colour, background.second_colour)))
    parts.append(f"{background.pattern} {colours} background")
    if clip.scene.sign is not None:
        parts.append(f'{clip.scene.sign.place} reads "{clip.scene.sign.text}"')
    return sentence(", ".join(parts))


def _story(clip: Clip, events: tuple[Event, ...], rng: np.random.Generator, *, size: bool, texture: bool) -> str:
    """The events in order; an actor is introduced once and then referred to."""
    parts: list[str] = []
    seen: set[int] = set()
    for place, event in enumerate(events):
        same = place > 0 and events[place - 1].object_index == event.object_index
        if event.object_index not in seen:
            actor = _mention(event.before, rng, size=size, texture=texture)
        else:
            actor = "" if same and chance(rng, 0.5) else "it" if same else actor_reference(clip, event)
        seen.add(event.object_index)
        clause = f"{actor} {action_phrase(event, rng)}".strip()
        if place == 0:
            parts.append(clause)
        elif place == len(events) - 1 and len(events) > 2 and chance(rng, 0.5):
            parts.append(f"and finally {clause}")
        else:
            parts.append(f"{'and ' if not actor else ''}{pick(rng, _THEN) if actor else 'then'} {clause}")
    return ", ".join(parts)


def _pair(clip: Clip, first: Event, second: Event, rng: np.random.Generator, *, size: bool, texture: bool) -> str:
    """Two events, told with "before" or "after"."""
    one = f"{_mention(first.before, rng, size=size, texture=texture)} {action_phrase(first, rng)}"
    if first.object_index == second.object_index:
        actor = "it"
    else:
        actor = _mention(second.before, rng, size=size, texture=texture)
    two = f"{actor} {action_phrase(second, rng)}"
    return pick(rng, (f"{one} before {two}", f"after {one}, {two}"))


def _mention(item: SceneObject, rng: np.random.Generator, *, size: bool, texture: bool) -> str:
    return noun_phrase(item, rng, size=size, texture=texture, text=True)


def _still(clip: Clip) -> list[SceneObject]:
    """Objects that do nothing."""
    actors = {event.object_index for event in clip.events}
    return [item for index, item in enumerate(clip.scene.objects) if index not in actors]


def _rests_at_end(clip: Clip) -> bool:
    last = max((event.end_frame for event in clip.events), default=0)
    return clip.num_frames - 1 - last >= max(4, clip.num_frames // 5)


def _stay_words(count: int) -> tuple[str, ...]:
    return ("stays still", "does not move") if count == 1 else ("stay still", "do not move")
