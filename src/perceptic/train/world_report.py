"""How well an image-text model knows the synthetic world: zero-shot labels, retrieval, out-of-distribution pictures.

Zero-shot classification follows spec 6.1 (prompt embeddings normalised, averaged over templates, normalised); retrieval
is recall at 1 without reweighting (spec 6.3). Scenes come from splits and seeds that training never uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from perceptic import world
from perceptic.data.augmentation import plain
from perceptic.models.clip import CLIP
from perceptic.text.clip_tokenizer import ClipTokenizer

_ROWS_AT_ONCE = 200


@dataclass(frozen=True)
class Encoders:
    """A model's two towers as functions to unit vectors. `pixels` is uint8 (N, F, 3, H, W)."""

    model: CLIP
    tokenizer: ClipTokenizer

    @torch.inference_mode()
    def media(self, pixels: NDArray[np.uint8]) -> Tensor:
        """(N, E); a clip's frames are averaged before normalising."""
        parts = []
        for start in range(0, len(pixels), _ROWS_AT_ONCE):
            frames = plain(pixels[start : start + _ROWS_AT_ONCE], self.model.image_size)
            parts.append(F.normalize(self.model.encode_video(frames), dim=-1))
        return torch.cat(parts)

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """(N, E)."""
        parts = [
            self.model.encode_text(self.tokenizer(list(texts[start : start + _ROWS_AT_ONCE])), normalize=True)
            for start in range(0, len(texts), _ROWS_AT_ONCE)
        ]
        return torch.cat(parts)

    def classifier(self, prompts: Sequence[Sequence[str]]) -> Tensor:
        """(classes, E): the normalised mean of each class's prompts."""
        return torch.stack([F.normalize(self.texts(texts).mean(dim=0), dim=-1) for texts in prompts])


def zero_shot(
    encoders: Encoders, split: str, attributes: Sequence[str], count: int, seed: int, variant: str | None = None
) -> dict[str, float]:
    """Top-1 accuracy in percent per attribute, over `count` one-object scenes of a split."""
    labelled = list(world.zero_shot_scenes(split, count, seed=seed, variant=variant))
    media = encoders.media(_render([item.scene for item in labelled], encoders.model.image_size))
    return {
        attribute: top1(
            media @ encoders.classifier(world.prompts(attribute)).T, [item.labels[attribute] for item in labelled]
        )
        for attribute in attributes
    }


def top1(scores: Tensor, labels: Sequence[int]) -> float:
    """Share of rows whose largest score is at the label, in percent."""
    return 100.0 * float((scores.argmax(dim=1) == torch.tensor(labels)).float().mean())


def recall_at_1(queries: Tensor, gallery: Tensor, query_texts: Sequence[str] | None = None) -> float:
    """Share of queries whose nearest gallery entry has the same index, in percent.

    With `query_texts`, identical texts share their positives (spec 6.3).
    """
    nearest = (queries @ gallery.T).argmax(dim=1).tolist()
    if query_texts is None:
        return 100.0 * sum(found == index for index, found in enumerate(nearest)) / len(nearest)
    return (
        100.0 * sum(query_texts[found] == text for found, text in zip(nearest, query_texts, strict=True)) / len(nearest)
    )


def _render(scenes: Sequence[world.Scene], size: int) -> NDArray[np.uint8]:
    return np.stack([world.render_pixels(scene, size).transpose(2, 0, 1)[None] for scene in scenes])
