"""The out-of-distribution battery: the same ground truth, drawn as training never drew it.

Stand-ins for ObjectNet (poses and backgrounds), ImageNet-R (palette swap), ImageNet-Sketch (outline) and ImageNet-A
(confusables); training-recipes section 8.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Literal, get_args

import numpy as np

from perceptic.errors import ConfigError
from perceptic.world.randomness import between, pick, seeded
from perceptic.world.scene import Scene, SceneObject, Style
from perceptic.world.vocabulary import UNSEEN_BACKGROUND_PATTERNS

OodVariant = Literal["poses_and_backgrounds", "palette_swap", "outline", "confusables"]
OOD_VARIANTS: Final[tuple[OodVariant, ...]] = get_args(OodVariant)

_CONFUSABLE: Final = 0.36


def out_of_distribution(scene: Scene, variant: str, seed: int | np.random.Generator = 0) -> Scene:
    """The scene in another guise; objects keep shape, colour, size, place and text, so labels and captions stay true
    (in "outline" no texture can be seen, in "poses_and_backgrounds" the background differs).

    Args:
        scene: a scene with objects; a chart stays as it is.
        variant: "poses_and_backgrounds": rotations of 40 to 320 degrees and background patterns that training lacks;
            "palette_swap": other shades of the named colours, foreign texture colours; "outline": line drawing;
            "confusables": shapes and colours pulled a third of the way towards their nearest look-alikes.
        seed: only "poses_and_backgrounds" draws from it.

    Raises:
        ConfigError: unknown variant.
    """
    if variant == "poses_and_backgrounds":
        rng = seeded(seed, "ood")
        objects = tuple(_turned(item, rng) for item in scene.objects)
        pattern = pick(rng, UNSEEN_BACKGROUND_PATTERNS)
        return replace(scene, objects=objects, background=replace(scene.background, pattern=pattern))
    if variant == "palette_swap":
        return replace(scene, style=Style(palette="swapped"))
    if variant == "outline":
        return replace(scene, style=Style(outline=True))
    if variant == "confusables":
        return replace(scene, style=Style(confusable=_CONFUSABLE))
    raise ConfigError(f"variant '{variant}' does not exist; choose one of {', '.join(OOD_VARIANTS)}")


def _turned(item: SceneObject, rng: np.random.Generator) -> SceneObject:
    # Text turns with nothing: it is always drawn upright.
    return replace(item, rotation=round(between(rng, 40.0, 320.0), 3))
