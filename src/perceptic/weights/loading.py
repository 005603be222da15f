"""A weights file into a model: strict, and never half.

The model is built on the meta device (shapes only), every name and shape is compared before any weight is moved, and
the file's own memory becomes the parameters. A model that is returned has all its weights from the file.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from perceptic.errors import WeightsError
from perceptic.weights.checkpoint import Checkpoint
from perceptic.weights.dtypes import FLOAT_TYPES, dtype_name
from perceptic.weights.formats import PREFIXES, Format, Tower, detect, towers_in
from perceptic.weights.infer import describe_fit
from perceptic.weights.names import StateDict, name_some

ModelT = TypeVar("ModelT", bound=nn.Module)

# Parts of a vision tower that another tower of the same family lacks: Core weights feed a Lang-like shape (spec 3.4).
_OPTIONAL_PARTS = ("ln_post.", "attn_pool.", "proj")


@dataclass(frozen=True)
class OpenedWeights:
    """A checkpoint whose format is known. `shapes` are its tensors on the meta device under perceptic's names."""

    checkpoint: Checkpoint
    form: Format
    shapes: StateDict

    @property
    def path(self) -> Path:
        return self.checkpoint.path

    @property
    def towers(self) -> frozenset[Tower]:
        return towers_in(self.shapes)

    def their_name(self, key: str) -> str:
        """Our key under the name a user finds in the file."""
        return self.form.their_names(key, self.checkpoint.shapes.keys())[0]

    def read(self, keys: Collection[str], dtype: torch.dtype | None) -> StateDict:
        """The tensors of `keys` (our names), mapped, or cast to `dtype` in new memory.

        Raises:
            WeightsError: values that our names cannot hold, such as a bias on the projection.
        """
        their_keys = self.checkpoint.shapes.keys()
        # Casting comes before renaming: under its own name each tensor is a view of the file that can be let go.
        names = [name for key in keys for name in self.form.their_names(key, their_keys)]
        stored = self.checkpoint.read(names) if dtype is None else self.checkpoint.cast(names, dtype)
        return self.form.to_perceptic(stored, their_keys)


class _SkipRandom(TorchFunctionMode):
    """Leaves tensors on the meta device without random values.

    They have no values anyway, and the first `normal_` there makes PyTorch import its compiler: 2 s of every start.
    """

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (nn.init.normal_, Tensor.normal_):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def build_empty(model_class: Callable[[Any], ModelT], config: Any) -> ModelT:
    """A model on the meta device: names and shapes, no memory. Raises ConfigError if the configuration cannot work."""
    with torch.device("meta"), _SkipRandom():
        return model_class(config)


def identify(checkpoint: Checkpoint) -> OpenedWeights:
    """Find the format and translate the names.

    Raises:
        WeightsError: an unknown format, or keys that do not belong to the format that was found.
    """
    try:
        form = detect(checkpoint.shapes.keys())
        return OpenedWeights(checkpoint, form, form.to_perceptic(checkpoint.shapes))
    except WeightsError as error:
        raise WeightsError(f"{checkpoint.path}: {error}") from error


def fill(model: nn.Module, weights: OpenedWeights, tower: Tower | None, dtype: torch.dtype | None) -> None:
    """Give a model on the meta device all its weights from a file.

    Args:
        tower: which part of the file the model is; None for a model of both towers (CLIP).
        dtype: cast to this; None keeps the stored type (a file of mixed types is widened to the widest).

    Raises:
        WeightsError: missing or foreign keys, or other shapes; the model is then untouched.
    """
    prefix = "" if tower is None else PREFIXES[tower]
    expected = {prefix + key: value for key, value in model.state_dict().items()}
    shapes = _drop_unused(weights.shapes, expected, tower)
    _check_keys(shapes, expected, weights)
    _check_tensors(shapes, expected, weights)
    casting = _keys_to_cast(shapes, dtype)
    try:
        state = weights.read([key for key in shapes if key not in casting], None)
        state.update(weights.read(casting, dtype or _widest(shapes)))
    except WeightsError as error:
        raise WeightsError(f"{weights.path}: {error}") from error
    model.load_state_dict({key.removeprefix(prefix): value for key, value in state.items()}, assign=True)


def _drop_unused(state: StateDict, expected: Mapping[str, Tensor], tower: Tower | None) -> StateDict:
    """Without what is known not to be needed: the other tower, the logit scale, heads that the model lacks."""
    if tower is not None:
        state = {key: value for key, value in state.items() if key.startswith(PREFIXES[tower])}
    if tower == "text":
        return state
    absent = tuple(
        PREFIXES["vision"] + part
        for part in _OPTIONAL_PARTS
        if not any(key.startswith(PREFIXES["vision"] + part) for key in expected)
    )
    # A CLIP model keeps its pooled embedding: only a bare tower may go without the heads of the file.
    return {key: value for key, value in state.items() if not (tower and absent and key.startswith(absent))}


def _check_keys(state: StateDict, expected: Mapping[str, Tensor], weights: OpenedWeights) -> None:
    missing = [weights.their_name(key) for key in expected if key not in state]
    foreign = [weights.their_name(key) for key in state if key not in expected]
    if not missing and not foreign:
        return
    problems = []
    if missing:
        problems.append(f"lacks {len(missing)} of {len(expected)} weights: {name_some(missing)}")
    if foreign:
        problems.append(f"has {len(foreign)} that this model does not: {name_some(foreign)}")
    raise WeightsError(
        f"{weights.path}: {weights.form.name} weights of another architecture: the file {' and '.join(problems)}."
        f"{describe_fit(weights.shapes)}"
    )


def _check_tensors(state: StateDict, expected: Mapping[str, Tensor], weights: OpenedWeights) -> None:
    wrong = [key for key, value in expected.items() if state[key].shape != value.shape]
    if wrong:
        first = wrong[0]
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise WeightsError(
            f"{weights.path}: {weights.form.name} weights of another architecture: '{weights.their_name(first)}' "
            f"has shape {tuple(state[first].shape)}, expected {tuple(expected[first].shape)}{more}."
            f"{describe_fit(weights.shapes)}"
        )
    for key, value in state.items():
        if value.dtype not in FLOAT_TYPES or value.layout != torch.strided:
            raise WeightsError(
                f"{weights.path}: '{weights.their_name(key)}' has type {dtype_name(value.dtype)}; expected one of "
                f"{', '.join(map(dtype_name, FLOAT_TYPES))} (quantised weights are not supported)"
            )


def _keys_to_cast(shapes: StateDict, dtype: torch.dtype | None) -> list[str]:
    """The tensors that are not stored as asked. A scalar works with any type: without a wish it is left alone."""
    target = dtype or _widest(shapes)
    return [key for key, value in shapes.items() if value.dtype != target and (dtype is not None or value.ndim)]


def _widest(shapes: StateDict) -> torch.dtype:
    """The type that holds every stored value exactly."""
    widest: torch.dtype | None = None
    for value in shapes.values():
        if value.ndim:
            widest = value.dtype if widest is None else torch.promote_types(widest, value.dtype)
    return widest or torch.float32
