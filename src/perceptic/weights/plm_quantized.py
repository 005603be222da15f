"""Quantised decoders on disk, and decoders quantised while they are read.

A folder of ours whose `config.json` has a "quantization" holds, for each quantised matrix, `<name>.codes` and
`<name>.scales` in place of `<name>.weight`; `models.quantized_matrix` says what is in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from perceptic.errors import ConfigError, WeightsError
from perceptic.models.perception_lm import PerceptionLM
from perceptic.models.quantized import Quantization, QuantizedDecoder, quantize_decoder
from perceptic.models.quantized_matrix import Kind, quantize_matrix
from perceptic.weights.checkpoint import Checkpoint
from perceptic.weights.dtypes import dtype_name
from perceptic.weights.names import Pair, StateDict, pair

_FORMAT_VERSION = 1
_PARTS = ("codes", "scales")
_BYTES_AT_ONCE = 2**26  # of the source, mapped while they are quantised


def read_quantization(fields: Mapping[str, Any]) -> Quantization | None:
    """What a `config.json` of ours says; None for a model in floats.

    Raises:
        ConfigError: a damaged entry, or one of a newer format.
    """
    entry = fields.get("quantization")
    if entry is None:
        return None
    if not isinstance(entry, Mapping):
        raise ConfigError(f"'quantization' must be an object, not {entry!r}")
    version = entry.get("format_version")
    if version != _FORMAT_VERSION:
        raise ConfigError(
            f"'quantization' has the format_version {version!r}, this perceptic reads {_FORMAT_VERSION}; "
            "update: pip install -U perceptic"
        )
    return Quantization.from_dict({key: value for key, value in entry.items() if key != "format_version"})


def write_quantization(quantization: Quantization) -> dict[str, Any]:
    """The entry that `read_quantization` reads."""
    return {"format_version": _FORMAT_VERSION, **quantization.to_dict()}


def quantization_of(model: PerceptionLM) -> Quantization | None:
    """How a model's decoder is stored; None for floats."""
    return model.decoder.quantization if isinstance(model.decoder, QuantizedDecoder) else None


def with_quantized_names(pairs: Iterable[Pair]) -> tuple[Pair, ...]:
    """A table of our own names, with those that matrices of the decoder have when they are quantised."""
    rows = list(pairs)
    matrices = [
        name.removesuffix("weight")
        for row in rows
        for name in row.ours
        if name.startswith("decoder.") and name.endswith(".weight") and "norm" not in name
    ]
    return (*rows, *(pair(f"{name}{part}", f"{name}{part}") for name in matrices for part in _PARTS))


def is_packed(key: str) -> bool:
    """Whether a name is that of codes or scales, whose types are part of the format."""
    return key.rpartition(".")[2] in _PARTS


def check_packed_types(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Raises WeightsError for codes or scales of another type than the model's."""
    for key, value in expected.items():
        if is_packed(key) and found[key].dtype != value.dtype:
            raise WeightsError(
                f"'{key}' has type {dtype_name(found[key].dtype)}, but its format says {dtype_name(value.dtype)}"
            )


@dataclass(frozen=True)
class QuantizingReader:
    """Reads matrices of a checkpoint straight into codes: of floats, a part of the file is mapped and no more.

    Attributes:
        kinds: our names of the weights to quantise.
        to_ours: tensors of the file under our names.
    """

    kinds: Mapping[str, Kind]
    to_ours: Callable[[StateDict], StateDict]

    def keys(self, checkpoint: Checkpoint, keys: Iterable[str]) -> list[str]:
        """Those of the file's `keys` that hold such matrices."""
        return [key for key in keys if self.kinds.keys() & self.to_ours({key: checkpoint.shapes[key]}).keys()]

    def read(self, checkpoint: Checkpoint, keys: Iterable[str]) -> StateDict:
        """Codes and scales under our names.

        Raises:
            WeightsError: weights that are not finite.
        """
        state: StateDict = {}
        for step in _steps(checkpoint, keys):
            for name, weight in self.to_ours(checkpoint.read(step)).items():
                try:
                    matrix = quantize_matrix(weight, self.kinds[name])
                except ConfigError as error:
                    raise WeightsError(f"'{name}': {error}") from error
                module = name.removesuffix("weight")
                state |= {f"{module}codes": matrix.codes, f"{module}scales": matrix.scales}
        return state


def make_quantized(model: PerceptionLM, quantization: Quantization) -> dict[str, Kind]:
    """Give a model on the meta device quantised matrices, without values; our names of the weights they replace.

    Raises:
        ConfigError: a pattern that no matrix matches.
    """
    before = model.decoder.state_dict().keys()
    model.decoder = quantize_decoder(model.decoder, quantization, consume=True)
    replaced = before - model.decoder.state_dict().keys()
    found: dict[str, Kind] = {}
    for name in replaced:
        kind = quantization.kind_of(name.removesuffix(".weight"))
        assert kind is not None
        found[f"decoder.{name}"] = kind
    return found


def _steps(checkpoint: Checkpoint, keys: Iterable[str]) -> Iterator[list[str]]:
    step: list[str] = []
    size = 0
    for key in keys:
        nbytes = checkpoint.shapes[key].nbytes
        if step and size + nbytes > _BYTES_AT_ONCE:
            yield step
            step, size = [], 0
        step.append(key)
        size += nbytes
    if step:
        yield step
