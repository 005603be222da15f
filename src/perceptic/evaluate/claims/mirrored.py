"""Claim 9: a model trained with flips reads mirrored text."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from perceptic import world
from perceptic.data.augmentation import plain
from perceptic.data.world_source import channels_first
from perceptic.evaluate.claims.claim import Claim, Quantity, SeedResult, Setting
from perceptic.evaluate.claims.mini import Arm, trained
from perceptic.train.world_report import Encoders, load_clip, top1
from perceptic.world.encoding import png_bytes
from perceptic.world.font import text_bitmap
from perceptic.world.placement import Band, place_apart
from perceptic.world.randomness import pick, seeded
from perceptic.world.sampling import sample_background, sample_look
from perceptic.world.shards import ShardSample, captions_member, sample_key, write_shard
from perceptic.world.vocabulary import LETTERS

_TRAIN, _TEST = 12000, 600
_WINDOW, _SCENE = 32, 64
_SHAPES = ("circle", "square", "hexagon")
_TEMPLATES = ("the letter {}", "a picture of the letter {}", "an object with the letter {}")


@dataclass(frozen=True)
class Glyph:
    """A window (S, S, 3) around one object with a letter, and the number of the letter in LETTERS."""

    pixels: NDArray[np.uint8]
    label: int


def glyphs(split: str, count: int) -> Iterator[Glyph]:
    """Large plain objects, each with a letter or a digit."""
    rng = seeded(9, "glyphs", split)
    pairs = [pair for pair in world.SEEN_PAIRS if pair[1] in _SHAPES]
    for _ in range(count):
        pair, letter = pick(rng, pairs), pick(rng, LETTERS)
        item = place_apart(rng, [sample_look(rng, pair, "large")], Band())[0]
        item = replace(item, texture="solid", text=letter)
        shown = world.render_pixels(world.Scene((item,), sample_background(rng, [pair[0]])), _SCENE)
        left, top = (min(max(round(at * _SCENE - _WINDOW / 2), 0), _SCENE - _WINDOW) for at in (item.x, item.y))
        yield Glyph(shown[top : top + _WINDOW, left : left + _WINDOW], LETTERS.index(letter))


def one_way_letters() -> frozenset[int]:
    """Numbers of the letters whose mirror image is no letter at all, itself included."""
    shapes = [text_bitmap(letter) for letter in LETTERS]
    return frozenset(
        number
        for number, shape in enumerate(shapes)
        if not any(np.array_equal(shape[:, ::-1], other) for other in shapes)
    )


def write_glyphs(work: Path) -> tuple[str, ...]:
    """The training windows as a shard below `work`, once; the change of a recipe that reads them."""
    path = work / "glyphs" / "train.tar"
    if not path.exists():
        samples = (
            ShardSample(
                sample_key(index),
                {
                    "png": png_bytes(glyph.pixels),
                    "txt": captions_member([_TEMPLATES[index % len(_TEMPLATES)].format(LETTERS[glyph.label])]),
                },
            )
            for index, glyph in enumerate(glyphs("train", _TRAIN))
        )
        write_shard(path, samples)
    return (f"data.glyphs.shards=['{path}']",)


_FLIPS = "phases.0.augmentation={crop_share: 0.0, brightness: 0.0, saturation: 0.0, flip_share: 0.5, flip_unsafe: true}"
PLAIN = Arm("unflipped", recipe="glyphs", prepare=write_glyphs)
FLIPPED = Arm("flipped", (_FLIPS,), recipe="glyphs", prepare=write_glyphs)


def run(seed: int, setting: Setting) -> SeedResult:
    """Reading upright and mirrored letters, after training with and without flips."""
    scores: dict[str, float] = {}
    for arm in (PLAIN, FLIPPED):
        folder = trained(arm, seed, setting)
        scores[f"{arm.name}, upright"] = _accuracy(folder, mirrored=False)
        scores[f"{arm.name}, mirrored"] = _accuracy(folder, mirrored=True)
    drop = {arm.name: scores[f"{arm.name}, upright"] - scores[f"{arm.name}, mirrored"] for arm in (PLAIN, FLIPPED)}
    effects = {
        "drop on mirrored letters without flips": drop["unflipped"],
        "drop on mirrored letters with flips": drop["flipped"],
        "drop without flips above that with flips": drop["unflipped"] - drop["flipped"],
    }
    return SeedResult(effects, scores)


@functools.cache
def _test_set() -> tuple[NDArray[np.uint8], tuple[int, ...]]:
    """Windows (N, 3, S, S) of the letters that are none when mirrored, and their numbers."""
    kept = [glyph for glyph in glyphs("test", _TEST) if glyph.label in one_way_letters()]
    return channels_first(np.stack([glyph.pixels for glyph in kept])), tuple(glyph.label for glyph in kept)


@torch.inference_mode()
def _accuracy(folder: Path, *, mirrored: bool) -> float:
    """Zero-shot accuracy in percent among all letters and digits."""
    model, tokenizer = load_clip(str(folder))
    encoders = Encoders(model.eval(), tokenizer)
    windows, labels = _test_set()
    pixels = plain(windows[:, None], _WINDOW)[:, 0]
    vectors = F.normalize(model.encode_image(pixels.flip(-1) if mirrored else pixels), dim=-1)
    classifier = encoders.classifier([[template.format(letter) for template in _TEMPLATES] for letter in LETTERS])
    return top1(vectors @ classifier.T, labels)


CLAIM = Claim(
    number=9,
    title="Trained with flips, a model reads mirrored text",
    statement="PE is trained with flips and loses nothing on flipped text: TextCaps image to text, 78.8 and 78.7 "
    "flipped for G, 72.3 and 71.9 for B.",
    experiment="The encoder of the claims learns to name the letter or digit on an object (800 steps of 128 windows), "
    "with half of the pictures mirrored and their captions left alone, or with none mirrored. Effect: accuracy on "
    "upright minus accuracy on mirrored pictures, for the letters whose mirror image is no letter.",
    quantities=(
        Quantity("drop on mirrored letters without flips", "points", "above"),
        Quantity("drop without flips above that with flips", "points", "above"),
        Quantity("drop on mirrored letters with flips", "points", "equal", margin=5.0),
    ),
    run=run,
    minutes=6.0,
    caveats="Single letters of one font, 5 x 7 cells large.",
)
