"""What is minimised. An objective is an object `loss(model, batch) -> (loss, metrics)` that knows nothing of the loop.

Shapes: B batch, F frames, L tokens, E embedding size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from perceptic.data.batches import Batch
from perceptic.models.clip import CLIP

ModelT = TypeVar("ModelT", contravariant=True)
BatchT = TypeVar("BatchT", contravariant=True)


class Objective(Protocol[ModelT, BatchT]):
    """One training task: what is minimised for a kind of model and of batch."""

    def loss(self, model: ModelT, batch: BatchT) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar to minimise and detached scalars to log."""

    def after_step(self, model: ModelT) -> None:
        """Put constrained parameters back into their range."""


@dataclass(frozen=True)
class Contrastive:
    """Symmetric InfoNCE between pictures or clips and texts; a clip is the mean of its frames' embeddings.

    Attributes:
        max_logit_scale: cap of the learnable scale exp(logit_scale) (training-recipes 1.1).
        chunk_size: rows that enter a tower at once, 0 for all. The loss sees the whole batch either way; small chunks
            keep a layer's activations in the processor's cache, which doubles the rate of a small model on a CPU.
    """

    max_logit_scale: float = 100.0
    chunk_size: int = 0

    def loss(self, model: CLIP, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss; metrics `accuracy` (share of images whose own text is nearest in the batch) and `logit_scale`."""
        media_BE = F.normalize(self._encode_media(model, batch.pixels).float(), dim=-1)
        text_BE = F.normalize(self._encode_text(model, batch.ids).float(), dim=-1)
        scale = model.logit_scale.exp()
        loss, logits_BB = symmetric_info_nce(media_BE, text_BE, scale)
        own = torch.arange(len(logits_BB), device=logits_BB.device)
        accuracy = (logits_BB.argmax(dim=1) == own).float().mean()
        return loss, {"accuracy": accuracy.detach(), "logit_scale": scale.detach()}

    def after_step(self, model: CLIP) -> None:
        """Cap the logit scale."""
        with torch.no_grad():
            model.logit_scale.clamp_(max=math.log(self.max_logit_scale))

    def _encode_media(self, model: CLIP, pixels: Tensor) -> Tensor:
        if pixels.ndim == 4:
            return self._chunked(model.encode_image, pixels)
        # As `CLIP.encode_video(normalize=False)`, with chunks running across clips.
        frames_E = self._chunked(model.encode_image, pixels.flatten(0, 1))
        return frames_E.reshape(*pixels.shape[:2], -1).mean(dim=1)

    def _encode_text(self, model: CLIP, ids_BL: Tensor) -> Tensor:
        """Texts sorted by length, each chunk cut to its longest: padding costs as much as words."""
        order = ids_BL.argmax(dim=-1).argsort(stable=True)
        sorted_BE = self._chunked(lambda ids: model.encode_text(_without_padding(ids)), ids_BL[order])
        return torch.empty_like(sorted_BE).index_copy(0, order, sorted_BE)

    def _chunked(self, encode: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        if not self.chunk_size or len(x) <= self.chunk_size:
            return encode(x)
        return torch.cat([encode(chunk) for chunk in x.split(self.chunk_size)])


def symmetric_info_nce(media_BE: Tensor, text_BE: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of the media-to-text and text-to-media cross-entropies of unit vectors, and the logits (B, B)."""
    logits_BB = scale * media_BE @ text_BE.T
    own = torch.arange(len(logits_BB), device=logits_BB.device)
    return (F.cross_entropy(logits_BB, own) + F.cross_entropy(logits_BB.T, own)) / 2, logits_BB


def _without_padding(ids_BL: Tensor, multiple: int = 16) -> Tensor:
    """Cut columns after the last end-of-text; a few distinct widths only, so that compiled code is reused."""
    longest = int(ids_BL.argmax(dim=-1).max()) + 1
    return ids_BL[:, : -(-longest // multiple) * multiple]
