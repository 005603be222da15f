"""A short clip as plain frozen data: a first scene and events with start and end, and the scene at every frame."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

from perceptic.world.scene import Scene, SceneObject
from perceptic.world.scene import flip_scene as _flip_scene
from perceptic.world.scene import is_flip_safe as _is_flip_safe

EventKind = Literal[
    "moves left", "moves right", "moves up", "moves down", "grows", "shrinks", "turns clockwise", "turns anticlockwise",
    "appears", "disappears", "changes colour", "bounces", "shakes",
]  # fmt: skip
EVENT_KINDS: Final[tuple[EventKind, ...]] = get_args(EventKind)
MOVES: Final[tuple[EventKind, ...]] = ("moves left", "moves right", "moves up", "moves down")

_REVERSED: Final[dict[EventKind, EventKind]] = {
    "moves left": "moves right", "moves right": "moves left", "moves up": "moves down", "moves down": "moves up",
    "grows": "shrinks", "shrinks": "grows", "turns clockwise": "turns anticlockwise",
    "turns anticlockwise": "turns clockwise", "appears": "disappears", "disappears": "appears",
    "changes colour": "changes colour", "bounces": "bounces", "shakes": "shakes",
}  # fmt: skip
_FLIPPED: Final[dict[EventKind, EventKind]] = {
    "moves left": "moves right", "moves right": "moves left",
    "turns clockwise": "turns anticlockwise", "turns anticlockwise": "turns clockwise",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Event:
    """Something one object does. At `start_frame` it still is `before`, at `end_frame` it first is `after`; for
    "bounces" and "shakes" both are the same and `amplitude` says how far it goes (unit coordinates)."""

    object_index: int
    kind: EventKind
    start_frame: int
    end_frame: int
    before: SceneObject
    after: SceneObject
    amplitude: float = 0.0


@dataclass(frozen=True, slots=True)
class Clip:
    """`scene` is the first frame; `events` are sorted by start and never overlap in time."""

    scene: Scene
    events: tuple[Event, ...]
    num_frames: int
    frames_per_second: float = 8.0

    @property
    def duration_seconds(self) -> float:
        return self.num_frames / self.frames_per_second

    def start_seconds(self, event: Event) -> float:
        """When `event` begins, in seconds from the first frame."""
        return event.start_frame / self.frames_per_second

    def end_seconds(self, event: Event) -> float:
        """When `event` is over, in seconds from the first frame."""
        return event.end_frame / self.frames_per_second


def scene_at(clip: Clip, frame: int) -> Scene:
    """The scene shown at a frame, 0 to num_frames - 1."""
    objects = list(clip.scene.objects)
    for event in clip.events:
        if frame >= event.end_frame:
            objects[event.object_index] = event.after
        elif frame > event.start_frame:
            objects[event.object_index] = _during(event, frame)
    return replace(clip.scene, objects=tuple(objects))


def reverse_clip(clip: Clip) -> Clip:
    """The clip played backwards: its frames are exactly the original's in reverse, its events the opposite ones.

    The pair is the control for order blindness: the same set of frames, another story.
    """
    last = clip.num_frames - 1
    events = tuple(
        replace(
            event,
            kind=_REVERSED[event.kind],
            start_frame=last - event.end_frame,
            end_frame=last - event.start_frame,
            before=event.after,
            after=event.before,
        )
        for event in reversed(clip.events)
    )
    return replace(clip, scene=scene_at(clip, last), events=events)


def flip_clip(clip: Clip) -> Clip:
    """The clip mirrored left to right, its text still readable; see `flip_scene`."""
    events = tuple(
        replace(
            event,
            kind=_FLIPPED.get(event.kind, event.kind),
            before=_flipped(clip.scene, event.before),
            after=_flipped(clip.scene, event.after),
        )
        for event in clip.events
    )
    return replace(clip, scene=_flip_scene(clip.scene), events=events)


def is_clip_flip_safe(clip: Clip) -> bool:
    """Whether mirrored pixels still show the same objects (no text)."""
    return _is_flip_safe(clip.scene)


def _flipped(scene: Scene, item: SceneObject) -> SceneObject:
    return _flip_scene(replace(scene, objects=(item,))).objects[0]


def _during(event: Event, frame: int) -> SceneObject:
    steps, length = frame - event.start_frame, event.end_frame - event.start_frame
    before, after = event.before, event.after
    if event.kind == "bounces":
        return replace(before, y=round(before.y - event.amplitude * _hops(steps, length), 12))
    if event.kind == "shakes":
        return replace(before, x=round(before.x + event.amplitude * _swing(steps, length), 12))
    if event.kind == "changes colour":
        return replace(before, next_colour=after.colour, colour_change=round(steps / length, 12))
    return replace(
        before,
        x=_mix(before.x, after.x, steps, length),
        y=_mix(before.y, after.y, steps, length),
        radius=_mix(before.radius, after.radius, steps, length),
        rotation=_mix(before.rotation, after.rotation, steps, length),
        opacity=_mix(before.opacity, after.opacity, steps, length),
    )


def _mix(start: float, end: float, steps: int, length: int) -> float:
    # Rounded, so that playing backwards gives the same number and so the same pixels.
    return round(start + (end - start) * (steps / length), 12)


def _hops(steps: int, length: int) -> float:
    """Two parabolic hops of height 1, symmetric in time."""
    position = 2.0 * steps / length
    position -= int(position)
    return 4.0 * position * (1.0 - position)


def _swing(steps: int, length: int) -> float:
    """Out to one side, to the other and back out: three half swings, symmetric in time."""
    position = 3.0 * steps / length
    half = int(position)
    position -= half
    return (1.0 if half % 2 == 0 else -1.0) * 4.0 * position * (1.0 - position)
