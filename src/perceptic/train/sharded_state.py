"""What a model and its optimiser hold, by name, whether one process has it whole or many have parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

Tensors = Mapping[str, Any]
"""`model` and `optimizer`, nested by names down to tensors."""


def tensors_of(model: nn.Module, optimizer: Optimizer) -> Tensors:
    """The tensors themselves, no copies. An optimiser that has made no step yet gets its first state.

    Settings of parameter groups are left out: they are the recipe's.
    """
    return {
        "model": get_model_state_dict(model),
        "optimizer": get_optimizer_state_dict(model, optimizer)["state"],
    }


def load_tensors(model: nn.Module, optimizer: Optimizer, tensors: Tensors) -> None:
    """Put back what `tensors_of` gave, of the same processes. Raises RuntimeError if it is of another model."""
    set_model_state_dict(model, tensors["model"])
    settings = get_optimizer_state_dict(model, optimizer)
    set_optimizer_state_dict(model, optimizer, {**settings, "state": tensors["optimizer"]})


def load_whole(
    model: nn.Module, optimizer: Optimizer, weights: Mapping[str, Any], optimizer_state: Mapping[str, Any]
) -> None:
    """Put `state_dict()`s of a model and optimiser that one process held into ones that many share.

    Raises:
        RuntimeError, KeyError, ValueError: they are of another model.
    """
    options = StateDictOptions(full_state_dict=True)
    set_model_state_dict(model, dict(weights), options=options)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    # The one process's optimiser counts its parameters through all groups; ours has the same groups.
    ordered = [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]
    state = {ordered[number]: values for number, values in optimizer_state["state"].items()}
    settings = get_optimizer_state_dict(model, optimizer, options=options)
    set_optimizer_state_dict(model, optimizer, {**settings, "state": state}, options=options)


def put_whole(tensor: Tensor, value: Tensor) -> None:
    """Copy a whole tensor into one that may be shared."""
    if isinstance(tensor, DTensor):
        value = distribute_tensor(value.to(tensor.device), tensor.device_mesh, tensor.placements)
    tensor.copy_(value)
