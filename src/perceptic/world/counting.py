"""How many different captions the world can utter: a lower bound, by counting facts and not wordings."""

from __future__ import annotations

from math import comb

from perceptic.world.sampling import allowed_pairs
from perceptic.world.vocabulary import BACKGROUND_COLOURS, SIZES, TEXTURES, Split


def count_descriptions(split: Split = "train", num_objects: int = 2) -> int:
    """Number of distinct facts that captions of `num_objects` separate objects can state.

    Counted: the set of objects by colour, shape, size and texture, one of the four side relations between each
    consecutive two, and the colour of a plain background. Synonyms, templates, texts, places, depth order, patterned
    backgrounds, groups and charts come on top.
    """
    looks = len(allowed_pairs(split)) * len(SIZES) * len(TEXTURES)
    sides = 4
    return comb(looks, num_objects) * int(sides ** (num_objects - 1)) * len(BACKGROUND_COLOURS)
