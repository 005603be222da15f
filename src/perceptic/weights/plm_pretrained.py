"""The public PerceptionLM: the network with weights from anywhere, and back to disk in three formats.

plm = PerceptionLM.from_pretrained("Perception-LM-1B")       # name, hub repository or folder
plm.save_pretrained("my-model", form="huggingface")
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from perceptic.configs_plm import PLM_CONFIGS, PerceptionLMConfig, PerceptionLMPreprocessing, plm_config
from perceptic.errors import ConfigError, TextError, WeightsError
from perceptic.models import perception_lm
from perceptic.models.quantized import Quantization, parse_quantization
from perceptic.models.quantized_matrix import Kind
from perceptic.text.llama_tokenizer import LlamaTokenizer
from perceptic.weights import plm_memory
from perceptic.weights.checkpoint import Checkpoint, open_checkpoint
from perceptic.weights.dtypes import FLOAT_TYPES, dtype_name, parse_dtype
from perceptic.weights.hub import HubOptions
from perceptic.weights.loading import build_empty
from perceptic.weights.names import StateDict, name_some
from perceptic.weights.plm_card import write_plm_card
from perceptic.weights.plm_folder import PLMFolder, PLMFormat, read_plm_folder, write_plm_folder
from perceptic.weights.plm_memory import estimate_memory
from perceptic.weights.plm_names import is_needed, name_in_file, to_ours
from perceptic.weights.plm_quantized import (
    QuantizingReader,
    check_packed_types,
    is_packed,
    make_quantized,
    quantization_of,
)
from perceptic.weights.plm_sources import find_plm_folder


class PerceptionLM(perception_lm.PerceptionLM):
    """A PerceptionLM with what belongs to it. See `perceptic.models.perception_lm` for its methods.

    Attributes:
        preprocessing: how pictures and videos enter. It travels with saved weights.
        tokenizer: None for a model built from a configuration alone.
    """

    def __init__(self, config: PerceptionLMConfig) -> None:
        super().__init__(config)
        self.preprocessing = PerceptionLMPreprocessing(tile_size=config.vision.image_size)
        self.tokenizer: LlamaTokenizer | None = None

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        dtype: torch.dtype | str | None = None,
        device: torch.device | str | None = None,
        vision_device: torch.device | str | None = None,
        weights: str | Quantization | Mapping[str, str] | None = None,
        check_memory: bool = True,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
    ) -> PerceptionLM:
        """Load a model, in evaluation mode. All weights come from the files, or an error is raised.

        Args:
            source: a folder in the original's, Hugging Face's or our format; a zoo name; a hub repository.
            dtype: cast to this type; None keeps the stored one. Weights are mapped from the files, not copied; a cast
                makes new ones.
            device: where the model goes; None is the CPU.
            vision_device: where tower and projector go, if elsewhere.
            weights: store the decoder in fewer bits, `int8` or `int4` (`models.quantized`): matrices become codes as
                they are read, so that the floats are never all in memory. None: as the files have them.
            check_memory: refuse a model whose weights alone are more than the device has free (`plm_memory`).
            revision, cache_dir, local_files_only: for the hub.

        Raises:
            WeightsNotFoundError, HubError, OutputError: the files cannot be had.
            WeightsError: damaged, or weights of another architecture (the wrong keys are named).
            TextError: a damaged tokenizer.
            NotEnoughMemoryError: the weights do not fit.
            ConfigError: an unknown type or name of weights, or other weights for a folder that is quantised.
        """
        target = parse_dtype(dtype)
        wanted = None if weights is None else parse_quantization(weights)
        folder = read_plm_folder(find_plm_folder(source, HubOptions(revision, cache_dir, local_files_only)))
        if folder.quantization is not None:
            wanted = _same_quantization(folder.quantization, wanted, folder.path)
        if check_memory:
            plm_memory.check_memory(
                estimate_memory(folder, dtype=target, weights=wanted, device=device, vision_device=vision_device)
            )
        model = build_empty(cls, folder.config)
        fill(model, folder, target, wanted)
        model.preprocessing = folder.preprocessing
        model.tokenizer = _load_tokenizer(folder)
        return _placed(model, device, vision_device).eval()

    @classmethod
    def from_config(cls, name_or_config: str | PerceptionLMConfig | Mapping[str, Any]) -> PerceptionLM:
        """Build a model with fresh weights. Raises ConfigError for an unknown name or a bad configuration."""
        if isinstance(name_or_config, str):
            return cls(plm_config(name_or_config))
        if isinstance(name_or_config, PerceptionLMConfig):
            return cls(name_or_config)
        return cls(PerceptionLMConfig.from_dict(dict(name_or_config)))

    @classmethod
    def available_configs(cls) -> list[str]:
        """The names that `from_config` knows."""
        return list(PLM_CONFIGS)

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        form: PLMFormat = "perceptic",
        tokenizer: LlamaTokenizer | None = None,
        card: str | None = None,
    ) -> Path:
        """Write a model folder that `from_pretrained` reads: whole or not at all.

        Args:
            form: `perceptic`, `huggingface` (loads in transformers) or `original`.
            tokenizer: other than the model's own.
            card: text of the README; None writes a short one.

        Returns:
            The folder.

        Raises:
            ConfigError: no tokenizer, one of another vocabulary, or an unknown format.
            OutputError: no space, no permission, or the folder holds other files.
        """
        tokenizer = tokenizer or self.tokenizer
        if tokenizer is None:
            raise ConfigError("the model has no tokenizer to save; give one: save_pretrained(folder, tokenizer=...)")
        check_tokenizer(tokenizer, self.config)
        readme = card or write_plm_card(Path(folder).name, self.config)
        write_plm_folder(
            *(Path(folder), form, self.state_dict(), self.config, self.preprocessing, tokenizer, readme),
            quantization=quantization_of(self),
        )
        return Path(folder)


def fill(
    model: perception_lm.PerceptionLM,
    folder: PLMFolder,
    dtype: torch.dtype | None,
    quantization: Quantization | None = None,
) -> None:
    """Give a model on the meta device all its weights from a folder.

    Args:
        dtype: of all that is not quantised; None keeps the stored one.
        quantization: store the decoder so; a folder that is quantised already gives its own.

    Raises:
        WeightsError: missing, repeated or foreign keys, other shapes, or numbers that cannot be quantised.
        ConfigError: a quantisation that does not fit the decoder.
    """
    if folder.quantization is not None:
        make_quantized(model, folder.quantization)
    checkpoints = [open_checkpoint(path) for path in folder.weights]
    try:
        shapes = _merged_shapes(checkpoints, folder)
        _check_against(model, to_ours(shapes, folder.pairs, folder.form), folder)
        is_new = quantization is not None and folder.quantization is None
        kinds = make_quantized(model, quantization) if is_new and quantization is not None else {}
        state = _read(checkpoints, folder, dtype or _widest(shapes), kinds)
    except WeightsError as error:
        raise WeightsError(f"{folder.path}: {error}") from error
    model.load_state_dict(state, assign=True)


def _read(checkpoints: list[Checkpoint], folder: PLMFolder, dtype: torch.dtype, kinds: Mapping[str, Kind]) -> StateDict:
    """All weights under our names: mapped where they are stored so, else cast or quantised."""
    reader = QuantizingReader(kinds, lambda state: to_ours(state, folder.pairs, folder.form))
    floats: StateDict = {}
    packed: StateDict = {}
    for checkpoint in checkpoints:
        keys = [key for key in checkpoint.shapes if is_needed(key, folder.config)]
        to_pack = reader.keys(checkpoint, keys) if kinds else []
        packed |= reader.read(checkpoint, to_pack)
        left = [key for key in keys if key not in set(to_pack)]
        to_cast = [key for key in left if checkpoint.shapes[key].dtype != dtype and not is_packed(key)]
        floats |= checkpoint.read([key for key in left if key not in set(to_cast)])
        floats |= checkpoint.cast(to_cast, dtype)
    return to_ours(floats, folder.pairs, folder.form) | packed


def _same_quantization(stored: Quantization, wanted: Quantization | None, path: Path) -> Quantization:
    if wanted is not None and wanted != stored:
        raise ConfigError(
            f"{path}: is stored in {stored.name} already and cannot become {wanted.name}; load it without weights=..., "
            "or quantise the original"
        )
    return stored


def _placed(
    model: PerceptionLM, device: torch.device | str | None, vision_device: torch.device | str | None
) -> PerceptionLM:
    if vision_device is not None:
        # Before the rest: the tower must not pass through a device that may have no room for it.
        model.vision_model.to(vision_device)
        model.vision_projector.to(vision_device)
        if device is not None:
            model.decoder.to(device)
        return model
    return model if device is None else model.to(device)


def check_tokenizer(tokenizer: LlamaTokenizer, config: PerceptionLMConfig) -> None:
    """Raises ConfigError unless the tokenizer's ids are those of the model."""
    if tokenizer.image_id != config.image_token_id or tokenizer.vocab_size > config.decoder.vocab_size:
        raise ConfigError(
            f"the tokenizer has {tokenizer.vocab_size} ids with the image token {tokenizer.image_id}, the model "
            f"{config.decoder.vocab_size} with {config.image_token_id}: they do not belong together"
        )


