"""Pools to batches: choose samples and captions, augment, tokenise. Every batch is a function of its step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from perceptic.data.augmentation import Augmentation, augment
from perceptic.data.mixing import ALONE, Reader
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
        batch_size: of all readers together.
        caption_shares: weight of each entry of CAPTION_LENGTHS.
        rewrite_flipped: the caption of a mirrored sample.
        is_video: keep the frame axis; otherwise each sample has one frame and the axis is dropped.
        reader: which part of every batch this process makes: together, the parts are the batch of one process.
    """

    pool: Pool
    tokenizer: ClipTokenizer
    batch_size: int
    seed: int
    caption_shares: Mapping[str, float]
    augmentation: Augmentation
    rewrite_flipped: Callable[[str], str]
    is_video: bool = False
    reader: Reader = ALONE

    def __post_init__(self) -> None:
        self.reader.share_of(self.batch_size, "a batch")

    def batch(self, step: int, image_size: int) -> Batch:
        """Batch number `step` of this data at a resolution. Raises DataError when the pool is smaller than a batch."""
        size = self.reader.share_of(self.batch_size, "a batch")
        first = self.reader.index * size
        chosen = batch_indices(len(self.pool), self.batch_size, self.seed, step)[first : first + size]
        # One generator per sample: what becomes of it does not depend on its neighbours.
        generators = [generator(self.seed, 1, step, first + place) for place in range(size)]
        draws = np.array([rng.random(2) for rng in generators])
        may_flip = self.pool.flip_safe[chosen] | self.augmentation.flip_unsafe
        flips = may_flip & (draws[:, 0] < self.augmentation.flip_share)
        texts = [
            self.rewrite_flipped(text) if rewritten else text
            for text, rewritten in zip(
                self._texts(chosen, draws[:, 1]), flips & self.pool.flip_safe[chosen], strict=True
            )
        ]
        # Sorted reading is kinder to the disk; the order inside a batch means nothing to a contrastive loss, but it
        # must match the texts, so the pixels are put back.
        order = np.argsort(chosen)
        pixels = np.empty((len(chosen), *self.pool.pixels.shape[1:]), dtype=np.uint8)
        pixels[order] = self.pool.pixels[chosen[order]]
        x = augment(pixels, flips, image_size, self.augmentation, generators)
        return Batch(x if self.is_video else x[:, 0], self.tokenizer(texts))

    def _texts(self, chosen: NDArray[np.int64], draws: NDArray[np.float64]) -> list[str]:
        """A caption of each sample, its length drawn by the shares."""
        weights = np.array([self.caption_shares.get(length, 0.0) for length in CAPTION_LENGTHS])
        picks = np.searchsorted(np.cumsum(weights) / weights.sum(), draws, side="right")
        return [self.pool.captions[index][pick] for index, pick in zip(chosen.tolist(), picks.tolist(), strict=True)]
