"""A PerceptionLM from its files to its devices: in the number type that suits them, if it fits, and sped up."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch

from perceptic.configs_plm import PerceptionLMConfig, PerceptionLMPreprocessing
from perceptic.errors import ConfigError
from perceptic.inference.encode import resolve_device
from perceptic.inference.fingerprint import fingerprint
from perceptic.inference.plm_accelerate import accelerate_plm
from perceptic.inference.processors import computes_bfloat16
from perceptic.models.perception_lm import PerceptionLM
from perceptic.text.llama_tokenizer import LlamaTokenizer
from perceptic.weights.hub import HubOptions
from perceptic.weights.plm_card import find_plm_card
from perceptic.weights.plm_folder import PLMFolder, read_plm_folder
from perceptic.weights.plm_memory import MemoryEstimate, Workload, check_memory, estimate_memory
from perceptic.weights.plm_pretrained import load_plm
from perceptic.weights.plm_sources import find_plm_folder

logger = logging.getLogger(__name__)

PLMTypeName = Literal["auto", "float32", "bfloat16", "float16"]
_FINGERPRINT_SAMPLES = 64  # of each tensor: reading more would page the whole file in
_ANSWER_TOKENS = 512  # with template and question, where memory is estimated


def log_memory(estimate: MemoryEstimate) -> None:
    """The default of `on_memory`."""
    logger.info(estimate.describe())


@dataclass(frozen=True)
class PLMOptions:
    """Where and how a model is loaded.

    Attributes:
        device: of the decoder: "auto" or a torch device name.
        dtype: "auto" keeps stored bfloat16 where the device computes with it (a GPU, or a CPU with AMX or AVX512-BF16)
            and takes float32 elsewhere.
        vision_device: of the vision tower, where it is another: a large tower on a GPU, the decoder on the CPU, or the
            other way round.
        weights: "int8" or "int4" keep the decoder in fewer bits; None: as the files have it.
        max_memory_bytes: what a device may be used for, if that is less than it has.
        check_memory: refuse a model that does not fit, before it is read (or downloaded, if it is a released one).
        on_memory: told what the model will take, before it is loaded.
        accelerate: use the compiled kernels on a CPU that has the units for them.
        revision, cache_dir, local_files_only: for the hub.
    """

    device: str = "auto"
    dtype: PLMTypeName = "auto"
    vision_device: str | None = None
    weights: str | None = None
    max_memory_bytes: int | None = None
    check_memory: bool = True
    on_memory: Callable[[MemoryEstimate], None] = log_memory
    accelerate: bool = True
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
        ConfigError: an unknown device, type or kind of weights.
        NotEnoughMemoryError: it does not fit.
        WeightsError and its kinds, TextError: the model cannot be found or read.
    """
    device = resolve_device(options.device)
    vision_device = device if options.vision_device is None else resolve_device(options.vision_device)
    dtype = _dtype_to_load(options.dtype, device)
    if options.check_memory:
        _require_memory(source, options, dtype, device, vision_device)
    bundle = load_plm(
        source,
        dtype=dtype,
        device=device,
        vision_device=vision_device,
        weights=options.weights,
        check_memory=False,  # above, or not wanted
        revision=options.revision,
        cache_dir=options.cache_dir,
        local_files_only=options.local_files_only,
    )
    digest = fingerprint(bundle.model, _FINGERPRINT_SAMPLES)  # before weights are packed into other shapes
    model: PerceptionLM = bundle.model
    on_cpu = "cpu" in (device.type, vision_device.type)
    if options.accelerate and on_cpu and model.decoder.dtype != torch.float16:
        model = accelerate_plm(model, consume=True)
    return LoadedPLM(bundle.name, model, bundle.preprocessing, bundle.tokenizer, device, model.decoder.dtype, digest)


def _dtype_to_load(wanted: PLMTypeName, device: torch.device) -> str | None:
    if wanted != "auto":
        return wanted
    return None if computes_bfloat16(device) else "float32"


def _require_memory(
    source: str | Path, options: PLMOptions, dtype: str | None, device: torch.device, vision_device: torch.device
) -> None:
    """Say what the model takes with its largest picture or video; refuse it if not even the smallest fits."""
    facts = _facts(source, options)

    def estimate(workload: Workload) -> MemoryEstimate:
        return estimate_memory(
            facts.source,
            dtype=dtype,
            weights=options.weights,
            device=device,
            vision_device=vision_device,
            workload=workload,
            max_bytes=options.max_memory_bytes,
        )

    preprocessing, tokens = facts.preprocessing, facts.config.tokens_per_chunk
    most = max(preprocessing.max_num_tiles + 1, preprocessing.max_video_frames)
    longest = min(most * tokens + _ANSWER_TOKENS, facts.config.decoder.max_seqlen)
    options.on_memory(estimate(Workload(longest, most)))
    check_memory(estimate(Workload(min(tokens + _ANSWER_TOKENS, longest), 1)))


@dataclass(frozen=True)
class _Facts:
    """What decides the size of a model; `source` is as `estimate_memory` takes it."""

    source: str | PLMFolder
    config: PerceptionLMConfig
    preprocessing: PerceptionLMPreprocessing


def _facts(source: str | Path, options: PLMOptions) -> _Facts:
    # The size of a released model is known: whether it fits is said before it is downloaded.
    card = None if Path(source).expanduser().exists() else find_plm_card(str(source))
    if card is not None:
        return _Facts(card.name, card.config, PerceptionLMPreprocessing(tile_size=card.config.vision.image_size))
    hub = HubOptions(options.revision, options.cache_dir, options.local_files_only)
    folder = read_plm_folder(find_plm_folder(source, hub))
    return _Facts(folder, folder.config, folder.preprocessing)
