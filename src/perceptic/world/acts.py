"""What the objects of a clip do from one frame that a model sees to the next, in a word each: "left", "grows"."""

from __future__ import annotations

from collections import Counter
from typing import Final

from perceptic.media.sampling import plm_indices
from perceptic.world.clip import Clip, Event

NUM_TOLD_FRAMES: Final = 8
"""Frames of a clip that PLM-Nano sees."""
STILL: Final = "still"
_LEAST_FRAMES: Final = 2
"""Of an event between two frames that a model sees, from which on it can be seen."""


def told_frames(clip: Clip) -> list[int]:
    """The frames of a clip that a model sees."""
    return plm_indices(clip.num_frames, clip.frames_per_second, NUM_TOLD_FRAMES)


def acts_between(clip: Clip, before: int, now: int) -> dict[int, str]:
    """Objects by their index, of those that do something between two frames."""
    lengths: Counter[int] = Counter()
    acts: dict[int, str] = {}
    for event in clip.events:
        length = _shared(event, before, now)
        if is_seen(event, before, now) and length > lengths[event.object_index]:
            lengths[event.object_index] = length
            acts[event.object_index] = act_word(event)
    return acts


def is_seen(event: Event, before: int, now: int) -> bool:
    """Whether enough of an event lies between two frames to be seen."""
    return _shared(event, before, now) >= _LEAST_FRAMES


def act_word(event: Event) -> str:
    """ "left", "clockwise", "grows"."""
    first, *rest = event.kind.split()
    return rest[0] if first in ("moves", "turns") else first


def _shared(event: Event, before: int, now: int) -> int:
    return min(event.end_frame, now) - max(event.start_frame, before)
