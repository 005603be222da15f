"""What is minimised. An objective is an object `loss(model, batch) -> (loss, metrics)` that knows nothing of the loop.

Shapes: B batch, E embedding size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import torch
from torch import Tensor

from perceptic.data.batches import Batch
from perceptic.models.clip import CLIP
from perceptic.train.encoding import encode_media, encode_text, unit_vectors
from perceptic.train.global_loss import info_nce, sigmoid_pairs
from perceptic.train.mask_regularisation import MaskRecipe, mask_loss

ModelT = TypeVar("ModelT", contravariant=True)
BatchT = TypeVar("BatchT", contravariant=True)

PairLossName = Literal["infonce", "siglip"]


class Objective(Protocol[ModelT, BatchT]):
    """One training task: what is minimised for a kind of model and of batch."""

    def loss(self, model: ModelT, batch: BatchT) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar to minimise and detached scalars to log."""

    def after_step(self, model: ModelT) -> None:
        """Put constrained parameters back into their range."""


@dataclass(frozen=True)
class Contrastive:
    """Pictures or clips and their texts, drawn together; a clip is the mean of its frames' embeddings.

    Attributes:
        max_logit_scale: cap of the learnable scale exp(logit_scale) (training-recipes 1.1).
        chunk_size: rows that enter a tower at once, see `encode_media`. The loss sees the whole batch either way.
        pair_loss: symmetric InfoNCE (the papers'), or SigLIP's sigmoid of every pair, which needs the parameter that
            `add_logit_bias` gives a model.
        mask: regularise with masked copies of pictures; clips have none (1.7: in pretraining only).
    """

    max_logit_scale: float = 100.0
    chunk_size: int = 0
    pair_loss: PairLossName = "infonce"
    mask: MaskRecipe | None = None

    def loss(self, model: CLIP, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss over the batches of all processes.

        Metrics: `accuracy` (share of media whose own text is nearest), `logit_scale` and, with masks, `mask_cosine`
        (mean cosine of masked tokens and their unmasked counterparts).
        """
        media_BE = unit_vectors(encode_media(model, batch.pixels, self.chunk_size))
        text_BE = unit_vectors(encode_text(model, batch.ids, self.chunk_size))
        scale = model.logit_scale.exp()
        if self.pair_loss == "siglip":
            pairs = sigmoid_pairs(media_BE, text_BE, scale, model.get_parameter(LOGIT_BIAS))
        else:
            pairs = info_nce(media_BE, text_BE, scale)
        loss, metrics = pairs.loss, {"accuracy": pairs.accuracy, "logit_scale": scale.detach()}
        if self.mask is not None and batch.pixels.ndim == 4:
            distance = mask_loss(model.visual, batch.pixels, self.mask)
            loss = loss + self.mask.weight * distance
            metrics["mask_cosine"] = 1.0 - distance.detach()
        return loss, metrics

    def after_step(self, model: CLIP) -> None:
        """Cap the logit scale."""
        cap_logit_scale(model, self.max_logit_scale)


def cap_logit_scale(model: CLIP, largest: float) -> None:
    """Put exp(logit_scale) back to at most `largest`."""
    with torch.no_grad():
        model.logit_scale.clamp_(max=math.log(largest))


LOGIT_BIAS = "logit_bias"


def add_logit_bias(model: CLIP) -> None:
    """Give a model SigLIP's bias and first scale: -10 and 10 (Zhai et al. 2023, section 3.2). For training only: a
    ranking does not change by a constant, so saved models do without."""
    device = model.logit_scale.device
    model.register_parameter(LOGIT_BIAS, torch.nn.Parameter(torch.tensor(-10.0, device=device)))
    with torch.no_grad():
        model.logit_scale.fill_(math.log(10.0))
