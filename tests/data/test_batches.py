"""Batches: pixels and texts of the same samples, captions by share, flips with their words, all by step."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from perceptic.data.augmentation import Augmentation
from perceptic.data.batches import BatchMaker
from perceptic.data.pool import Pool
from perceptic.world import flip_caption

STILL = Augmentation(crop_share=0.0, brightness=0.0, saturation=0.0, flip_share=0.0)


class WordTokenizer:
    """Remembers the texts it was given; ids are their lengths."""

    def __init__(self):
        self.texts: list[str] = []

    def __call__(self, texts):
        self.texts = list(texts)
        return torch.tensor([[len(text)] for text in texts])


def make(count=12, frames=1, augmentation=STILL, shares=None, safe=True):
    pixels = np.zeros((count, frames, 3, 8, 8), dtype=np.uint8)
    pixels[..., 0] = np.arange(count, dtype=np.uint8)[:, None, None, None] + 100  # the left column carries the index
    captions = [(f"{i} left", f"{i} left medium", f"{i} left long") for i in range(count)]
    return BatchMaker(
        pool=Pool(pixels, captions, np.full(count, safe)),
        tokenizer=WordTokenizer(),
        batch_size=4,
        seed=1,
        caption_shares=shares or {"short": 1.0},
        augmentation=augmentation,
        rewrite_flipped=flip_caption,
        is_video=frames > 1,
    )


def indices(batch, column=0):
    first = batch.pixels[:, 0] if batch.pixels.ndim == 5 else batch.pixels
    return [round(value) - 100 for value in ((first[:, 0, 0, column] + 1) * 127.5).tolist()]


@pytest.mark.parametrize("frames", [1, 2])
def test_texts_belong_to_their_pixels(frames):
    maker = make(frames=frames)
    batch = maker.batch(2, image_size=8)
    assert batch.pixels.shape == ((4, 3, 8, 8) if frames == 1 else (4, 2, 3, 8, 8))
    assert maker.tokenizer.texts == [f"{index} left" for index in indices(batch)]


def test_flipped_samples_get_flipped_words_and_unsafe_ones_stay():
    flipping = Augmentation(crop_share=0.0, brightness=0.0, saturation=0.0, flip_share=1.0)
    maker = make(augmentation=flipping)
    batch = maker.batch(0, image_size=8)
    assert maker.tokenizer.texts == [f"{index} right" for index in indices(batch, column=-1)]
    unsafe = make(augmentation=flipping, safe=False)
    assert indices(unsafe.batch(0, image_size=8), column=0) == indices(batch, column=-1)
    assert all(text.endswith("left") for text in unsafe.tokenizer.texts)


def test_captions_are_drawn_by_their_shares():
    maker = make(shares={"short": 0.0, "medium": 1.0, "long": 3.0})
    texts = []
    for step in range(300):
        maker.batch(step, image_size=8)
        texts += maker.tokenizer.texts
    share = sum(text.endswith("long") for text in texts) / len(texts)
    assert share == pytest.approx(0.75, abs=0.05)
    assert all(text.endswith(("long", "medium")) for text in texts)


def test_a_batch_depends_on_its_step_alone():
    varied = Augmentation()
    later = make(augmentation=varied).batch(5, image_size=8)
    maker = make(augmentation=varied)
    for step in range(5):
        maker.batch(step, image_size=8)
    assert torch.equal(maker.batch(5, image_size=8).pixels, later.pixels)
    assert not torch.equal(maker.batch(6, image_size=8).pixels, later.pixels)


def test_the_papers_mirror_everything_and_leave_unknown_words():
    flipping = dataclasses.replace(STILL, flip_share=1.0, flip_unsafe=True)
    maker = make(augmentation=flipping, safe=False)
    batch = maker.batch(0, image_size=8)
    assert maker.tokenizer.texts == [f"{index} left" for index in indices(batch, column=-1)]