def _load_tokenizer(folder: PLMFolder) -> LlamaTokenizer | None:
    if folder.tokenizer is None:
        return None
    tokenizer = LlamaTokenizer.from_file(folder.tokenizer)
    try:
        check_tokenizer(tokenizer, folder.config)
    except ConfigError as error:
        raise TextError(f"{folder.tokenizer}: {error}") from error
    return tokenizer


def _merged_shapes(checkpoints: list[Checkpoint], folder: PLMFolder) -> StateDict:
    """What all files hold together, on the meta device."""
    merged: StateDict = {}
    for checkpoint in checkpoints:
        if repeated := merged.keys() & checkpoint.shapes.keys():
            raise WeightsError(f"'{min(repeated)}' is in {checkpoint.path.name} and in another of the weights files")
        merged |= checkpoint.shapes
    needed = {key: value for key, value in merged.items() if is_needed(key, folder.config)}
    for key, value in needed.items():
        if folder.quantization is not None and is_packed(key):
            continue  # their types are part of the format, `_check_against` knows them
        if value.dtype not in FLOAT_TYPES or value.layout != torch.strided:
            raise WeightsError(
                f"'{key}' has type {dtype_name(value.dtype)}; expected one of {', '.join(map(dtype_name, FLOAT_TYPES))}"
            )
    return needed


