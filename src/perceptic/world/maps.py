"""Training rows that answer for every patch of a picture or clip: which object is there, or what it does.

A word a patch, in the order of the patches, so that the word for a patch stands as far from it as every other: to look
there is the first thing that a decoder learns of looking, and a tower learns what each of its patches shows. Questions
about objects find out much later where to look (docs/plm-nano.md).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from perceptic.world.acts import told_frames
from perceptic.world.clip import Clip, scene_at
from perceptic.world.clip_rendering import RenderedClip
from perceptic.world.drills import about
from perceptic.world.places import GRID_SIDE, column_word, row_word
from perceptic.world.plm_rows import Row, box_map
from perceptic.world.randomness import chance, pick, shuffled
from perceptic.world.rendering import Rendered
from perceptic.world.scene import Scene, SceneObject
from perceptic.world.words import colour_now

BACKGROUND: Final = "background"
_MIDDLE: Final = "middle"
_EDGE: Final = "edge"
_MARKED: Final = "marked"
_OTHER: Final = "object"
_OF_SHAPE: Final = tuple("ABEFHI")
_OF_COLOUR: Final = tuple("KLNOPR")
"""Words for one to six objects of a kind: a patch cannot be near to two words of one alphabet."""
_LEAST_SHARE: Final = 1 / 3
"""Of a patch, from which on it shows an object."""

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
    """Everything about every patch: what its object looks like, in which column and row that has its middle and whether
    it is here, and how many objects there are: of its shape, of its colour and in all. None for a chart.

    Each answer has one word a patch, as `data.patch_words` needs it. Patches of the background tell the last number
    alone: if they told a column, whoever looks for it would find it in all eight rows.
    """
    if scene.chart is not None or not scene.objects:
        return None
    owners = _owners(rendered.owners, len(scene.objects))
    told = [(f"Which {kind} is where?", _image_map(owners, scene, kind)) for kind in (*_MAIN, *_OTHERS)]
    told += _places(owners, scene.objects)
    told.append(("Where is the middle of an object?", " ".join(_middles(owners, scene.objects))))
    told += _numbers(owners, scene.objects)
    return {"image": path, "conversations": about("image", told)}


def video_patches_row(path: str, clip: Clip, rendered: RenderedClip, rng: np.random.Generator) -> Row:
    """Everything about every patch of every frame that a model sees: its object's shape, colour, column and row,
    whether it is the one in the red rectangle, and the number of the frame. Half of the clips have a rectangle.

    Each answer has one word a patch. Which frame a patch is of cannot be seen: a decoder's first layers have to count
    (`train.plm_objective.PatchLoss`).
    """
    marked = pick(rng, clip.events).object_index if chance(rng, 0.5) else None
    told: dict[str, list[str]] = defaultdict(list)
    for number, frame in enumerate(told_frames(clip)):
        objects = scene_at(clip, frame).objects
        owners = _owners(rendered.owners[frame], len(objects))
        told["Which shape is where?"].append(_words(owners, [item.shape for item in objects]))
        told["Which colour is where?"].append(_words(owners, [colour_now(item) for item in objects]))
        for ask, words in _places(owners, objects):
            told[ask].append(words)
        marks = [_MARKED if index == marked else _OTHER for index in range(len(objects))]
        told["Where is the object in the red rectangle?"].append(_words(owners, marks))
        told["Which frame is where?"].append(" ".join([str(number)] * GRID_SIDE**2))
    row = {"video": path, "conversations": about("video", [(ask, " ".join(words)) for ask, words in told.items()])}
    return row if marked is None else {**row, "bbox_map": box_map(rendered, marked)}


def _places(owners: NDArray[np.int64], objects: Sequence[SceneObject]) -> list[tuple[str, str]]:
    columns, rows = ([word(item) for item in objects] for word in (column_word, row_word))
    return [("Which column is where?", _words(owners, columns)), ("Which row is where?", _words(owners, rows))]


def _numbers(owners: NDArray[np.int64], objects: Sequence[SceneObject]) -> list[tuple[str, str]]:
    shapes, colours = Counter(item.shape for item in objects), Counter(item.colour for item in objects)
    of_shape = [_OF_SHAPE[shapes[item.shape] - 1] for item in objects]
    of_colour = [_OF_COLOUR[colours[item.colour] - 1] for item in objects]
    return [
        ("How many of the shape are there?", _words(owners, of_shape)),
        ("How many of the colour are there?", _words(owners, of_colour)),
        ("How many objects are there?", " ".join([str(len(objects))] * GRID_SIDE**2)),
    ]


def _image_map(owners: NDArray[np.int64], scene: Scene, kind: _Attribute) -> str:
    return _words(owners, [getattr(item, kind) for item in scene.objects])


def _words(owners: NDArray[np.int64], told: Sequence[str]) -> str:
    """Of each patch what is told of its object."""
    return " ".join(BACKGROUND if owner < 0 else told[owner] for owner in owners)


def _owners(owners: NDArray[np.int16], num_objects: int) -> NDArray[np.int64]:
    """The object of each patch, row by row, or -1: the one that covers most of it, and enough."""
    rows, columns = (np.arange(GRID_SIDE) * length // GRID_SIDE for length in owners.shape)
    masks = (owners == np.arange(num_objects)[:, None, None]).astype(np.int64)
    counts = np.add.reduceat(np.add.reduceat(masks, rows, axis=1), columns, axis=2).reshape(num_objects, -1)
    covered = counts * GRID_SIDE**2 / owners.size
    found: NDArray[np.int64] = np.where(covered.max(axis=0) >= _LEAST_SHARE, covered.argmax(axis=0), -1)
    return found


def _middles(owners: NDArray[np.int64], objects: Sequence[SceneObject]) -> list[str]:
    """One patch of each object is its middle."""
    words = [BACKGROUND if owner < 0 else _EDGE for owner in owners]
    for place in _middle_patches(owners, objects):
        if place is not None:
            words[place] = _MIDDLE
    return words


def _middle_patches(owners: NDArray[np.int64], objects: Sequence[SceneObject]) -> list[int | None]:
    """Of the patches that show an object the nearest to where its middle is; None where none does."""
    rows, columns = (np.indices((GRID_SIDE, GRID_SIDE)) + 0.5) / GRID_SIDE
    found: list[int | None] = []
    for index, item in enumerate(objects):
        distances = np.where(owners == index, np.hypot(columns - item.x, rows - item.y).ravel(), np.inf)
        found.append(int(distances.argmin()) if (owners == index).any() else None)
    return found
