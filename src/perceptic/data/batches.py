"""Pools to batches: choose samples and captions, augment, tokenise. Every batch is a function of its step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from perceptic.data.augmentation import Augmentation, augment
from perceptic.data.order import batch_indices, generator
from perceptic.data.pool import Pool
from perceptic.data.samples import CAPTION_LENGTHS
from perceptic.text.clip_tokenizer import ClipTokenizer


@dataclass(frozen=True)
class Batch:
    """`pixels` float32 in [-1, 1]: (B, 3, S, S) for pictures, (B, F, 3, S, S) for clips. `ids` int64 (B, L)."""

    pixels: Tensor
    ids: Tensor


@dataclass(frozen=True)
class BatchMaker:
    """Batches of image-text or video-text pairs.

    Attributes:
        caption_shares: weight of each entry of CAPTION_LENGTHS.
        rewrite_flipped: the caption of a mirrored sample.
        is_video: keep the frame axis; otherwise each sample has one frame and the axis is dropped.
    """

    pool: Pool
    tokenizer: ClipTokenizer
    batch_size: int
    seed: int
    caption_shares: Mapping[str, float]
    augmentation: Augmentation
    rewrite_flipped: Callable[[str], str]
    is_video: bool = False

    def batch(self, step: int, image_size: int) -> Batch:
        """Batch number `step` of this data at a resolution. Raises DataError when the pool is smaller than a batch."""
        chosen = batch_indices(len(self.pool), self.batch_size, self.seed, step)
        rng = generator(self.seed, 1, step)
        flips = self.pool.flip_safe[chosen] & (rng.random(len(chosen)) < self.augmentation.flip_share)
        texts = [
            self.rewrite_flipped(text) if flipped else text
            for text, flipped in zip(self._texts(chosen.tolist(), rng), flips, strict=True)
        ]
        # Sorted reading is kinder to the disk; the order inside a batch means nothing to a contrastive loss, but it
        # must match the texts, so the pixels are put back.
        order = np.argsort(chosen)
        pixels = np.empty((len(chosen), *self.pool.pixels.shape[1:]), dtype=np.uint8)
        pixels[order] = self.pool.pixels[chosen[order]]
        x = augment(pixels, flips, image_size, self.augmentation, rng)
        return Batch(x if self.is_video else x[:, 0], self.tokenizer(texts))

    def _texts(self, chosen: list[int], rng: np.random.Generator) -> list[str]:
        weights = np.array([self.caption_shares.get(length, 0.0) for length in CAPTION_LENGTHS])
        picks = rng.choice(len(CAPTION_LENGTHS), size=len(chosen), p=weights / weights.sum())
        return [self.pool.captions[index][pick] for index, pick in zip(chosen, picks.tolist(), strict=True)]
