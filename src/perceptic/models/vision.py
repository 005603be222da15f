"""The Perception Encoder vision tower (paper arXiv 2504.13181; spec sections 2.1 to 2.6).

Patches, an absolute position table (bilinear on other grids), pre-norm blocks with 2-D RoPE, then LayerNorm, pooling
and projection where the model has them. One class serves Core, Lang and Spatial.

Shapes: B batch, h/w pixels, L tokens (class token first, then patches row by row), D width, E embedding size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perceptic.configs import VisionConfig
from perceptic.errors import ConfigError
from perceptic.models.layers import LAYER_NORM_EPS, AttentionPool, Block, Transformer
from perceptic.models.rope import RopeTable, rope_table


class VisionTransformer(nn.Module):
    """A vision tower with fresh weights. Pixels are float, (B, 3, h, w), normalised to [-1, 1]; any size >= one patch.

    Attributes:
        config: the `VisionConfig` it was built from (kept true by `truncate`).
        image_size: native side in pixels. output_dim: size of the last axis of `forward`.
    """

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.conv1 = nn.Conv2d(3, width, kernel_size=config.patch_size, stride=config.patch_size, bias=False)
        if config.use_cls_token:
            self.class_embedding = nn.Parameter(torch.empty(width))
        if config.use_abs_posemb:
            num_tokens = config.num_prefix_tokens + config.grid_size**2
            self.positional_embedding = nn.Parameter(torch.empty(num_tokens, width))
        self.ln_pre = nn.LayerNorm(width, eps=LAYER_NORM_EPS) if config.use_ln_pre else nn.Identity()
        self.transformer = Transformer(
            [
                Block(width, config.heads, config.mlp_width, config.ls_init_value, config.drop_path)
                for _ in range(config.layers)
            ]
        )
        self.ln_post = nn.LayerNorm(width, eps=LAYER_NORM_EPS) if config.use_ln_post else nn.Identity()
        if config.pool_type == "attn":
            self.attn_pool = AttentionPool(width, config.attn_pooler_heads)
        if config.output_dim is not None:
            self.proj = nn.Parameter(torch.empty(width, config.output_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Embeddings and projection: normal, std width^-0.5 (spec 2.9)."""
        for name in ("class_embedding", "positional_embedding", "proj"):
            if hasattr(self, name):
                nn.init.normal_(getattr(self, name), std=self.config.width**-0.5)

    @property
    def image_size(self) -> int:
        return self.config.image_size

    @property
    def output_dim(self) -> int:
        return self.config.output_dim or self.config.width

    def forward(self, pixels: Tensor, layer_idx: int = -1, strip_cls_token: bool = False) -> Tensor:
        """(B, 3, h, w) to (B, E) for pooled models, to the token sequence (B, L, E) for pool type 'none'.

        `strip_cls_token` removes the class token before pooling, which changes a pooled embedding.
        """
        x_BLD = self.forward_features(pixels, norm=True, layer_idx=layer_idx, strip_cls_token=strip_cls_token)
        return self.project(self.pool(x_BLD))

    def forward_features(
        self, pixels: Tensor, norm: bool = False, layer_idx: int = -1, strip_cls_token: bool = False
    ) -> Tensor:
        """Token features (B, L, D) after block `layer_idx`: 0 is the first block, -1 the last.

        Args:
            norm: apply `ln_post` (Core only; Lang and Spatial have none).
            strip_cls_token: drop the class token if the model has one.

        Raises:
            ConfigError: `layer_idx` out of range, or pixels of a wrong shape.
        """
        last = self._block_index(layer_idx)
        x_BLD, rope = self.embed(pixels)
        for index in range(last + 1):
            x_BLD = self.transformer.run_block(index, x_BLD, rope)
        if norm:
            x_BLD = self.ln_post(x_BLD)
        return x_BLD[:, self.config.num_prefix_tokens :] if strip_cls_token else x_BLD

    def forward_intermediates(
        self,
        pixels: Tensor,
        indices: int | Sequence[int] | None = None,
        return_prefix_tokens: bool = False,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: Literal["NCHW", "NLC"] = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | list[tuple[Tensor, Tensor]] | tuple[Tensor, list[Tensor] | list[tuple[Tensor, Tensor]]]:
        """Features of several blocks in one pass, with timm's meaning of every argument.

        Args:
            indices: blocks to return; an int means the last n, None all, negative numbers count from the end.
            return_prefix_tokens: each result becomes (patches, class tokens (B, prefix, D)).
            norm: apply `ln_post` to each result.
            stop_early: do not run the blocks after the last one asked for.
            output_fmt: "NCHW" maps (B, D, rows, columns) or "NLC" sequences (B, rows*columns, D), class token removed.
            intermediates_only: return the list alone instead of (normalised last tokens, list).

        Raises:
            ConfigError: an index out of range or an unknown `output_fmt`.
        """
        if output_fmt not in ("NCHW", "NLC"):
            raise ConfigError(f"output_fmt must be 'NCHW' or 'NLC', not {output_fmt!r}")
        wanted = self._take_indices(indices)
        x_BLD, rope = self.embed(pixels)
        taken: list[Tensor] = []
        for index in range(max(wanted) + 1 if stop_early else self.config.layers):
            x_BLD = self.transformer.run_block(index, x_BLD, rope)
            if index in wanted:
                taken.append(self.ln_post(x_BLD) if norm else x_BLD)
        prefix = self.config.num_prefix_tokens
        patches = [y[:, prefix:] for y in taken]
        if output_fmt == "NCHW":
            rows, columns = self.grid(pixels)
            patches = [y.transpose(1, 2).unflatten(2, (rows, columns)).contiguous() for y in patches]
        results: list[Tensor] | list[tuple[Tensor, Tensor]] = patches
        if return_prefix_tokens:
            results = [(patch, y[:, :prefix]) for patch, y in zip(patches, taken, strict=True)]
        return results if intermediates_only else (self.ln_post(x_BLD), results)

    def truncate(self, layer_idx: int) -> None:
        """Keep blocks 0..layer_idx and forget the rest; `ln_post`, pooling and projection stay.

        Raises:
            ConfigError: `layer_idx` out of range.
        """
        keep = self._block_index(layer_idx) + 1
        self.transformer.resblocks = self.transformer.resblocks[:keep]
        self.config = self.config.replace(layers=keep)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block's activations in backward instead of keeping them (training only)."""
        self.transformer.grad_checkpointing = enable

    def grid(self, pixels: Tensor) -> tuple[int, int]:
        """Patch rows and columns of an input; leftover pixels at the right and bottom are ignored."""
        return pixels.shape[-2] // self.config.patch_size, pixels.shape[-1] // self.config.patch_size

    def patches(self, pixels: Tensor) -> Tensor:
        """(B, 3, h, w) to (B, rows*columns, 3*patch*patch): the values under each kernel of `conv1`, in its order."""
        size = self.config.patch_size
        rows, columns = self.grid(pixels)
        whole = pixels[:, :, : rows * size, : columns * size]
        tiles: Tensor = whole.unflatten(2, (rows, size)).unflatten(4, (columns, size))
        return tiles.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)

    def embed(self, pixels: Tensor) -> tuple[Tensor, RopeTable | None]:
        """Pixels to the tokens that enter block 0, and the rotary table of their grid."""
        if pixels.ndim != 4 or pixels.shape[1] != 3 or min(pixels.shape[-2:]) < self.config.patch_size:
            raise ConfigError(
                f"pixels must be (batch, 3, height, width) of at least {self.config.patch_size} px a side, "
                f"not {tuple(pixels.shape)}"
            )
        rows, columns = self.grid(pixels)
        # The convolution's kernels do not overlap, so it is one matrix product; on CPU that takes a third of the time.
        # Pixels come as float32 whatever type the weights were stored in.
        patches_BLP = self.patches(pixels).to(self.conv1.weight.dtype)
        x_BLD = F.linear(patches_BLP, self.conv1.weight.flatten(1))
        if self.config.use_cls_token:
            x_BLD = torch.cat([self.class_embedding.expand(x_BLD.shape[0], 1, -1).to(x_BLD.dtype), x_BLD], dim=1)
        if self.config.use_abs_posemb:
            x_BLD = x_BLD + self.position_table(rows, columns)
        rope = None
        if self.config.use_rope2d:
            rope = rope_table(rows, columns, self.config.head_dim, self.config.num_prefix_tokens, pixels.device)
        return self.ln_pre(x_BLD), rope

    def position_table(self, rows: int, columns: int) -> Tensor:
        """The absolute embedding for a grid, (prefix + rows*columns, D); bilinear unless the grid is native (2.2)."""
        native, prefix = self.config.grid_size, self.config.num_prefix_tokens
        if (rows, columns) == (native, native):
            return self.positional_embedding
        table_1DGG = self.positional_embedding[prefix:].T.unflatten(1, (native, native))[None]
        resized = F.interpolate(table_1DGG, size=(rows, columns), mode="bilinear", align_corners=False)
        return torch.cat([self.positional_embedding[:prefix], resized[0].flatten(1).T])

    def pool(self, x_BLD: Tensor) -> Tensor:
        """Tokens to (B, D), or unchanged for pool type 'none'."""
        match self.config.pool_type:
            case "attn":
                pooled: Tensor = self.attn_pool(x_BLD)
                return pooled
            case "tok":
                return x_BLD[:, 0]
            case "avg":
                return x_BLD.mean(dim=1)
            case _:
                return x_BLD

    def project(self, x: Tensor) -> Tensor:
        """(..., D) to (..., E); the identity without a projection."""
        return x @ self.proj if self.config.output_dim is not None else x

    def _block_index(self, layer_idx: int) -> int:
        layers = self.config.layers
        if not -layers <= layer_idx < layers:
            raise ConfigError(
                f"layer_idx {layer_idx} is out of range: this tower has {layers} blocks, 0 to {layers - 1}"
            )
        return layer_idx % layers

    def _take_indices(self, indices: int | Sequence[int] | None) -> set[int]:
        layers = self.config.layers
        if indices is None:
            return set(range(layers))
        if isinstance(indices, int):
            if not 0 < indices <= layers:
                raise ConfigError(f"indices={indices} asks for the last {indices} of {layers} blocks")
            return set(range(layers - indices, layers))
        if not indices:
            raise ConfigError("indices is empty: name at least one block")
        return {self._block_index(index) for index in indices}
