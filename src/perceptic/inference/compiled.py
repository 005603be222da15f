"""Fast inference on a CPU, applied from outside: `accelerate(model)` returns a twin that computes the same.

    clip = accelerate(clip, dtype=torch.bfloat16)
    clip.encode_image(pixels)

The twin is for inference alone: no gradients, no saving, no moving. What it does differently is in
`inference.packed` (the network rearranged) and `inference.native` (compiled kernels); what it gains is measured by
`benchmarks/encode.py`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from perceptic.configs import VisionConfig
from perceptic.errors import ConfigError, MissingDependencyError, OutputError
from perceptic.inference.inference_only import InferenceOnly
from perceptic.inference.native import NativeKernels, load_kernels
from perceptic.inference.packed import (
    Kernels,
    PackedAttentionPool,
    PackedBlock,
    PackedNorm,
    TorchKernels,
    cast_module,
)
from perceptic.inference.tower_kernels import TowerBlock, fits_tower
from perceptic.models.clip import CLIP
from perceptic.models.layers import AttentionPool, Block, Transformer
from perceptic.models.vision import VisionTransformer

ModelT = TypeVar("ModelT", CLIP, VisionTransformer)
KernelChoice = Literal["auto", "native", "torch"]

# The widest activation (tokens x MLP width) of one pass. Above 32 MiB glibc maps and unmaps it on every call, which
# costs a page fault per 4 KiB, and it leaves the last-level cache of most processors.
WIDEST_ACTIVATION_BYTES = 24 * 2**20
# Tokens of one pass of `TowerBlock`, if one image has not more: a few columns of all of them stay in the L2 cache.
_TOWER_ROWS = 1100


def accelerate(
    model: ModelT,
    *,
    dtype: torch.dtype | None = None,
    kernels: KernelChoice = "auto",
    cache_folder: str | Path | None = None,
    consume: bool = False,
) -> ModelT:
    """A twin of a CLIP model or vision tower whose image side runs fast on this CPU.

    The first call on a machine builds the kernels with the C compiler (about four seconds) and keeps them; packing the
    weights takes the time of reading them once. Results equal the model's within rounding (float32: 5e-5 of unit
    features; bfloat16: cosine 0.999). Any batch and image size works; large batches are run in parts.

    Args:
        model: on the CPU, in evaluation mode or not (dropped paths are ignored). A CLIP twin shares the text tower.
        dtype: what the vision tower computes in, float32 or bfloat16; None keeps the model's. Pixels of any float
            type are taken, results have this type.
        kernels: "native" builds the compiled kernels or raises; "torch" uses torch's operators; "auto" takes native
            kernels where processor, compiler and cache folder allow and falls back to torch.
        cache_folder: where compiled kernels are kept; None is `~/.cache/perceptic/kernels`.
        consume: free the model's blocks while packing them, so that weights are never held twice. The model given
            must not be used afterwards.

    Raises:
        ConfigError: a model on another device, another dtype, or sizes that native kernels cannot run ("native").
        MissingDependencyError: "native" on another processor or without a C compiler; bfloat16 without oneDNN.
        OutputError: "native", and the cache folder cannot be written.
    """
    if isinstance(model, CLIP):
        twin = copy.copy(model)
        tower = _accelerate_tower(model.visual, dtype, kernels, cache_folder, consume)
        twin._modules = {**model._modules, "visual": tower}
        return twin
    return _accelerate_tower(model, dtype, kernels, cache_folder, consume)


class AcceleratedVisionTransformer(InferenceOnly, VisionTransformer):
    """A `VisionTransformer` for inference on a CPU, made by `accelerate`: same methods, no gradients, no saving.

    Attributes:
        dtype: what it computes in. uses_native_kernels: whether compiled kernels run it, or torch's operators.
    """

    made_by = "accelerate"

    def __init__(self, tower: VisionTransformer, dtype: torch.dtype, kernels: Kernels, consume: bool) -> None:
        nn.Module.__init__(self)
        self.config = tower.config
        self.dtype = dtype
        self.uses_native_kernels = not isinstance(kernels, TorchKernels)
        for name, parameter in tower.named_parameters(recurse=False):
            self.register_parameter(name, nn.Parameter(parameter.detach().to(dtype), requires_grad=False))
        for name, module in tower.named_children():
            if name != "transformer":
                self.add_module(name, _packed_module(module, dtype, kernels))
        self.transformer = Transformer(
            _packed_block(block, dtype, kernels) for block in _blocks(tower.transformer, consume)
        )
        nn.Module.train(self, False)

    @torch.no_grad()
    def forward(self, pixels: Tensor, layer_idx: int = -1, strip_cls_token: bool = False) -> Tensor:
        """As `VisionTransformer.forward`."""
        return self._in_parts(super().forward, pixels, layer_idx=layer_idx, strip_cls_token=strip_cls_token)

    @torch.no_grad()
    def forward_features(
        self, pixels: Tensor, norm: bool = False, layer_idx: int = -1, strip_cls_token: bool = False
    ) -> Tensor:
        """As `VisionTransformer.forward_features`."""
        return self._in_parts(
            super().forward_features, pixels, norm=norm, layer_idx=layer_idx, strip_cls_token=strip_cls_token
        )

    @torch.no_grad()
    def embed(self, pixels: Tensor) -> Any:
        """As `VisionTransformer.embed`, for pixels of any float type."""
        return super().embed(pixels.to(self.dtype))

    def _in_parts(self, function: Callable[..., Tensor], pixels: Tensor, **arguments: Any) -> Tensor:
        """Run a batch in equal parts that keep the widest activation small."""
        parts = [function(part, **arguments) for part in pixels.tensor_split(self._num_parts(pixels))]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _num_parts(self, pixels: Tensor) -> int:
        if pixels.ndim != 4:
            return 1  # embed says what is wrong with it
        rows, columns = self.grid(pixels)
        tokens = rows * columns + self.config.num_prefix_tokens
        image_bytes = tokens * self.config.mlp_width * self.dtype.itemsize
        images = max(1, WIDEST_ACTIVATION_BYTES // max(1, image_bytes))
        if isinstance(self.transformer.resblocks[0], TowerBlock):
            images = max(1, min(images, _TOWER_ROWS // tokens))
        return max(1, -(-pixels.shape[0] // images))


def _accelerate_tower(
    tower: VisionTransformer,
    dtype: torch.dtype | None,
    choice: KernelChoice,
    cache_folder: str | Path | None,
    consume: bool,
) -> AcceleratedVisionTransformer:
    weight = tower.conv1.weight
    dtype = weight.dtype if dtype is None else dtype
    if isinstance(tower, AcceleratedVisionTransformer):
        raise ConfigError("the model is accelerated already")
    if weight.device.type != "cpu":
        raise ConfigError(f"accelerate() is for models on the CPU, not on {weight.device}; use torch.compile there")
    if dtype not in (torch.float32, torch.bfloat16):
        raise ConfigError(f"accelerate() computes in float32 or bfloat16, not {dtype}")
    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        raise MissingDependencyError("bfloat16 on this CPU needs a PyTorch with oneDNN, and AVX-512; use float32")
    kernels = _choose_kernels(tower.config, dtype, choice, cache_folder)
    return AcceleratedVisionTransformer(tower, dtype, kernels, consume)


def _choose_kernels(
    config: VisionConfig, dtype: torch.dtype, choice: KernelChoice, cache_folder: str | Path | None
) -> Kernels:
    if choice not in ("auto", "native", "torch"):
        raise ConfigError(f"kernels must be 'auto', 'native' or 'torch', not {choice!r}")
    if choice == "torch":
        return TorchKernels()
    try:
        native = load_kernels(dtype, cache_folder)
    except (MissingDependencyError, OutputError):
        if choice == "native":
            raise
        return TorchKernels()
    if native.supports(dtype, config):
        return native
    if choice == "native":
        raise ConfigError(
            f"native {dtype} kernels need widths that are multiples of 16 and heads of a multiple of "
            f"{native.head_step(dtype)} channels, not width {config.width}, MLP width {config.mlp_width}, "
            f"heads of {config.head_dim}"
        )
    return TorchKernels()


def _blocks(transformer: Transformer, consume: bool) -> Iterator[Block]:
    for index, block in enumerate(transformer.resblocks):
        assert isinstance(block, Block)
        if consume:
            transformer.resblocks[index] = nn.Identity()
        yield block


def _packed_block(block: Block, dtype: torch.dtype, kernels: Kernels) -> nn.Module:
    width, wide = block.mlp.c_fc.in_features, block.mlp.c_fc.out_features
    if (
        dtype == torch.bfloat16
        and isinstance(kernels, NativeKernels)
        and fits_tower(width, wide, width // block.attn.heads)
    ):
        return TowerBlock(block, kernels.library)
    return PackedBlock(block, kernels, dtype)


def _packed_module(module: nn.Module, dtype: torch.dtype, kernels: Kernels) -> nn.Module:
    if isinstance(module, nn.LayerNorm):
        return PackedNorm(module, kernels)
    if isinstance(module, AttentionPool):
        return PackedAttentionPool(module, dtype)
    return cast_module(module, dtype)
