"""PerceptionLM: a vision tower, a projector and a decoder (paper arXiv 2504.13180; spec section 2).

The tokens of each chunk (a picture, thumbnail, tile or frame) overwrite the embedding rows at the image-token
positions, both in order.

Shapes: B batch, L tokens, D width, C chunks of the whole batch, T tokens per chunk.
"""

from __future__ import annotations

from torch import Tensor, nn

from perceptic.configs_plm import PerceptionLMConfig
from perceptic.errors import ConfigError
from perceptic.models.decoder import Decoder
from perceptic.models.packed_attention import Packing
from perceptic.models.projector import Projector
from perceptic.models.vision import VisionTransformer


class PerceptionLM(nn.Module):
    """A PerceptionLM with fresh weights.

    Token ids are int64 (B, L); pixels are float (C, 3, h, w) in [-1, 1], the chunks of all rows one after the other.
    """

    def __init__(self, config: PerceptionLMConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_model = VisionTransformer(config.vision)
        self.vision_projector = Projector(config.vision.width, config.decoder.dim, config.pooling_ratio)
        self.decoder = Decoder(config.decoder)

    @property
    def image_size(self) -> int:
        """Native side of a chunk in pixels."""
        return self.config.vision.image_size

    @property
    def tokens_per_chunk(self) -> int:
        """Decoder tokens of a chunk of native size."""
        return self.config.tokens_per_chunk

    def forward(self, token_ids: Tensor, pixels: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        """Logits (B, L, vocabulary) of whole sequences.

        Args:
            positions: int64 (L,) or (B, L); 0, 1, 2... unless given.

        Raises:
            ConfigError: ids of a wrong shape, or another number of image tokens than the chunks fill.
        """
        return self.decoder.logits(self.hidden(token_ids, pixels, positions))

    def hidden(self, token_ids: Tensor, pixels: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        """Hidden states (B, L, D) before the output head: for losses that need the logits of few positions."""
        features = None if pixels is None else self.encode_chunks(pixels)
        y_BLD: Tensor = self.decoder(self.embed(token_ids, features), positions)
        return y_BLD

    def hidden_packed(self, token_ids: Tensor, pixels: Tensor | None, packing: Packing) -> Tensor:
        """As `hidden`, of rows that hold several samples each; see `Decoder.forward_packed`."""
        features = None if pixels is None else self.encode_chunks(pixels)
        return self.decoder.forward_packed(self.embed(token_ids, features), packing)

    def encode_chunks(self, pixels: Tensor) -> Tensor:
        """Chunks (C, 3, h, w) to decoder tokens (C, T, D)."""
        weight = self.vision_model.conv1.weight
        features = self.vision_model(pixels.to(weight.device, weight.dtype), strip_cls_token=True)
        tokens_CTD: Tensor = self.vision_projector(features)
        return tokens_CTD

    def embed(self, token_ids: Tensor, features: Tensor | None = None) -> Tensor:
        """Embedding rows (B, L, D), the image-token positions filled with chunk features (C, T, D) in order.

        Raises:
            ConfigError: ids of a wrong shape, or another number of image tokens than C*T.
        """
        if token_ids.ndim != 2:
            raise ConfigError(f"token ids must be (batch, tokens), not {tuple(token_ids.shape)}")
        x_BLD = self.decoder.embed(token_ids)
        is_image_BL = token_ids == self.config.image_token_id
        num_positions = int(is_image_BL.sum())
        num_features = 0 if features is None else features.shape[0] * features.shape[1]
        if num_positions != num_features:
            raise ConfigError(
                f"the token ids have {num_positions} image tokens (id {self.config.image_token_id}) but the chunks "
                f"fill {num_features}; each chunk of {self.image_size} px needs {self.tokens_per_chunk}"
            )
        if features is None:
            return x_BLD
        rows = features.flatten(0, 1).to(x_BLD.device, x_BLD.dtype)
        return x_BLD.masked_scatter(is_image_BL[..., None], rows)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations in backward, in the tower and the decoder (training only)."""
        self.vision_model.set_grad_checkpointing(enable)
        self.decoder.set_grad_checkpointing(enable)

    def set_frozen(self, *, vision: bool = False, decoder: bool = False) -> None:
        """Switch gradients of the tower and of the decoder; the projector always trains (spec 2.7)."""
        self.vision_model.requires_grad_(not vision)
        self.decoder.requires_grad_(not decoder)
