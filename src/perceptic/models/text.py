"""The Perception Encoder text tower (spec section 2.7).

Token and position embedding, causal pre-norm blocks, LayerNorm, the token with the largest id (end of text) and a
projection.

Shapes: B batch, L tokens, D width, E embedding size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from perceptic.configs import TextConfig
from perceptic.errors import ConfigError
from perceptic.models.layers import LAYER_NORM_EPS, Block, Transformer


class TextTransformer(nn.Module):
    """A text tower with fresh weights. Ids are int64 (B, L), L at most `context_length`, padded right with 0."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.token_embedding = nn.Embedding(config.vocab_size, width)
        self.positional_embedding = nn.Parameter(torch.empty(config.context_length, width))
        self.transformer = Transformer([Block(width, config.heads, config.mlp_width) for _ in range(config.layers)])
        self.ln_final = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.text_projection = nn.Parameter(torch.empty(width, config.output_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """CLIP practice; the original leaves position embedding and projection uninitialised (spec 2.9)."""
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        nn.init.normal_(self.text_projection, std=self.config.width**-0.5)

    @property
    def context_length(self) -> int:
        return self.config.context_length

    @property
    def output_dim(self) -> int:
        return self.config.output_dim

    def forward(self, ids_BL: Tensor) -> Tensor:
        """(B, L) ids to (B, E) embeddings, not normalised. Raises ConfigError for longer input than the context."""
        x_BLD = self.forward_features(ids_BL)
        # Padding needs no mask: it comes after the pooled token, which looks only backwards.
        end_B = ids_BL.argmax(dim=-1)
        pooled_BD = x_BLD[torch.arange(x_BLD.shape[0], device=x_BLD.device), end_B]
        return pooled_BD @ self.text_projection

    def forward_features(self, ids_BL: Tensor) -> Tensor:
        """Token features (B, L, D) after the final LayerNorm."""
        if ids_BL.ndim != 2 or not 0 < ids_BL.shape[1] <= self.config.context_length:
            raise ConfigError(
                f"token ids must be (batch, 1 to {self.config.context_length} tokens), not {tuple(ids_BL.shape)}"
            )
        x_BLD = self.token_embedding(ids_BL) + self.positional_embedding[: ids_BL.shape[1]]
        for index in range(self.config.layers):
            x_BLD = self.transformer.run_block(index, x_BLD, is_causal=True)
        y_BLD: Tensor = self.ln_final(x_BLD)
        return y_BLD

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block's activations in backward instead of keeping them (training only)."""
        self.transformer.grad_checkpointing = enable
