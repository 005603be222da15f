"""Training rows that ask when something happens to a boxed object, told after what it was like in every frame.

Frames are told by halving, the first and the middle one before those between them: what the last line said is then
seldom what the next one has to, and where two frames differ it is plain that something happens between them.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from perceptic.text.region_prompts import rtloc_prompts
from perceptic.world.acts import told_frames
from perceptic.world.clip import Clip, Event, EventKind, scene_at
from perceptic.world.clip_rendering import RenderedClip
from perceptic.world.dense_captions import event_caption
from perceptic.world.drills import about
from perceptic.world.places import place_words
from perceptic.world.plm_rows import REGION_FRAMES, Row, box_map, region_frames
from perceptic.world.randomness import pick, shuffled
from perceptic.world.scene import SceneObject
from perceptic.world.vocabulary import SIZES
from perceptic.world.words import VISIBLE, colour_now

_HALVING: Final = (0, 4, 2, 6, 1, 3, 5, 7)
_GONE: Final = "gone"
_TURNS: Final[tuple[EventKind, ...]] = ("turns clockwise", "turns anticlockwise")
"""Of a turn, no word for a single frame tells anything."""


def video_moments_row(path: str, clip: Clip, rendered: RenderedClip, rng: np.random.Generator) -> Row | None:
    """When each of a boxed object's events happens, of those that happen once; None where there is none."""
    index = pick(rng, clip.events).object_index
    own = [event for event in clip.events if event.object_index == index]
    told = [event_caption(event) for event in own]
    once = [event for event, caption in zip(own, told, strict=True) if told.count(caption) == 1]
    turns = [_when(clip, event, rng) for event in shuffled(rng, once)]
    if not turns:
        return None
    return {"video": path, "bbox_map": box_map(rendered, index), "conversations": about("video", turns)}


def _when(clip: Clip, event: Event, rng: np.random.Generator) -> tuple[str, str]:
    ask = pick(rng, rtloc_prompts(REGION_FRAMES)).format(caption=event_caption(event).removesuffix("."))
    answer = f"[{region_frames(clip, event.start_frame)}, {region_frames(clip, event.end_frame)}]"
    return ask, answer if event.kind in _TURNS else f"{_states(clip, event)}: {answer}"


def _states(clip: Clip, event: Event) -> str:
    frames = told_frames(clip)
    items = [scene_at(clip, frame).objects[event.object_index] for frame in frames]
    return ", ".join(f"{number} {_state(items[number], event.kind)}" for number in _HALVING if number < len(items))


def _state(item: SceneObject, kind: EventKind) -> str:
    """What the event changes."""
    if item.opacity < VISIBLE:
        return _GONE
    if kind in ("grows", "shrinks"):
        return min(SIZES, key=lambda size: abs(SIZES[size] - item.radius))
    return colour_now(item) if kind == "changes colour" else place_words(item)
