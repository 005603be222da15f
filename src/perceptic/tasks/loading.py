"""A PerceptionLM from its files to a device, in the number type that suits the device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from perceptic.configs_plm import PerceptionLMPreprocessing
from perceptic.errors import ConfigError
from perceptic.inference.encode import resolve_device
from perceptic.inference.fingerprint import fingerprint
from perceptic.models.perception_lm import PerceptionLM
from perceptic.text.llama_tokenizer import LlamaTokenizer
from perceptic.weights.plm_pretrained import load_plm

PLMTypeName = Literal["auto", "float32", "bfloat16", "float16"]
_FINGERPRINT_SAMPLES = 64  # of each tensor: reading more would page the whole file in


@dataclass(frozen=True)
class PLMOptions:
    """Where and how a model is loaded.

    Attributes:
        device: of the decoder: "auto" or a torch device name.
        dtype: "auto" keeps stored bfloat16 where the device computes with it (a GPU, or a CPU with AMX or AVX512-BF16)
            and takes float32 elsewhere.
        vision_device: of the vision tower, where it is another: a large tower on a GPU, the decoder on the CPU, or the
            other way round.
        max_memory_bytes: what the model may take; None: what the machine has free.
        revision, cache_dir, local_files_only: for the hub.
    """

    device: str = "auto"
    dtype: PLMTypeName = "auto"
    vision_device: str | None = None
    max_memory_bytes: int | None = None
    revision: str | None = None
    cache_dir: str | Path | None = None
    local_files_only: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in get_args(PLMTypeName):
            raise ConfigError(f"dtype must be one of {', '.join(get_args(PLMTypeName))}, not {self.dtype!r}")


@dataclass(frozen=True)
class LoadedPLM:
    """A model in its place, with all it needs to talk.

    Attributes:
        fingerprint: tells two sets of weights apart.
    """

    name: str
    model: PerceptionLM
    preprocessing: PerceptionLMPreprocessing
    tokenizer: LlamaTokenizer
    device: torch.device
    dtype: torch.dtype
    fingerprint: str


def load_for_answers(source: str | Path, options: PLMOptions) -> LoadedPLM:
    """Find, load, place and speed up a model.

    Raises:
        ConfigError: an unknown device or type.
        WeightsError and its kinds, TextError: the model cannot be found or read.
    """
    device = resolve_device(options.device)
    vision_device = device if options.vision_device is None else resolve_device(options.vision_device)
    bundle = load_plm(
        source,
        dtype=_dtype_to_load(options.dtype, device),
        revision=options.revision,
        cache_dir=options.cache_dir,
        local_files_only=options.local_files_only,
    )
    digest = fingerprint(bundle.model, _FINGERPRINT_SAMPLES)
    model = bundle.model.to(device)
    model.vision_model.to(vision_device)
    model.vision_projector.to(vision_device)
    dtype = model.decoder.norm.weight.dtype
    return LoadedPLM(bundle.name, model, bundle.preprocessing, bundle.tokenizer, device, dtype, digest)


def computes_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    # Newer torch says what the processor can do; without that, float32 is the safe choice.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def _dtype_to_load(wanted: PLMTypeName, device: torch.device) -> str | None:
    if wanted != "auto":
        return wanted
    return None if computes_bfloat16(device) else "float32"
