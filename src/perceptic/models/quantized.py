"""A decoder whose matrices are stored in 8 or 4 bits, applied from outside: `quantize(model, "int8")`.

Only weights are quantised, and only the decoder's: its Linear layers, the output head and the embedding. Norms, the
vision tower and the projector stay as they are. A tied embedding is one quantised matrix for both ends. The products
here turn weights back to floats a slice at a time: right on every device and slow on all; `inference.plm_accelerate`
has fast ones for the CPU.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from perceptic.configs import Config
from perceptic.errors import ConfigError
from perceptic.models.decoder import Decoder
from perceptic.models.perception_lm import PerceptionLM
from perceptic.models.quantized_matrix import (
    Int4Matrix,
    Int8Matrix,
    Kind,
    QuantizedMatrix,
    empty_matrix,
    multiply,
    quantize_matrix,
)

ModuleT = TypeVar("ModuleT", bound=nn.Module)

_KINDS = ("int8", "int4", "none")


@dataclass(frozen=True)
class Quantization(Config):
    """Which matrices of a decoder are stored how.

    Attributes:
        kinds: patterns of module names inside the decoder -> `int8`, `int4` or `none`; the last that matches counts,
            and what none matches stays as it is. `{"*": "int4", "*.w2": "int8"}` keeps more of the w2.
    """

    kinds: Mapping[str, str]

    def __post_init__(self) -> None:
        self._require(
            isinstance(self.kinds, Mapping) and bool(self.kinds), f"kinds must name matrices, not {self.kinds!r}"
        )
        for pattern, kind in self.kinds.items():
            self._require(
                isinstance(pattern, str) and kind in _KINDS,
                f"kinds must map names to {', '.join(_KINDS)}, not {pattern!r} to {kind!r}",
            )

    @property
    def name(self) -> str:
        """`int8`, `int4`, or `mixed`."""
        return next((name for name, known in QUANTIZATIONS.items() if self == known), "mixed")

    def kind_of(self, name: str) -> Kind | None:
        """How a matrix of the decoder is stored, such as `layers.0.attention.wq`; None: as it is."""
        found = [kind for pattern, kind in self.kinds.items() if fnmatchcase(name, pattern)]
        kind = found[-1] if found else "none"
        return "int8" if kind == "int8" else "int4" if kind == "int4" else None

    def to_dict(self) -> dict[str, Any]:
        return {"kinds": dict(self.kinds)}


# The head decides between near tokens and the embedding costs nothing to read: both are worth 8 bits.
QUANTIZATIONS: dict[str, Quantization] = {
    "int8": Quantization({"*": "int8"}),
    "int4": Quantization({"*": "int4", "tok_embeddings": "int8", "output": "int8"}),
}


def parse_quantization(weights: str | Quantization | Mapping[str, str]) -> Quantization:
    """`int8`, `int4`, or patterns of one's own. Raises ConfigError for anything else."""
    if isinstance(weights, Quantization):
        return weights
    if not isinstance(weights, str):
        return Quantization(weights)
    if weights not in QUANTIZATIONS:
        raise ConfigError(f"weights must be {' or '.join(QUANTIZATIONS)}, not {weights!r}")
    return QUANTIZATIONS[weights]


class _Quantized(nn.Module):
    """A module of one quantised matrix. Moves move it; casts leave it, for its types are part of the format."""

    codes: Tensor
    scales: Tensor

    def __init__(self, matrix: QuantizedMatrix) -> None:
        super().__init__()
        self.out_features, self.in_features = matrix.shape
        self.kind: Kind = "int8" if isinstance(matrix, Int8Matrix) else "int4"
        self.register_buffer("codes", matrix.codes)
        self.register_buffer("scales", matrix.scales)

    @property
    def matrix(self) -> QuantizedMatrix:
        if self.kind == "int8":
            return Int8Matrix(self.codes, self.scales)
        return Int4Matrix(self.codes, self.scales, self.in_features)

    def _apply(self, fn: Any, recurse: bool = True) -> _Quantized:
        device = fn(torch.empty(0, device=self.scales.device)).device
        for name in ("codes", "scales"):
            tensor = getattr(self, name)
            if tensor.device != device:
                setattr(self, name, torch.empty_like(tensor, device=device) if tensor.is_meta else tensor.to(device))
        return self

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, kind={self.kind}"


class QuantizedLinear(_Quantized):
    """`nn.Linear` without bias on a quantised matrix."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., K) to (..., N), in the type of x."""
        return multiply(x, self.matrix)


