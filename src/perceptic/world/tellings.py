"""Objects told again and again with their words in another order: what a decoder reads to bind places to names.

"red star c four, blue ring f two; f ring two blue, four red c star": whoever has read the first half can say the last
word of every thing in the second, by any of its other words. Told once, a place is a word that may come; told twice it
belongs to something (docs/plm-nano.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from perceptic.world.acts import told_frames
from perceptic.world.clip import Clip, scene_at
from perceptic.world.places import column_word, place_words, row_word
from perceptic.world.plm_rows import Row
from perceptic.world.randomness import chance, shuffled
from perceptic.world.scene import Scene, SceneObject
from perceptic.world.words import VISIBLE, colour_now, to_read, told_apart

_TIMES: Final = 3
_FRAMES: Final = 4
"""Of the frames that a model sees, told in one row."""


def place_telling_row(scene: Scene, rng: np.random.Generator) -> Row | None:
    """Every object's colour, shape and place, the place in one piece ("c four"); None for a chart."""
    things = [[item.colour, item.shape, place_words(item)] for item in scene.objects]
    return _told_again(things, rng)


def scene_telling_row(scene: Scene, rng: np.random.Generator) -> Row | None:
    """Every object's colour, shape, column and row, each a word of its own, and in half of the rows size and texture as
    well; None for a chart.

    A row always told behind its column would be learned as what stood behind that column last time, which no patch of a
    picture can answer.
    """
    with_looks = chance(rng, 0.5)
    return _told_again([image_words(item, with_looks=with_looks) for item in scene.objects], rng)


def clip_telling_row(clip: Clip, rng: np.random.Generator) -> Row | None:
    """Where objects are in some of the frames that a model sees, each word on its own; None if all look alike."""
    things = []
    for number, frame in sorted(shuffled(rng, list(enumerate(told_frames(clip))))[:_FRAMES]):
        objects = scene_at(clip, frame).objects
        seen = [objects[index] for index in told_apart(objects) if objects[index].opacity >= VISIBLE]
        things += [[str(number), colour_now(item), item.shape, column_word(item), row_word(item)] for item in seen]
    return _told_again(things, rng)


def image_words(item: SceneObject, *, with_looks: bool) -> list[str]:
    """What is said of an object where words come in any order: colour, shape, column, row; or size and texture too."""
    looks = [item.size, item.texture] if with_looks else []
    return [item.colour, item.shape, column_word(item), row_word(item), *looks]


def _told_again(things: Sequence[Sequence[str]], rng: np.random.Generator) -> Row | None:
    if not things:
        return None
    tellings = ([" ".join(shuffled(rng, thing)) for thing in shuffled(rng, things)] for _ in range(_TIMES))
    return to_read("; ".join(", ".join(telling) for telling in tellings))
