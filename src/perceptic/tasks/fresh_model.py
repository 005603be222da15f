"""A model folder with fresh, random weights: to try commands, to test, and to begin training from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import torch
from torch import nn

from perceptic import zoo
from perceptic.configs_plm import PLM_CONFIGS, PerceptionLMConfig
from perceptic.errors import ConfigError
from perceptic.text.clip_tokenizer import ClipTokenizer
from perceptic.text.llama_tokenizer import LlamaTokenizer
from perceptic.weights.available_memory import available_bytes
from perceptic.weights.dtypes import parse_dtype
from perceptic.weights.folder import TOKENIZER_FILE
from perceptic.weights.model_card import write_model_card
from perceptic.weights.plm_card import NANO_NAME, count_plm_parameters, find_plm_card, write_plm_card
from perceptic.weights.plm_pretrained import PerceptionLM, check_tokenizer
from perceptic.weights.plm_sources import NANO_TOKENIZER, is_nano
from perceptic.weights.pretrained import CLIP, VisionTransformer

DtypeName = Literal["float32", "bfloat16", "float16"]
ModuleT = TypeVar("ModuleT", bound=nn.Module)

_BYTES_WHILE_BUILT = 4  # weights are drawn in float32, whatever they are stored in


@dataclass(frozen=True)
class FreshModel:
    """What was written."""

    name: str
    folder: Path
    parameters: int
    dtype: DtypeName
    seed: int
    num_bytes: int


def write_fresh_model(
    name: str, folder: str | Path, *, seed: int = 0, dtype: DtypeName = "float32", tokenizer: str | Path | None = None
) -> FreshModel:
    """Write a folder of any architecture in the zoo with random weights; an older model folder is replaced.

    Args:
        name: a Perception Encoder (`PE-Core-B16-224`) or a PerceptionLM (`PLM-Nano`, `Perception-LM-1B`).
        seed: of the weights.
        dtype: of the stored weights.
        tokenizer: file to put beside them. A PerceptionLM other than PLM-Nano needs one; a text tower without one
            reads CLIP's vocabulary from where released models find it.

    Raises:
        ConfigError: an unknown name, a tokenizer that does not fit, or not enough memory.
        TextError: a damaged tokenizer.
        OutputError: no space, no permission, or the folder holds other files.
    """
    folder = Path(folder)
    plm_name = _plm_name(name)
    if plm_name is not None:
        found_name, parameters = plm_name, count_plm_parameters(PLM_CONFIGS[plm_name])
        _write_plm(plm_name, parameters, folder, seed, dtype, tokenizer)
    else:
        card = _find_encoder(name)
        found_name, parameters = card.name, card.parameters
        _write_encoder(card, folder, seed, dtype, tokenizer)
    num_bytes = sum(file.stat().st_size for file in folder.iterdir())
    return FreshModel(found_name, folder, parameters, dtype, seed, num_bytes)


def _plm_name(name: str) -> str | None:
    card = find_plm_card(name)
    return NANO_NAME if is_nano(name) else card.name if card is not None else None


def _find_encoder(name: str) -> zoo.ModelCard:
    try:
        return zoo.find_card(name)
    except ConfigError as error:
        raise ConfigError(f"{error} Language models: {', '.join(PLM_CONFIGS)}") from error


def _write_plm(
    name: str, parameters: int, folder: Path, seed: int, dtype: DtypeName, tokenizer: str | Path | None
) -> None:
    config = PLM_CONFIGS[name]
    found = _plm_tokenizer(name, config, tokenizer)
    model = _drawn(name, parameters, seed, dtype, lambda: PerceptionLM.from_config(config))
    card = _with_warning(write_plm_card(folder.name, config), folder.name, name, seed)
    model.save_pretrained(folder, tokenizer=found, card=card)


def _plm_tokenizer(name: str, config: PerceptionLMConfig, file: str | Path | None) -> LlamaTokenizer:
    if file is None and name != NANO_NAME:
        raise ConfigError(
            f"{name} needs a tokenizer file: tokenizer.model or tokenizer.json of a PerceptionLM or Llama 3.1 model "
            "(--tokenizer FILE)"
        )
    tokenizer = LlamaTokenizer.from_file(NANO_TOKENIZER if file is None else file)
    check_tokenizer(tokenizer, config)
    return tokenizer


def _write_encoder(
    card: zoo.ModelCard, folder: Path, seed: int, dtype: DtypeName, tokenizer: str | Path | None
) -> None:
    model_class: type[CLIP] | type[VisionTransformer] = CLIP if card.is_clip else VisionTransformer
    found = _clip_tokenizer(card, tokenizer)
    model = _drawn(card.name, card.parameters, seed, dtype, lambda: model_class.from_config(card.config))
    readme = _with_warning(write_model_card(folder.name, card.config), folder.name, card.name, seed)
    model.save_pretrained(folder, preprocessing=card.preprocessing, tokenizer=found, card=readme)


def _clip_tokenizer(card: zoo.ModelCard, file: str | Path | None) -> ClipTokenizer | None:
    if card.text is None:
        if file is not None:
            raise ConfigError(f"{card.name} has no text tower and takes no tokenizer")
        return None
    if file is None:
        file = None if card.folder is None else card.folder / TOKENIZER_FILE
    if file is None:
        return None
    tokenizer = ClipTokenizer.from_file(file)
    if tokenizer.vocab_size != card.text.vocab_size:
        raise ConfigError(
            f"{file}: has {tokenizer.vocab_size} tokens, {card.name} {card.text.vocab_size}: they do not fit together"
        )
    return tokenizer


def _drawn(name: str, parameters: int, seed: int, dtype: DtypeName, build: Callable[[], ModuleT]) -> ModuleT:
    """The model with weights that depend on the seed alone; the caller's source of chance is left as it was."""
    needed, available = parameters * _BYTES_WHILE_BUILT, available_bytes("cpu")
    if available is not None and needed > available:
        raise ConfigError(
            f"{name} takes {needed / 1e9:.1f} GB of memory while its weights are drawn, and {available / 1e9:.1f} GB "
            "are free; choose a smaller model or free memory"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build().to(parse_dtype(dtype)).eval()


def _with_warning(card: str, folder_name: str, architecture: str, seed: int) -> str:
    heading = f"# {folder_name}\n"
    warning = (
        f"**Random weights.** Written by `perceptic init {architecture}` with seed {seed}: nothing has been learned, "
        "and whatever this model says is noise.\n"
    )
    assert heading in card, "a model card is headed by the folder's name"
    return card.replace(heading, f"{heading}\n{warning}", 1)