class QuantizedEmbedding(_Quantized):
    """`nn.Embedding` on a quantised matrix."""

    def forward(self, ids: Tensor) -> Tensor:
        """int64 (...) to float32 (..., K)."""
        return self.matrix.rows(ids)


class QuantizedDecoder(Decoder):
    """A `Decoder` with quantised matrices; made by `quantize_decoder` and by loading.

    Attributes:
        quantization: what is stored how.
    """

    def __init__(self, decoder: Decoder, quantization: Quantization) -> None:
        """Take over a decoder's modules. Matrices are replaced with `put`, all of them, before it is used.

        Raises:
            ConfigError: a pattern that no matrix matches.
        """
        nn.Module.__init__(self)
        check_patterns(quantization, decoder)
        self.config = decoder.config
        self.quantization = quantization
        self.grad_checkpointing = decoder.grad_checkpointing
        for name, module in decoder.named_children():
            self.add_module(name, module)
        super().train(decoder.training)

    def put(self, name: str, matrix: QuantizedMatrix) -> None:
        """Replace the matrix of a module."""
        module = QuantizedEmbedding(matrix) if name == "tok_embeddings" else QuantizedLinear(matrix)
        parent, _, child = name.rpartition(".")
        setattr(self.get_submodule(parent), child, module)

    def embed(self, token_ids_BL: Tensor) -> Tensor:
        """As `Decoder.embed`, in the type of the norms."""
        return super().embed(token_ids_BL).to(self.dtype)

    def logits(self, hidden: Tensor) -> Tensor:
        """As `Decoder.logits`."""
        if self.config.weight_tying and isinstance(self.tok_embeddings, QuantizedEmbedding):
            return multiply(hidden, self.tok_embeddings.matrix)
        return super().logits(hidden)


def quantize(model: PerceptionLM, weights: str | Quantization | Mapping[str, str]) -> PerceptionLM:
    """Store a model's decoder in fewer bits; the model itself is changed and returned.

    Args:
        weights: `int8`, `int4` or patterns (`Quantization`).

    Raises:
        ConfigError: an unknown name or pattern, weights that are not finite, or a model that is quantised already.
    """
    model.decoder = quantize_decoder(model.decoder, weights, consume=True)
    return model


def quantize_decoder(
    decoder: Decoder, weights: str | Quantization | Mapping[str, str], *, consume: bool = False
) -> QuantizedDecoder:
    """A decoder with quantised matrices; the rest is shared with the one given.

    Args:
        consume: take the given decoder apart, so that each matrix is freed when its codes are made. It must not be
            used afterwards.

    Raises:
        ConfigError: as `quantize`.
    """
    quantization = parse_quantization(weights)
    if isinstance(decoder, QuantizedDecoder):
        raise ConfigError(f"the decoder is quantised already ({decoder.quantization.name})")
    result = QuantizedDecoder(decoder if consume else _same_tensors(decoder), quantization)
    for name, kind in list(quantized_names(result, quantization)):
        weight = result.get_submodule(name).weight
        assert isinstance(weight, Tensor)
        result.put(name, empty_matrix(weight.shape, kind, "meta") if weight.is_meta else quantize_matrix(weight, kind))
    return result


def quantized_names(decoder: Decoder, quantization: Quantization) -> Iterator[tuple[str, Kind]]:
    """The modules inside a decoder, quantised or not, whose matrix a quantisation stores in fewer bits."""
    for name in matrix_names(decoder):
        kind = quantization.kind_of(name)
        if kind is not None:
            yield name, kind


def matrix_names(decoder: Decoder) -> list[str]:
    """The modules with a matrix: the embedding, the Linear layers, the head where it is not tied."""
    kinds = (nn.Linear, nn.Embedding, _Quantized)
    return [name for name, module in decoder.named_modules() if isinstance(module, kinds)]


def check_patterns(quantization: Quantization, decoder: Decoder) -> None:
    """Raises ConfigError for a pattern that matches no matrix."""
    names = [*matrix_names(decoder), "output"]  # a tied model has none, but one setting should serve both
    for pattern in quantization.kinds:
        quantization._require(
            any(fnmatchcase(name, pattern) for name in names),
            f"no matrix of the decoder is named '{pattern}'; names are such as {names[0]}, {names[1]}, {names[-1]}",
        )


def _same_tensors(module: ModuleT) -> ModuleT:
    """A copy of a tree of modules whose tensors are the same."""
    twin = copy.copy(module)
    twin._modules = {name: None if child is None else _same_tensors(child) for name, child in module._modules.items()}
    return twin
