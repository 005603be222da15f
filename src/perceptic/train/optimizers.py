"""LAMB and AdamW, and which parameters they decay.

LAMB is written out because torch has none and the packages that do bring a training framework along; it is AdamW's
step, rescaled per tensor. Source: You et al. 2020 (arXiv 1904.00962), algorithm 2; recipe values: training-recipes 1.7.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import AdamW, Optimizer

from perceptic.errors import ConfigError
from perceptic.train.group_optimizer import GroupOptimizer
from perceptic.train.muon import MuonWithAdamW

OptimizerName = Literal["lamb", "adamw", "muon"]
_HIDDEN_MATRIX = re.compile(
    r"decoder\.layers\.\d+\.\w+\.w\w\.weight$"
    r"|vision_model\.transformer\.resblocks\.\d+\.(attn\.in_proj_weight|(attn\.out_proj|mlp\.c_\w+)\.weight)$"
)
_MUON_RATE = 2.0
"""Learning rate of Muon, matched to the size of AdamW's steps, relative to AdamW's."""

Decayed = Literal["matrices", "all"]


class Lamb(GroupOptimizer):
    """AdamW whose step on each tensor is scaled to the tensor's norm.

    The trust ratio ||w|| / ||step|| is applied to decayed groups only: biases, norms and scalars start at zero or one,
    where the ratio says nothing about a sensible step.

    Args:
        params: parameters or groups.
        lr: learning rate, overwritten by the schedule. betas, eps, weight_decay: as AdamW.
        max_trust: largest trust ratio.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        max_trust: float = 10.0,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "max_trust": max_trust}
        super().__init__(params, defaults)

    def update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Each by itself: the step depends on the tensor's norm."""
        for parameter in parameters:
            assert parameter.grad is not None, "parameters without a gradient are left out"
            self._update(parameter, parameter.grad, group)

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        beta1, beta2 = group["betas"]
        state["step"] += 1
        count = state["step"].item()
        state["exp_avg"].lerp_(gradient, 1 - beta1)
        state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        root = (state["exp_avg_sq"] / (1 - beta2**count)).sqrt_().add_(group["eps"])
        direction = (state["exp_avg"] / (1 - beta1**count)).div_(root)
        trust = 1.0
        if group["weight_decay"]:
            direction.add_(parameter, alpha=group["weight_decay"])
            trust = _trust_ratio(parameter, direction, group["max_trust"])
        parameter.add_(direction, alpha=-group["lr"] * trust)


def _trust_ratio(parameter: Tensor, direction: Tensor, largest: float) -> float:
    weight_norm, step_norm = _norm(parameter), _norm(direction)
    return min(weight_norm / step_norm, largest) if weight_norm > 0 and step_norm > 0 else 1.0


def _norm(x: Tensor) -> float:
    norm = x.norm()
    # Of a tensor that processes share, each knows the norm of its part.
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def decay_groups(
    model: nn.Module,
    weight_decay: float,
    rates: Mapping[str, float] = MappingProxyType({}),
    decayed: Decayed = "matrices",
) -> list[dict[str, Any]]:
    """Parameter groups: matrices decay; biases, norms, embeddings of a single vector and the logit scale do not.

    Args:
        rates: factors on the learning rate, the group's `rate`, by the beginning of a parameter's name.
        decayed: `all`: everything decays, as PLM's original has it.
    """
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = []
    for rate in dict.fromkeys([1.0, *rates.values()]):
        own = [parameter for name, parameter in trained if _rate(name, rates) == rate]
        decaying = [parameter for parameter in own if decayed == "all" or _is_matrix(parameter)]
        others = [parameter for parameter in own if decayed != "all" and not _is_matrix(parameter)]
        if own or rate == 1.0:
            groups += [
                {"params": decaying, "weight_decay": weight_decay, "rate": rate},
                {"params": others, "weight_decay": 0.0, "rate": rate},
            ]
    return groups


def _is_matrix(parameter: Tensor) -> bool:
    return sum(size > 1 for size in parameter.shape) >= 2


def _rate(name: str, rates: Mapping[str, float]) -> float:
    return next((rate for prefix, rate in rates.items() if name.startswith(prefix)), 1.0)


def _with_muon(groups: list[dict[str, Any]], model: nn.Module) -> list[dict[str, Any]]:
    """The groups with the matrices of the blocks of decoder and tower in groups of their own.

    Raises:
        ConfigError: the model has none.
    """
    hidden = {id(p) for name, p in model.named_parameters() if _HIDDEN_MATRIX.match(name)}
    found: list[dict[str, Any]] = []
    for group in groups:
        matrices = [parameter for parameter in group["params"] if id(parameter) in hidden]
        others = [parameter for parameter in group["params"] if id(parameter) not in hidden]
        found.append({**group, "params": others})
        if matrices:
            found.append({**group, "params": matrices, "rate": group["rate"] * _MUON_RATE, "muon": True})
    if not any(group.get("muon") for group in found):
        raise ConfigError("optimizer.name: muon is for the matrices of a PerceptionLM's blocks, and none trains here")
    return found


def make_optimizer(
    name: OptimizerName,
    model: nn.Module,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    rates: Mapping[str, float] = MappingProxyType({}),
    decayed: Decayed = "matrices",
) -> Optimizer:
    """The optimiser of a recipe; the schedule sets its learning rate before every step.

    Args:
        rates, decayed: see `decay_groups`.
    """
    groups = decay_groups(model, weight_decay, rates, decayed)
    if name == "muon":
        return MuonWithAdamW(_with_muon(groups, model), betas=betas, eps=eps)
    if name == "lamb":
        return Lamb(groups, betas=betas, eps=eps, weight_decay=weight_decay)
    return AdamW(groups, betas=betas, eps=eps, weight_decay=weight_decay)
