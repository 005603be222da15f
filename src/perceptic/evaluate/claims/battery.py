"""How well a small encoder names shapes: in pictures as it was trained on, and in the foreign ones."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from perceptic import world
from perceptic.data.augmentation import plain
from perceptic.data.world_source import channels_first
from perceptic.evaluate.claims.claim import SeedResult
from perceptic.train.world_report import Encoders, load_clip, top1

_COUNT = 600
_SEED = 11
_WINDOW, _SCENE = 48, 96
"""Pixels of a window and of the scene it is cut from, as in the recipe's data."""
_ROWS = 100


@dataclass(frozen=True)
class Windows:
    """Windows around one object: uint8 (N, 1, 3, S, S) at `_WINDOW` pixels, and shape numbers."""

    pixels: NDArray[np.uint8]
    labels: tuple[int, ...]


@functools.cache
def windows(variant: str | None) -> Windows:
    """The same scenes every time, so that arms and seeds are compared on equal pictures."""
    items = list(world.zero_shot_scenes("validation", _COUNT, seed=_SEED, variant=variant))
    pixels = np.stack([channels_first(_window(item.scene)[None]) for item in items])
    return Windows(pixels, tuple(item.labels["shape"] for item in items))


def shape_accuracy(model_folder: Path, image_size: int) -> dict[str, float]:
    """Zero-shot accuracy in percent at a resolution: "known", each foreign variant, and their mean, "foreign"."""
    model, tokenizer = load_clip(str(model_folder))
    encoders = Encoders(model.eval(), tokenizer)
    classifier = encoders.classifier(world.prompts("shape"))
    scores = {"known": _accuracy(encoders, None, classifier, image_size)}
    for variant in world.OOD_VARIANTS:
        scores[variant.replace("_", " ")] = _accuracy(encoders, variant, classifier, image_size)
    foreign = [value for name, value in scores.items() if name != "known"]
    return {**scores, "foreign": sum(foreign) / len(foreign)}


def difference(first: dict[str, float], second: dict[str, float], names: tuple[str, str]) -> SeedResult:
    """First minus second on known and foreign pictures, with both arms' scores."""
    effects = {f"{kind} pictures": first[kind] - second[kind] for kind in ("known", "foreign")}
    scores: dict[str, float] = {}
    for name, arm in zip(names, (first, second), strict=True):
        scores |= {f"{name}: {kind}": value for kind, value in arm.items()}
    return SeedResult(effects, scores)


@torch.inference_mode()
def _accuracy(encoders: Encoders, variant: str | None, classifier: Tensor, image_size: int) -> float:
    shown = windows(variant)
    vectors = []
    for start in range(0, len(shown.pixels), _ROWS):
        pixels = plain(shown.pixels[start : start + _ROWS], image_size)[:, 0]
        vectors.append(F.normalize(encoders.model.encode_image(pixels), dim=-1))
    return top1(torch.cat(vectors) @ classifier.T, shown.labels)


def _window(scene: world.Scene) -> NDArray[np.uint8]:
    """The window with the object as near its middle as the picture's edge allows."""
    item, room = scene.objects[0], _SCENE - _WINDOW
    left, top = (min(max(round(centre * _SCENE - _WINDOW / 2), 0), room) for centre in (item.x, item.y))
    return world.render_pixels(scene, _SCENE)[top : top + _WINDOW, left : left + _WINDOW]
