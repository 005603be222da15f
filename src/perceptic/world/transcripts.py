"""Training rows that ask for everything at once, in symbols: what is where in a picture.

A question has an answer of a word or two. Here every object of a picture is answered for: many words to learn from for
one look, in the words that the decoder has read before it sees (`world.words`).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from perceptic.world.drills import about
from perceptic.world.places import boxes_turn, place_words
from perceptic.world.plm_rows import Row, box_fields, boxed_singles, conversation
from perceptic.world.randomness import pick, shuffled
from perceptic.world.rendering import Rendered
from perceptic.world.scene import Scene
from perceptic.world.words import scene_words

_SCENE: Final = "<image>\nWrite down every object with its column and row."


def image_transcript_row(path: str, scene: Scene) -> Row | None:
    """Size, texture, colour, shape and place of every object, and what is written; None for a chart."""
    if scene.chart is not None:
        return None
    return {"image": path, "conversations": conversation((_SCENE, scene_words(scene)))}


def image_places_row(path: str, scene: Scene, rendered: Rendered, rng: np.random.Generator) -> Row | None:
    """Where objects are, in the words that their patches have for column and row: all of them in order, asked for one
    by one, or with their boxes. None where no object is the only one of its kind.

    Between a box and a name stands the place, because that is the way from one to the other.
    """
    found = boxed_singles(scene, rendered)
    if not found:
        return None
    chosen = shuffled(rng, found)
    told = [(place_words(item), f"{item.colour} {item.shape}") for item, _ in chosen]
    form = pick(rng, ("names", "places", "objects", "boxes", "boxes", "found"))
    match form:
        case "names":
            turns = [("Which object is in which column and row?", ", ".join(f"{name} {place}" for place, name in told))]
        case "objects":
            turns = [(f"Which object is in {place}?", name) for place, name in told]
        case "places":
            turns = [(f"In which column and row is the {name}?", place) for place, name in told]
        case _:
            turns = [boxes_turn(told, boxes_first=form == "boxes")]
    fields = box_fields(rendered, [box for _, box in chosen]) if form in ("boxes", "found") else {}
    return {"image": path, "conversations": about("image", turns), **fields}