def _widest(shapes: StateDict) -> torch.dtype:
    """The type that holds every stored value exactly."""
    widest: torch.dtype | None = None
    for key, value in shapes.items():
        if is_packed(key):
            continue
        widest = value.dtype if widest is None else torch.promote_types(widest, value.dtype)
    return widest or torch.float32


def _check_against(model: perception_lm.PerceptionLM, state: StateDict, folder: PLMFolder) -> None:
    expected: dict[str, Tensor] = model.state_dict()
    missing = [name_in_file(key, folder.pairs) for key in expected if key not in state]
    foreign = [name_in_file(key, folder.pairs) for key in state if key not in expected]
    problems = []
    if missing:
        problems.append(f"lack {len(missing)} of {len(expected)} weights: {name_some(missing)}")
    if foreign:
        problems.append(f"have {len(foreign)} that this architecture does not: {name_some(foreign)}")
    if problems:
        raise WeightsError(f"the {folder.form} files do not fit their own configuration: they {' and '.join(problems)}")
    for key, value in expected.items():
        if state[key].shape != value.shape:
            raise WeightsError(
                f"'{name_in_file(key, folder.pairs)}' has shape {tuple(state[key].shape)}, but the configuration says "
                f"{tuple(value.shape)}"
            )
    check_packed_types(expected, state)


@dataclass(frozen=True)
class PLMBundle:
    """A PerceptionLM with everything that it needs to talk."""

    name: str
    model: PerceptionLM
    preprocessing: PerceptionLMPreprocessing
    tokenizer: LlamaTokenizer


def load_plm(
    source: str | Path,
    *,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    vision_device: torch.device | str | None = None,
    weights: str | Quantization | Mapping[str, str] | None = None,
    check_memory: bool = True,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> PLMBundle:
    """Load a model with its preprocessing and tokenizer; the arguments are those of `PerceptionLM.from_pretrained`.

    Raises:
        WeightsError and its kinds: as `PerceptionLM.from_pretrained`.
        TextError: the tokenizer is missing or damaged.
    """
    model = PerceptionLM.from_pretrained(
        source,
        dtype=dtype,
        device=device,
        vision_device=vision_device,
        weights=weights,
        check_memory=check_memory,
        revision=revision,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
    )
    if model.tokenizer is None:
        raise TextError(f"{source}: the model has no tokenizer.model or tokenizer.json; copy one into its folder")
    return PLMBundle(Path(str(source)).name, model, model.preprocessing, model.tokenizer)
