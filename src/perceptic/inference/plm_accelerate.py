"""Fast PerceptionLM inference on a CPU, applied from outside: `accelerate_plm(model)` returns a twin.

    plm = accelerate_plm(plm, consume=True)
    generate(plm, tokenizer, prompts)

The vision tower becomes that of `inference.compiled`. The decoder goes through `inference.decoder_kernels`: single
tokens, one or one for each row of a batch, at the speed of memory, and prompts at the speed of AMX where there is it.
What it gains is measured by `benchmarks/decode.py` and `benchmarks/plm.py`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from perceptic.errors import ConfigError, MissingDependencyError, OutputError
from perceptic.inference.compiled import KernelChoice, accelerate
from perceptic.inference.decoder_kernels import DecoderKernels, misfits
from perceptic.inference.inference_only import InferenceOnly
from perceptic.inference.native import load_library
from perceptic.inference.packed import cast_module
from perceptic.models.decoder import Decoder, Extended
from perceptic.models.kv_cache import KVCache
from perceptic.models.perception_lm import PerceptionLM
from perceptic.models.quantized import Quantization, quantize_decoder
from perceptic.models.rope import RopeTable
from perceptic.models.text_rope import rope_frequencies
from perceptic.models.vision import VisionTransformer

ModelT = TypeVar("ModelT", bound=PerceptionLM)
AS_STORED = "as stored"


def accelerate_plm(
    model: ModelT,
    *,
    dtype: torch.dtype | None = None,
    weights: str | Quantization | Mapping[str, str] = AS_STORED,
    kernels: KernelChoice = "auto",
    cache_folder: str | Path | None = None,
    consume: bool = False,
) -> ModelT:
    """A twin of a PerceptionLM that runs fast on this CPU: same methods, no gradients, no saving.

    Parts on another device (a tower on a GPU) are shared as they are. The decoder's weights are shared with the model,
    not copied, unless `dtype` or `weights` ask for others.

    Args:
        dtype: what tower and decoder compute in, float32 or bfloat16; None keeps the model's. Compiled steps are for
            bfloat16; a float32 decoder runs in torch's operators.
        weights: "int8", "int4" or patterns: quantise the decoder's weights (`models.quantized.Quantization`);
            "as stored" takes the model's.
        kernels: "native" builds the compiled kernels or raises; "torch" uses torch's operators; "auto" takes native
            kernels where processor, compiler and cache folder allow and falls back to torch.
        cache_folder: where compiled kernels are kept; None is `~/.cache/perceptic/kernels`.
        consume: free the model's weights while packing, casting or quantising them, so that they are never held twice.
            The model given must not be used afterwards.

    Raises:
        ConfigError: no part of the model is on the CPU; a dtype or sizes that cannot run; a quantised model for which
            other weights are asked.
        MissingDependencyError: "native" on another processor or without a C compiler.
        OutputError: "native", and the cache folder cannot be written.
    """
    if isinstance(model.decoder, AcceleratedDecoder):
        raise ConfigError("the model is accelerated already")
    if kernels not in ("auto", "native", "torch"):
        raise ConfigError(f"kernels must be 'auto', 'native' or 'torch', not {kernels!r}")
    devices = {next(part.parameters()).device.type for part in (model.vision_model, model.decoder.norm)}
    if "cpu" not in devices:
        raise ConfigError(f"accelerate_plm() is for models on the CPU, not on {', '.join(devices)}")
    twin = copy.copy(model)
    tower = _accelerated_tower(model.vision_model, dtype, kernels, cache_folder, consume)
    projector = model.vision_projector if dtype is None else cast_module(model.vision_projector, dtype)
    decoder = _with_weights(model.decoder, dtype, weights, consume)
    twin._modules = {
        **model._modules,
        "vision_model": tower,
        "vision_projector": projector,
        "decoder": AcceleratedDecoder(decoder, _decoder_kernels(decoder, kernels, cache_folder)),
    }
    return twin


class AcceleratedDecoder(InferenceOnly, Decoder):
    """A `Decoder` for inference on a CPU, made by `accelerate_plm`.

    Attributes:
        uses_native_kernels: whether compiled kernels take its steps, or torch's operators.
    """

    made_by = "accelerate_plm"

    def __init__(self, decoder: Decoder, kernels: DecoderKernels | None) -> None:
        nn.Module.__init__(self)
        self.config = decoder.config
        self.grad_checkpointing = False
        for name, module in decoder.named_children():
            self.add_module(name, module)
        self.uses_native_kernels = kernels is not None
        self._kernels = kernels
        self._plain = (decoder,)  # in a tuple: it is not a part, its parts are ours
        self._frequencies_P = rope_frequencies(decoder.config)
        nn.Module.train(self, False)

    @property
    def dtype(self) -> torch.dtype:
        return self._plain[0].dtype

    @property
    def device(self) -> torch.device:
        return self._plain[0].device

    @torch.no_grad()
    def embed(self, token_ids_BL: Tensor) -> Tensor:
        """As `Decoder.embed`."""
        return self._plain[0].embed(token_ids_BL)

    @torch.no_grad()
    def forward(self, x_BLD: Tensor, positions: Tensor | None = None) -> Tensor:
        """As `Decoder.forward`."""
        return self._plain[0](x_BLD, positions)  # type: ignore[no-any-return]

    @torch.inference_mode()
    def extend(self, x_BLD: Tensor, cache: KVCache) -> Extended:
        """As `Decoder.extend`."""
        kernels, length = self._kernels, x_BLD.shape[1]
        if kernels is None or x_BLD.dtype != torch.bfloat16 or (length > 1 and not kernels.reads_prompts):
            return self._plain[0].extend(x_BLD, cache)
        rope = self._angles(cache, length)
        cache = cache.grown(length)
        if length > 1:
            return Extended(kernels.read(x_BLD, cache, rope), cache)
        return Extended(kernels.step(x_BLD[:, 0], cache, rope)[:, None], cache)

    @torch.no_grad()
    def logits(self, hidden: Tensor) -> Tensor:
        """As `Decoder.logits`."""
        if self._kernels is None or hidden.dtype != torch.bfloat16:
            return self._plain[0].logits(hidden)
        return self._kernels.logits(hidden.reshape(-1, hidden.shape[-1])).view(*hidden.shape[:-1], -1)

    def _angles(self, cache: KVCache, length: int) -> RopeTable:
        """Cosine and sine of the next positions, (L, P); (B, L, P) where rows are padded."""
        positions = torch.arange(cache.length, cache.length + length)
        if cache.padding is not None:
            positions = positions - cache.padding[:, None]
        angles = positions[..., None].float() * self._frequencies_P
        return RopeTable(angles.cos(), angles.sin())


def _accelerated_tower(
    tower: VisionTransformer,
    dtype: torch.dtype | None,
    kernels: KernelChoice,
    cache_folder: str | Path | None,
    consume: bool,
) -> VisionTransformer:
    if tower.conv1.weight.device.type != "cpu":
        return tower
    try:
        return accelerate(tower, dtype=dtype, kernels=kernels, cache_folder=cache_folder, consume=consume)
    except MissingDependencyError:  # bfloat16 without oneDNN
        if kernels == "native":
            raise
        return tower if dtype is None else cast_module(tower, dtype)


def _with_weights(
    decoder: Decoder, dtype: torch.dtype | None, weights: str | Quantization | Mapping[str, str], consume: bool
) -> Decoder:
    """The decoder in another type or quantised, or as it is."""
    if weights != AS_STORED:
        decoder = quantize_decoder(decoder, weights, consume=consume)
    if dtype is None or decoder.dtype == dtype:
        return decoder
    return decoder.to(dtype) if consume else cast_module(decoder, dtype)


def _decoder_kernels(decoder: Decoder, choice: KernelChoice, cache_folder: str | Path | None) -> DecoderKernels | None:
    """None where torch's operators are to run, by choice or for lack of anything else."""
    if choice == "torch" or decoder.device.type != "cpu":
        return None
    reasons = misfits(decoder)
    if decoder.dtype != torch.bfloat16:
        reasons.append(f"they compute in bfloat16, not {decoder.dtype}")
    if reasons:
        if choice == "native":
            raise ConfigError(f"the compiled decoder kernels cannot run this model: {'; '.join(reasons)}")
        return None
    try:
        return DecoderKernels(decoder, load_library(cache_folder))
    except (MissingDependencyError, OutputError):
        if choice == "native":
            raise
        return None
