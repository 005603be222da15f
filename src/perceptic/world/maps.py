"""Training rows that answer for every patch of a picture or clip: which object is there, or what it does.

A word a patch, in the order of the patches, so that the word for a patch stands as far from it as every other: to look
there is the first thing that a decoder learns of looking, and a tower learns what each of its patches shows. Questions
about objects find out much later where to look (docs/plm-nano.md).
"""

from __future__ import annotations

from collections import Counter
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from perceptic.media.sampling import plm_indices
from perceptic.world.clip import Clip, Event
from perceptic.world.clip_rendering import RenderedClip
from perceptic.world.drills import about
from perceptic.world.plm_rows import Row, box_fields, boxed_singles
from perceptic.world.randomness import chance, pick, shuffled
from perceptic.world.rendering import Rendered
from perceptic.world.scene import Scene, SceneObject
from perceptic.world.transcripts import boxes_turn
from perceptic.world.words import NUM_TOLD_FRAMES, cell_of

MAP_SIDE: Final = 8
"""Rows and columns of a map: the patches of PLM-Nano's pictures."""

_COLUMNS: Final = tuple("abcdefgh")
_ROWS: Final = ("one", "two", "three", "four", "five", "six", "seven", "eight")
_EMPTY: Final = "background"
_STILL: Final = "still"
_LEAST_SHARE: Final = 1 / 3
"""Of a patch, from which on it shows an object."""
_LEAST_FRAMES: Final = 2
"""Of an event between two frames that a model sees, from which on it can be seen."""

_Attribute = Literal["shape", "colour", "size", "texture"]
_MAIN: Final[tuple[_Attribute, ...]] = ("shape", "colour")
_OTHERS: Final[tuple[_Attribute, ...]] = ("size", "texture")


def image_map_row(path: str, scene: Scene, rendered: Rendered, rng: np.random.Generator) -> Row | None:
    """Two maps of what is where: shapes and colours, or one of them and sizes or textures; None for a chart."""
    if scene.chart is not None or not scene.objects:
        return None
    owners = _owners(rendered.owners, len(scene.objects))
    other = pick(rng, _OTHERS) if chance(rng, 0.4) else None
    chosen: list[_Attribute] = [*_MAIN] if other is None else [pick(rng, _MAIN), other]
    turns = [(f"Which {kind} is where?", _image_map(owners, scene, kind)) for kind in shuffled(rng, chosen)]
    return {"image": path, "conversations": about("image", turns)}


def image_patches_row(path: str, scene: Scene, rendered: Rendered) -> Row | None:
    """Everything about every patch, its column (a to h) and row (one to eight) too; None for a chart.

    Each answer has one word a patch, as `data.patch_words` needs it.
    """
    if scene.chart is not None or not scene.objects:
        return None
    owners = _owners(rendered.owners, len(scene.objects))
    told = [(f"Which {kind} is where?", _image_map(owners, scene, kind)) for kind in (*_MAIN, *_OTHERS)]
    told.append(("Which column is where?", " ".join(_COLUMNS * MAP_SIDE)))
    told.append(("Which row is where?", " ".join(row for row in _ROWS for _ in range(MAP_SIDE))))
    return {"image": path, "conversations": about("image", told)}


def image_places_row(path: str, scene: Scene, rendered: Rendered, rng: np.random.Generator) -> Row | None:
    """Where objects are, in the words that their patches have for column and row: all of them in order, one after the
    other, or with their boxes. None where no object is the only one of its kind.

    Between a box and a name stands the place, because that is the way from one to the other.
    """
    found = boxed_singles(scene, rendered)
    if not found:
        return None
    chosen = shuffled(rng, found)
    told = [(place_words(item), f"{item.colour} {item.shape}") for item, _ in chosen]
    form = pick(rng, ("names", "questions", "boxes", "boxes", "found"))
    match form:
        case "names":
            turns = [("Which object is in which column and row?", ", ".join(f"{name} {place}" for place, name in told))]
        case "questions":
            turns = [(f"In which column and row is the {name}?", place) for place, name in told]
        case _:
            turns = [boxes_turn(told, boxes_first=form == "boxes")]
    fields = box_fields(rendered, [box for _, box in chosen]) if form in ("boxes", "found") else {}
    return {"image": path, "conversations": about("image", turns), **fields}


def place_words(item: SceneObject) -> str:
    """Column and row of an object's middle, as its patch has them: "c four"."""
    column, row = cell_of(item, MAP_SIDE)
    return f"{_COLUMNS[column]} {_ROWS[row]}"


def video_map_row(path: str, clip: Clip, rendered: RenderedClip) -> Row:
    """What every object does since the frame before, a map for each frame that a model sees but the first."""
    frames = plm_indices(clip.num_frames, clip.frames_per_second, NUM_TOLD_FRAMES)
    owners = [_owners(rendered.owners[frame], len(clip.scene.objects)) for frame in frames]
    told: list[str] = []
    for place in range(1, len(frames)):
        acts = _acts(clip, frames[place - 1], frames[place])
        told += _frame_map(owners[place], owners[place - 1], acts)
    return {"video": path, "conversations": about("video", [("What happens where?", " ".join(told))])}


def _image_map(owners: NDArray[np.int64], scene: Scene, kind: _Attribute) -> str:
    return " ".join(_EMPTY if owner < 0 else str(getattr(scene.objects[owner], kind)) for owner in owners)


def _owners(owners: NDArray[np.int16], num_objects: int) -> NDArray[np.int64]:
    """The object of each patch, row by row, or -1: the one that covers most of it, and enough."""
    rows, columns = (np.arange(MAP_SIDE) * length // MAP_SIDE for length in owners.shape)
    masks = (owners == np.arange(num_objects)[:, None, None]).astype(np.int64)
    counts = np.add.reduceat(np.add.reduceat(masks, rows, axis=1), columns, axis=2).reshape(num_objects, -1)
    covered = counts * MAP_SIDE**2 / owners.size
    found: NDArray[np.int64] = np.where(covered.max(axis=0) >= _LEAST_SHARE, covered.argmax(axis=0), -1)
    return found


def _acts(clip: Clip, before: int, now: int) -> dict[int, str]:
    """What each object does between two frames."""
    lengths: Counter[int] = Counter()
    acts: dict[int, str] = {}
    for event in clip.events:
        length = min(event.end_frame, now) - max(event.start_frame, before)
        if length >= _LEAST_FRAMES and length > lengths[event.object_index]:
            lengths[event.object_index] = length
            acts[event.object_index] = _act(event)
    return acts


def _act(event: Event) -> str:
    """One word: "left", "clockwise", "grows"."""
    first, *rest = event.kind.split()
    return rest[0] if first in ("moves", "turns") else first


def _frame_map(owners: NDArray[np.int64], owners_before: NDArray[np.int64], acts: dict[int, str]) -> list[str]:
    words = []
    for owner, previous in zip(owners, owners_before, strict=True):
        if owner >= 0:
            words.append(acts.get(owner, _STILL))
        else:
            # Who is gone is told of where it was.
            words.append("disappears" if acts.get(previous) == "disappears" else _EMPTY)
    return words
