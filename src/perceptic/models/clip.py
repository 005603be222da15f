"""Perception Encoder Core: a vision and a text tower that share one embedding space (spec section 2.8).

Shapes: B batch, F frames, L tokens, E embedding size.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perceptic.configs import ClipConfig
from perceptic.errors import ConfigError
from perceptic.models.text import TextTransformer
from perceptic.models.vision import VisionTransformer

INITIAL_LOGIT_SCALE = math.log(1 / 0.07)


class ClipOutput(NamedTuple):
    """What `CLIP.forward` returns; unpacks like the original's tuple."""

    image_features: Tensor | None  # (B, E), unit length
    text_features: Tensor | None  # (B, E), unit length
    logit_scale: Tensor  # scalar, exponentiated


class CLIP(nn.Module):
    """Image, video and text encoder with fresh weights.

    `visual` is the vision tower, `text` the text tower, `logit_scale` the logarithm of the similarity scale.
    """

    vision_class = VisionTransformer
    text_class = TextTransformer

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.visual = self.vision_class(config.vision)
        self.text = self.text_class(config.text)
        self.logit_scale = nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.constant_(self.logit_scale, INITIAL_LOGIT_SCALE)

    @property
    def config(self) -> ClipConfig:
        return ClipConfig(vision=self.visual.config, text=self.text.config)

    @property
    def image_size(self) -> int:
        return self.visual.image_size

    @property
    def context_length(self) -> int:
        return self.text.context_length

    def encode_image(self, pixels: Tensor, normalize: bool = False) -> Tensor:
        """(B, 3, h, w) pixels in [-1, 1] to (B, E); `normalize` gives unit vectors."""
        features_BE = self.visual(pixels)
        return F.normalize(features_BE, dim=-1) if normalize else features_BE

    def encode_text(self, ids: Tensor, normalize: bool = False) -> Tensor:
        """(B, L) token ids to (B, E); `normalize` gives unit vectors."""
        features_BE = self.text(ids)
        return F.normalize(features_BE, dim=-1) if normalize else features_BE

    def encode_video(self, frames: Tensor, normalize: bool | Literal["frames"] = False) -> Tensor:
        """(B, F, 3, h, w) frames in [-1, 1] to (B, E): the mean of the frame embeddings.

        Args:
            normalize: False takes the mean of the raw frame embeddings (the published classification protocol, to be
                normalised afterwards). True normalises each frame, takes the mean and normalises that: unit vectors.
                "frames" is the original's `normalize=True`: each frame is normalised and the mean is left shorter
                than 1. True and "frames" point in the same direction and rank the same texts alike.

        Raises:
            ConfigError: frames of a wrong shape.
        """
        if frames.ndim != 5 or frames.shape[1] == 0:
            raise ConfigError(f"frames must be (batch, frames, 3, height, width), not {tuple(frames.shape)}")
        frame_BFE = self.encode_image(frames.flatten(0, 1), normalize=bool(normalize)).unflatten(0, frames.shape[:2])
        mean_BE = frame_BFE.mean(dim=1)
        return F.normalize(mean_BE, dim=-1) if normalize is True else mean_BE

    def forward(self, image: Tensor | None = None, text: Tensor | None = None) -> ClipOutput:
        """Normalised image and text features and exp(logit_scale); either input may be missing.

        Similarity logits are `logit_scale * image_features @ text_features.T`.
        """
        return ClipOutput(
            image_features=None if image is None else self.encode_image(image, normalize=True),
            text_features=None if text is None else self.encode_text(text, normalize=True),
            logit_scale=self.logit_scale.exp(),
        )

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block's activations in backward instead of keeping them (training only)."""
        self.visual.set_grad_checkpointing(enable)
        self.text.set_grad_checkpointing(enable)
