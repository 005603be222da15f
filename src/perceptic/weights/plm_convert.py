"""A PerceptionLM in another format, or with its decoder in fewer bits: load strictly, write, read back and compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from perceptic.errors import ConfigError, OutputError, WeightsError
from perceptic.models.quantized import Quantization
from perceptic.weights.dtypes import dtype_name
from perceptic.weights.folder import CONFIG_FILE, read_json
from perceptic.weights.hub import HubOptions
from perceptic.weights.plm_card import find_plm_card
from perceptic.weights.plm_folder import MODEL_TYPE, PARAMS_FILE, PLMFormat, read_plm_folder
from perceptic.weights.plm_pretrained import PerceptionLM
from perceptic.weights.plm_quantized import quantization_of
from perceptic.weights.plm_sources import find_plm_folder, is_nano


@dataclass(frozen=True)
class PLMConversion:
    """What `convert_plm` did. `weights`: how the decoder is stored now, such as `bfloat16` or `int8`."""

    source: str
    source_format: PLMFormat
    destination: Path
    target_format: PLMFormat
    weights: str
    num_tensors: int
    num_bytes: int


def is_plm_source(source: str | Path) -> bool:
    """Whether a source of weights is a PerceptionLM: a released name, or a folder that says so. Nothing is fetched."""
    path = Path(source).expanduser()
    if (path / CONFIG_FILE).is_file():
        return read_json(path / CONFIG_FILE).get("model_type") == MODEL_TYPE
    if path.exists():
        return any((folder / PARAMS_FILE).is_file() for folder in (path, path / "original"))
    return is_nano(source) or find_plm_card(str(source)) is not None


def convert_plm(
    source: str | Path,
    destination: str | Path,
    to: PLMFormat = "perceptic",
    *,
    weights: str | Quantization | Mapping[str, str] | None = None,
    dtype: torch.dtype | str | None = None,
    force: bool = False,
) -> PLMConversion:
    """Write a model as another folder, whole or not at all. What was written is read back and compared bit by bit.

    Args:
        source: as `PerceptionLM.from_pretrained` takes it.
        weights: store the decoder in fewer bits, `int8` or `int4`; only our own format (`perceptic`) knows them.
        dtype: of all else; None keeps the stored one.
        force: replace an older model at the destination.

    Raises:
        OutputError: the destination exists (without `force`) or cannot be written.
        ConfigError: a format that cannot hold the weights, or a model without a tokenizer.
        WeightsError and its kinds: the source cannot be loaded.
    """
    destination = Path(destination)
    if destination.exists() and not force:
        raise OutputError(f"{destination}: exists; choose another name or force")
    if weights is not None and to != "perceptic":
        raise ConfigError(f"the {to} format does not know decoders of 8 and 4 bits; write perceptic")
    folder = find_plm_folder(source, HubOptions())
    model = PerceptionLM.from_pretrained(folder, dtype=dtype, weights=weights)
    model.save_pretrained(destination, form=to)
    state = model.state_dict()
    _verify(destination, state)
    quantization = quantization_of(model)
    return PLMConversion(
        source=str(source),
        source_format=read_plm_folder(folder).form,
        destination=destination,
        target_format=to,
        weights=dtype_name(model.decoder.dtype) if quantization is None else quantization.name,
        num_tensors=len(state),
        num_bytes=sum(file.stat().st_size for file in destination.iterdir()),
    )


def _verify(folder: Path, state: Mapping[str, Tensor]) -> None:
    written = PerceptionLM.from_pretrained(folder).state_dict()
    if written.keys() != state.keys() or not all(torch.equal(written[key], state[key]) for key in state):
        raise WeightsError(f"{folder}: reads back other than it was written; the disk may be failing")
