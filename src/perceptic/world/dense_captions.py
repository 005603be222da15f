"""An object's story as captioned segments that cover its clip without gaps."""

from __future__ import annotations

from dataclasses import dataclass

from perceptic.world.clip import Clip, Event
from perceptic.world.clip_captioning import action_phrase
from perceptic.world.scene import SceneObject
from perceptic.world.wording import sentence

OUT_OF_FRAME = "Out of frame"


@dataclass(frozen=True, slots=True)
class Segment:
    """`caption` holds from `start_frame` to `end_frame`, both frames of the clip."""

    start_frame: int
    end_frame: int
    caption: str


def event_caption(event: Event) -> str:
    """ "The red star moves left." """
    return sentence(f"the {event.before.colour} {event.before.shape} {action_phrase(event)}")


def dense_segments(clip: Clip, object_index: int) -> tuple[Segment, ...]:
    """Segments of one object from frame 0 to the last, neighbours sharing their boundary frame."""
    segments: list[Segment] = []
    position, state = 0, clip.scene.objects[object_index]
    for event in clip.events:
        if event.object_index != object_index:
            continue
        if event.start_frame > position:
            segments.append(Segment(position, event.start_frame, _rest(state)))
        segments.append(Segment(event.start_frame, event.end_frame, event_caption(event)))
        position, state = event.end_frame, event.after
    last = clip.num_frames - 1
    if position < last:
        segments.append(Segment(position, last, _rest(state)))
    return tuple(segments)


def _rest(state: SceneObject) -> str:
    return OUT_OF_FRAME if state.opacity == 0.0 else sentence(f"the {state.colour} {state.shape} stays still")
