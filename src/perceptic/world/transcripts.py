"""Training rows that ask for everything at once, in symbols: what is where, in a picture or frame by frame.

A question has an answer of a word or two. Here every object of a picture, and every frame of a clip, is answered for:
many words to learn from for one look, in the words that the decoder has read before it sees (`world.words`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from perceptic.world.clip import Clip
from perceptic.world.clip_rendering import RenderedClip
from perceptic.world.drills import about
from perceptic.world.plm_rows import Row, box_fields, box_map, boxed_singles, conversation
from perceptic.world.randomness import chance, pick, shuffled
from perceptic.world.rendering import Rendered
from perceptic.world.scene import Scene
from perceptic.world.words import cell_words, clip_words, scene_words

_SCENE: Final = "<image>\nWrite down every object with its column and row."
_BOXES_FIRST: Final = "Name every object after its box [x1, y1, x2, y2] and its column and row."
_NAMES_FIRST: Final = "Give the column and row and the box [x1, y1, x2, y2] of every object after its name."
_FRAMES: Final = "<video>\nWrite down every object with its column and row, frame by frame."
_BOXED_FRAMES: Final = (
    "<video>\nWrite down every object with its column and row, frame by frame, and which one the red rectangle marks."
)


def image_transcript_row(path: str, scene: Scene) -> Row | None:
    """Size, texture, colour, shape and place of every object, and what is written; None for a chart."""
    if scene.chart is not None:
        return None
    return {"image": path, "conversations": conversation((_SCENE, scene_words(scene)))}


def image_boxes_row(path: str, scene: Scene, rendered: Rendered, rng: np.random.Generator) -> Row | None:
    """Boxes, places and names of the objects that are the only ones of their kind, in random order; None where there
    are none.

    With the boxes first each name answers what is in a given box; with the names first each box answers where it is.
    The column and row of its middle stand between the two, because that is the way from one to the other.
    """
    found = boxed_singles(scene, rendered)
    if not found:
        return None
    chosen = shuffled(rng, found)
    turn = boxes_turn([(cell_words(item), f"{item.colour} {item.shape}") for item, _ in chosen], chance(rng, 0.6))
    fields = box_fields(rendered, [box for _, box in chosen])
    return {"image": path, **fields, "conversations": about("image", [turn])}


def boxes_turn(told: Sequence[tuple[str, str]], boxes_first: bool) -> tuple[str, str]:
    """Question and answer about every box of a row, one after the other.

    Args:
        told: place and name of what is in each box. boxes_first: or the names.
    """
    parts = [(f"<|bbox{index}|>", place, name) for index, (place, name) in enumerate(told)]
    ask, step = (_BOXES_FIRST, 1) if boxes_first else (_NAMES_FIRST, -1)
    return ask, ", ".join(" ".join(part[::step]) for part in parts)


def video_transcript_row(path: str, clip: Clip, rendered: RenderedClip, rng: np.random.Generator) -> Row:
    """The objects of every frame that a model sees; of half of the clips with one of them in the red rectangle."""
    if chance(rng, 0.5):
        return {"video": path, "conversations": conversation((_FRAMES, clip_words(clip)))}
    boxed = pick(rng, clip.events).object_index
    turns = conversation((_BOXED_FRAMES, clip_words(clip, boxed)))
    return {"video": path, "bbox_map": box_map(rendered, boxed), "conversations": turns}
