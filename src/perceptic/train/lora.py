"""Low-rank adapters (Hu et al. 2021, arXiv 2106.09685): train thousands of numbers of each matrix instead of millions.

A layer W becomes W + (alpha / rank) B A, with W frozen, A of `rank` rows and B of `rank` columns that begins at 0, so
that training begins at the model as it is. Written out because it is these few lines; merged, the model is an ordinary
one again, in every file format.

    add_lora(model.decoder, LoraSettings(rank=16))
    ...                                             # train
    merge_lora(model.decoder)                       # and save as usual

Parameter names stay what they were; the new ones are `<layer>.lora_a` (rank, in) and `<layer>.lora_b` (out, rank).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perceptic.errors import ConfigError, TrainError


@dataclass(frozen=True)
class LoraSettings:
    """Which layers are adapted, and how much.

    Attributes:
        rank: of the change of each matrix. alpha: the change counts alpha / rank.
        layers: last parts of the names of linear layers; the decoder's unless given.
    """

    rank: int = 16
    alpha: float = 32.0
    layers: tuple[str, ...] = ("wq", "wk", "wv", "wo", "w1", "w2", "w3")

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0:
            raise ConfigError(f"lora: rank and alpha must be positive, not {self.rank} and {self.alpha}")


class LoraLinear(nn.Linear):
    """A linear layer whose weight is frozen and whose low-rank change is trained."""

    def __init__(self, layer: nn.Linear, settings: LoraSettings) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        self.scale = settings.alpha / settings.rank
        # Adapters are fp32 whatever the weights are: their steps are too small for bf16.
        device, dtype = layer.weight.device, torch.float32
        self.lora_a = nn.Parameter(torch.empty(settings.rank, layer.in_features, device=device, dtype=dtype))
        self.lora_b = nn.Parameter(torch.zeros(layer.out_features, settings.rank, device=device, dtype=dtype))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        change = F.linear(F.linear(x.to(self.lora_a.dtype), self.lora_a), self.lora_b)
        return super().forward(x) + (self.scale * change).to(x.dtype)

    def merged(self) -> nn.Linear:
        """An ordinary layer with the change in its weight."""
        layer = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        change = self.scale * (self.lora_b.detach() @ self.lora_a.detach())
        weight = (self.weight.detach().float() + change).to(self.weight.dtype)
        layer.weight, layer.bias = nn.Parameter(weight), self.bias
        return layer


def add_lora(model: nn.Module, settings: LoraSettings) -> list[nn.Parameter]:
    """Freeze a model and adapt its layers in place; returns the parameters that train now.

    What else of a larger model trains is decided before: `PlmStage.freeze` would switch the frozen weights on again.

    Raises:
        ConfigError: the model has no such layers, or has adapters already.
    """
    if any(isinstance(module, LoraLinear) for module in model.modules()):
        raise ConfigError("lora: the model has adapters already; merge them first")
    found = [name for name, module in model.named_modules() if _is_wanted(name, module, settings)]
    if not found:
        raise ConfigError(f"lora: the model has no linear layer named {', '.join(settings.layers)}")
    model.requires_grad_(False)
    for name in found:
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        _replace(model, name, LoraLinear(layer, settings))
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def lora_state(model: nn.Module) -> dict[str, Tensor]:
    """The adapters alone, a small file's worth."""
    return {name: value for name, value in model.state_dict().items() if _is_adapter(name)}


def load_lora_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put adapters back into a model that `add_lora` has prepared.

    Raises:
        TrainError: adapters of another model or other settings.
    """
    wanted = {name: tuple(value.shape) for name, value in lora_state(model).items()}
    given = {name: tuple(value.shape) for name, value in state.items()}
    for name in sorted(wanted.keys() | given.keys()):
        if wanted.get(name) != given.get(name):
            raise TrainError(f"lora: {name} is {given.get(name)} in the adapters and {wanted.get(name)} in the model")
    model.load_state_dict(state, strict=False)


def merged_state(state: Mapping[str, Tensor], settings: LoraSettings) -> dict[str, Tensor]:
    """A state dict with adapters as that of the ordinary model; those without adapters stay as they are."""
    merged = {name: value for name, value in state.items() if not _is_adapter(name)}
    for name, lora_a in state.items():
        if name.endswith(".lora_a"):
            layer = name.removesuffix(".lora_a")
            change = (settings.alpha / settings.rank) * (state[f"{layer}.lora_b"].float() @ lora_a.float())
            weight = state[f"{layer}.weight"]
            merged[f"{layer}.weight"] = (weight.float() + change).to(weight.dtype)
    return merged


def merge_lora(model: nn.Module) -> None:
    """Add every change to its weight and make the layers ordinary again, in place. All of the model trains then."""
    for name, module in list(model.named_modules()):
        if isinstance(module, LoraLinear):
            _replace(model, name, module.merged())
    model.requires_grad_(True)


def _is_wanted(name: str, module: nn.Module, settings: LoraSettings) -> bool:
    return isinstance(module, nn.Linear) and name.rpartition(".")[2] in settings.layers


def _is_adapter(name: str) -> bool:
    return name.endswith((".lora_a", ".lora_b"))


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
