"""Random clips: which object does what, and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from perceptic.errors import ConfigError
from perceptic.world.clip import EVENT_KINDS, Clip, Event, EventKind
from perceptic.world.placement import Band, resized
from perceptic.world.randomness import between, chance, pick, seeded, shuffled, whole
from perceptic.world.sampling import allowed_pairs, band_beside, sample_scene, stands_out
from perceptic.world.scene import Background, SceneObject
from perceptic.world.vocabulary import COLOURS, SIZES, Split, check_split

MIN_EVENT_FRAMES: Final = 4
MAX_EVENTS: Final = 4
_FADE_FRAMES: Final = 4
_APART: Final = 0.9
_SIZE_ORDER: Final = tuple(SIZES)
_ROUND_SHAPES: Final = frozenset({"circle", "ring"})
_DIRECTIONS: Final[dict[EventKind, tuple[int, int]]] = {
    "moves left": (-1, 0), "moves right": (1, 0), "moves up": (0, -1), "moves down": (0, 1),
}  # fmt: skip


def sample_clip(
    seed: int | np.random.Generator,
    split: str = "train",
    *,
    num_frames: int | None = None,
    frames_per_second: float = 8.0,
    num_objects: int | None = None,
    num_events: int | None = None,
    kinds: Sequence[EventKind] = EVENT_KINDS,
) -> Clip:
    """A random clip of a split; colour changes respect the split's pairs.

    Args:
        seed: a number or a generator, as for `sample_scene`; clips and scenes of equal seeds share nothing.
        split: as for `sample_scene`.
        num_frames: at least 8; with None 16 to 32.
        frames_per_second: frame rate, above 0.
        num_objects: 1 to 4; with None 1 to 3.
        num_events: 1 to 4 at most, as far as frames and room allow; with None at random.
        kinds: event kinds to draw from.

    Raises:
        ConfigError: unknown split or kinds, or numbers out of range.
    """
    known = check_split(split)
    _check(num_frames, frames_per_second, num_objects, num_events, kinds)
    rng = seeded(seed, "clip", known)
    while True:
        frames = num_frames or whole(rng, 16, 32)
        count = num_objects or whole(rng, 1, 3)
        layout = "single" if count == 1 else "objects"
        scene = sample_scene(rng, known, num_objects=count, layout=layout, text_fraction=0.12)
        script = _Script(rng, known, scene.background, band_beside(scene.sign), list(scene.objects), tuple(kinds))
        events = script.write(frames, num_events)
        if events:
            first = {event.object_index: event.before for event in reversed(events)}
            objects = tuple(first.get(index, item) for index, item in enumerate(scene.objects))
            return Clip(replace(scene, objects=objects), tuple(events), frames, frames_per_second)


def _check(
    num_frames: int | None,
    frames_per_second: float,
    num_objects: int | None,
    num_events: int | None,
    kinds: Sequence[EventKind],
) -> None:
    if num_frames is not None and num_frames < 8:
        raise ConfigError(f"num_frames {num_frames}: a clip needs at least 8 frames to show an event")
    if frames_per_second <= 0:
        raise ConfigError(f"frames_per_second {frames_per_second}: give a number above 0")
    if num_objects is not None and not 1 <= num_objects <= 4:
        raise ConfigError(f"num_objects {num_objects}: a clip holds 1 to 4 objects")
    if num_events is not None and not 1 <= num_events <= MAX_EVENTS:
        raise ConfigError(f"num_events {num_events}: a clip holds 1 to {MAX_EVENTS} events")
    for kind in kinds:
        if kind not in EVENT_KINDS:
            raise ConfigError(f"event kind '{kind}' does not exist; choose from {', '.join(EVENT_KINDS)}")
    if not set(kinds) - {"appears", "disappears"}:
        raise ConfigError("kinds needs at least one event that an object can do alone; add 'moves left' or another")


@dataclass(slots=True)
class _Script:
    """Writes events one after another onto the current state of the objects."""

    rng: np.random.Generator
    split: Split
    background: Background
    band: Band
    objects: list[SceneObject]
    kinds: tuple[EventKind, ...]

    def write(self, num_frames: int, num_events: int | None) -> list[Event]:
        room = (num_frames - 1) // (MIN_EVENT_FRAMES + 1)
        wanted = min(num_events or whole(self.rng, 1, min(MAX_EVENTS, room)), max(room, 1))
        events: list[Event] = []
        hidden = self._hide_one(wanted)
        last_kind: dict[int, EventKind] = {}
        for index, (start, end) in enumerate(self._slots(num_frames, wanted)):
            must_appear = hidden if hidden is not None and index == wanted - 1 else None
            event = self._event(start, end, last_kind, must_appear)
            if event is None:
                continue
            if event.kind == "appears":
                hidden = None
            last_kind[event.object_index] = event.kind
            self.objects[event.object_index] = event.after
            events.append(event)
        # Somebody who never appeared would be described by nothing: such a script is thrown away.
        return (
            []
            if any(item.opacity == 0.0 and index not in last_kind for index, item in enumerate(self.objects))
            else events
        )

    def _hide_one(self, wanted: int) -> int | None:
        if "appears" not in self.kinds or len(self.objects) < 2 or not chance(self.rng, 0.3):
            return None
        index = whole(self.rng, 0, len(self.objects) - 1)
        self.objects[index] = replace(self.objects[index], opacity=0.0)
        return index

    def _slots(self, num_frames: int, count: int) -> list[tuple[int, int]]:
        """`count` intervals in order, of at least MIN_EVENT_FRAMES, with the spare frames spread over them and
        between them at random."""
        spare = num_frames - 1 - count * MIN_EVENT_FRAMES
        shares = [0] * (2 * count + 1)
        for _ in range(spare):
            shares[whole(self.rng, 0, 2 * count)] += 1
        slots, position = [], 0
        for index in range(count):
            start = position + shares[2 * index]
            position = start + MIN_EVENT_FRAMES + shares[2 * index + 1]
            slots.append((start, position))
        return slots

    def _event(self, start: int, end: int, last_kind: dict[int, EventKind], must_appear: int | None) -> Event | None:
        if must_appear is not None:
            return self._attempt(must_appear, "appears", start, end)
        for index in shuffled(self.rng, range(len(self.objects))):
            # Moves count twice: they need more room and would else be rarer than the rest.
            for kind in shuffled(self.rng, [*self.kinds, *(kind for kind in self.kinds if kind in _DIRECTIONS)]):
                # The same act twice in a row would read as one.
                event = None if last_kind.get(index) == kind else self._attempt(index, kind, start, end)
                if event is not None:
                    return event
        return None

    def _attempt(self, index: int, kind: EventKind, start: int, end: int) -> Event | None:
        item = self.objects[index]
        if (item.opacity == 0.0) != (kind == "appears"):
            return None
        amplitude = self._amplitude(item, kind) if kind in ("bounces", "shakes") else 0.0
        after = item if amplitude else self._after(index, item, kind)
        if after is None or (kind in ("bounces", "shakes") and not amplitude):
            return None
        if kind in ("appears", "disappears", "changes colour"):
            end = start + _FADE_FRAMES
        return Event(index, kind, start, end, item, after, amplitude)

    def _after(self, index: int, item: SceneObject, kind: EventKind) -> SceneObject | None:
        """The object's state when the event is over, None if it has no room or reason for it."""
        if kind in _DIRECTIONS:
            return self._moved(index, item, *_DIRECTIONS[kind])
        if kind in ("grows", "shrinks"):
            return self._sized(index, item, 1 if kind == "grows" else -1)
        if kind in ("turns clockwise", "turns anticlockwise"):
            turn = between(self.rng, 120.0, 220.0) * (1 if kind == "turns clockwise" else -1)
            return None if item.shape in _ROUND_SHAPES else replace(item, rotation=round(item.rotation + turn, 3))
        if kind == "changes colour":
            return self._recoloured(index, item)
        if kind == "appears":
            return replace(item, opacity=1.0) if self._has_room(index, item) else None
        # Somebody must stay to be seen.
        shown = sum(other.opacity > 0 for other in self.objects)
        return replace(item, opacity=0.0) if shown > 1 else None

    def _moved(self, index: int, item: SceneObject, right: int, down: int) -> SceneObject | None:
        margin = item.radius + 0.01
        room = {
            (-1, 0): item.x - margin,
            (1, 0): 1.0 - margin - item.x,
            (0, -1): item.y - margin - self.band.top,
            (0, 1): self.band.bottom - margin - item.y,
        }[(right, down)]
        if room < 0.2:
            return None
        for _ in range(6):
            distance = between(self.rng, 0.2, min(room, 0.65))
            there = replace(item, x=round(item.x + right * distance, 5), y=round(item.y + down * distance, 5))
            if self._has_room(index, there):
                return there
        return None

    def _sized(self, index: int, item: SceneObject, step: int) -> SceneObject | None:
        target = _SIZE_ORDER.index(item.size) + step
        if not 0 <= target < len(_SIZE_ORDER) or (step < 0 and item.text):
            return None
        there = resized(item, _SIZE_ORDER[target])
        return there if self._in_frame(there) and self._has_room(index, there) else None

    def _recoloured(self, index: int, item: SceneObject) -> SceneObject | None:
        taken = {(other.colour, other.shape) for place, other in enumerate(self.objects) if place != index}
        choices = [
            colour
            for colour in COLOURS
            if colour != item.colour
            and (colour, item.shape) in allowed_pairs(self.split)
            and (colour, item.shape) not in taken
            and stands_out(colour, self.background)
        ]
        return replace(item, colour=pick(self.rng, choices)) if choices else None

    def _amplitude(self, item: SceneObject, kind: EventKind) -> float:
        """How far the object can swing, 0 if there is too little room."""
        if kind == "bounces":
            room = item.y - item.radius - self.band.top
            return round(min(room, between(self.rng, 0.14, 0.26)), 4) if room >= 0.12 else 0.0
        room = min(item.x, 1.0 - item.x) - item.radius
        return round(min(room, between(self.rng, 0.07, 0.1)), 4) if room >= 0.06 else 0.0

    def _in_frame(self, item: SceneObject) -> bool:
        sideways = item.radius <= item.x <= 1.0 - item.radius
        return sideways and self.band.top + item.radius <= item.y <= self.band.bottom - item.radius

    def _has_room(self, index: int, item: SceneObject) -> bool:
        """Whether nobody visible stands there; passing in front of others on the way is allowed."""
        for place, other in enumerate(self.objects):
            if place == index or other.opacity == 0.0:
                continue
            distance = ((item.x - other.x) ** 2 + (item.y - other.y) ** 2) ** 0.5
            if distance < _APART * (item.radius + other.radius):
                return False
        return True
