"""Labelled single-object scenes for zero-shot classification, and the prompts that name the labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from perceptic.errors import ConfigError
from perceptic.world.ood import out_of_distribution
from perceptic.world.placement import Band, place_apart
from perceptic.world.randomness import seeded, shuffled
from perceptic.world.sampling import sample_background, sample_look
from perceptic.world.scene import Scene
from perceptic.world.vocabulary import COLOURS, ORDERED_HELDOUT_PAIRS, SEEN_PAIRS, SHAPES, SIZES, TEXTURES, check_split
from perceptic.world.wording import with_article

CLASS_NAMES: Final = {
    "shape": SHAPES,
    "colour": tuple(COLOURS),
    "texture": TEXTURES,
    "size": tuple(SIZES),
    "colour_shape": tuple(f"{colour} {shape}" for shape in SHAPES for colour in COLOURS),
}
"""Attribute to its class names; a label is an index into them."""

_NOUN_TEMPLATES: Final = ("a {c}", "{c}", "a picture of a {c}", "a photo of a {c}", "an image of a {c}")
_ADJECTIVE_TEMPLATES: Final = ("a {c} shape", "a {c} object", "a picture of a {c} shape", "an image of a {c} shape")
TEMPLATES: Final = {
    "shape": _NOUN_TEMPLATES,
    "colour": _ADJECTIVE_TEMPLATES,
    "texture": _ADJECTIVE_TEMPLATES,
    "size": _ADJECTIVE_TEMPLATES,
    "colour_shape": _NOUN_TEMPLATES,
}
"""Prompt templates by attribute; `{c}` stands for the class name."""


@dataclass(frozen=True, slots=True)
class ZeroShotScene:
    """One object in a scene. `labels` maps each attribute of CLASS_NAMES to its class index."""

    scene: Scene
    labels: dict[str, int]


def zero_shot_scenes(split: str, count: int, *, seed: int = 0, variant: str | None = None) -> Iterator[ZeroShotScene]:
    """`count` scenes of one object each, colour-shape pairs balanced.

    Args:
        split: "heldout_pairs" walks the unseen pairs only; every other split the seen ones.
        count: how many; the pairs repeat in a fresh random order each round.
        seed: another seed gives other scenes.
        variant: an out-of-distribution variant, or None.

    Raises:
        ConfigError: unknown split or variant.
    """
    known = check_split(split)
    pairs = ORDERED_HELDOUT_PAIRS if known == "heldout_pairs" else SEEN_PAIRS
    rng = seeded(seed, "zero-shot", known)
    queue: list[tuple[str, str]] = []
    for _ in range(count):
        queue = queue or shuffled(rng, pairs)
        colour, shape = queue.pop()
        item = place_apart(rng, [sample_look(rng, (colour, shape))], Band())[0]
        scene = Scene((item,), sample_background(rng, [colour]), split=known)
        labels = {
            "shape": SHAPES.index(shape),
            "colour": tuple(COLOURS).index(colour),
            "texture": TEXTURES.index(item.texture),
            "size": tuple(SIZES).index(item.size),
            "colour_shape": SHAPES.index(shape) * len(COLOURS) + tuple(COLOURS).index(colour),
        }
        yield ZeroShotScene(scene if variant is None else out_of_distribution(scene, variant, rng), labels)


def prompts(attribute: str) -> list[list[str]]:
    """For each class of an attribute its prompts, one per template, with "a" or "an" as the name asks.

    Raises:
        ConfigError: unknown attribute.
    """
    if attribute not in CLASS_NAMES:
        raise ConfigError(f"attribute '{attribute}' does not exist; choose one of {', '.join(CLASS_NAMES)}")
    return [
        [template.replace("a {c}", with_article(name)).replace("{c}", name) for template in TEMPLATES[attribute]]
        for name in CLASS_NAMES[attribute]
    ]
