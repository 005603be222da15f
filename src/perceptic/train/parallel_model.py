"""A model shared by the processes that train it, from outside: PyTorch's FSDP2, one group of weights per block.

Each block's weights are gathered before it runs and let go behind it; what is left (embeddings, projections, norms)
forms one more group, which stays gathered from a step's first use to the end of its backward pass, so that
`decoder.logits` or `visual.forward_features` may be called between. Gradients arrive as means over all processes.

`shard: none` is the same machinery with groups of one: whole weights everywhere, gradients averaged.

With `tensor: N` the matrices of a language model's decoder are first split within teams of N neighbours, by the plan of
`inference.tensor_parallel`, and the teams then share the model as single processes do otherwise. What a team does not
split (tower, projector, embedding, norms) its members compute alike, from the same data to the same gradients.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Final

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from perceptic.errors import ConfigError
from perceptic.inference.tensor_parallel import split_blocks
from perceptic.models.decoder import DecoderBlock
from perceptic.models.layers import Block
from perceptic.models.perception_lm import PerceptionLM
from perceptic.train.parallel import Processes
from perceptic.train.parallel_recipe import ParallelRecipe

_ENTRANCES: Final = ("encode_image", "encode_text", "encode_chunks", "hidden", "hidden_packed")
"""Methods through which objectives enter a model besides `forward`."""


_SEEDS: Final = 1_000_003


def make_mesh(recipe: ParallelRecipe, processes: Processes) -> DeviceMesh:
    """The processes as a grid: groups that repeat the model, and the members of a group, which split it. Where members
    are teams, the last dimension (`tensor`) is that of a team's processes.

    Rank = (group * members + member) * team + place in the team, so every process has a place of its own
    (perception-language-model spec 9.15).

    Raises:
        ConfigError: the groups cannot be of one size.
    """
    groups, members = _num_groups(recipe, processes), processes.reader.count
    if members % groups:
        raise ConfigError(
            f"parallel.replicate: {members} {'processes' if processes.tensor == 1 else 'teams of processes'} cannot "
            f"form {groups} groups of one size; start as many processes on every machine, or set parallel.replicate"
        )
    shape = {"replicate": groups, "shard": members // groups, "tensor": processes.tensor}
    names = tuple(name for name, size in shape.items() if size > 1 or name == "shard")
    return init_device_mesh(processes.device.type, tuple(shape[name] for name in names), mesh_dim_names=names)


def _num_groups(recipe: ParallelRecipe, processes: Processes) -> int:
    match recipe.shard:
        case "full":
            return 1
        case "none":
            return processes.reader.count
        case _:
            return recipe.replicate or processes.machines


def share_model(model: nn.Module, recipe: ParallelRecipe, processes: Processes) -> None:
    """Prepare a model, in place, for training by several processes; on its own only checkpointing is switched on.

    To be called in every process with the same weights, after parts are frozen and before an optimiser is made.

    Raises:
        ConfigError: as `make_mesh`.
    """
    if recipe.activation_checkpointing:
        model.set_grad_checkpointing(True)  # type: ignore[operator]  # every model of ours has it
    if processes.count > 1:
        reader = processes.reader.index
        if reader:  # all have drawn the same weights; from now on, each draws its own DropPath and masks
            torch.manual_seed(torch.initial_seed() + _SEEDS * reader)
        mesh = make_mesh(recipe, processes)
        if processes.tensor > 1:
            mesh = _split_within_teams(model, mesh)
        shard_model(model, mesh, torch.bfloat16 if recipe.gather == "bf16" else None)


def _split_within_teams(model: nn.Module, mesh: DeviceMesh) -> DeviceMesh:
    """Split the decoder; returns the mesh without the teams' dimension."""
    assert isinstance(model, PerceptionLM)  # `runs.train` refuses other recipes
    # It warns of sums over two dimensions made one after the other, once for each kind: norms and the export need them.
    logging.getLogger("torch.distributed.tensor._redistribute").setLevel(logging.ERROR)
    split_blocks(model.decoder, mesh["tensor"])
    names = mesh.mesh_dim_names
    assert names is not None
    return mesh[names[:-1]]


def shard_model(model: nn.Module, mesh: DeviceMesh, gather: torch.dtype | None = None) -> None:
    """Split a model's weights over a mesh, in place.

    Args:
        gather: number type that weights travel in; None: their own.
    """
    # Inputs stay as they are: rotary tables must keep fp32, and autocast decides about the rest.
    policy = MixedPrecisionPolicy(
        param_dtype=gather, reduce_dtype=torch.float32 if gather else None, cast_forward_inputs=False
    )
    # FSDP2 takes no scalars; they are whole everywhere.
    scalars = {parameter for parameter in model.parameters() if parameter.ndim == 0}
    for scalar in scalars:
        scalar.data = scalar.data.to(mesh.device_type)
        if scalar.requires_grad:
            scalar.register_post_accumulate_grad_hook(_average_gradient)
    blocks = [fully_shard(block, mesh=mesh, mp_policy=policy, ignored_params=scalars) for block in blocks_of(model)]
    root = fully_shard(model, mesh=mesh, mp_policy=policy, ignored_params=scalars)
    # In the backward pass each group fetches the one before it early. Said by name: FSDP2 would guess it from the calls
    # of this process, and processes must not differ (one may look at a picture where another looks at a dummy). The
    # root, which ends once per call of the model, fetches none but itself, which is there.
    for before, group in pairwise([root, root, *blocks]):
        group.set_modules_to_backward_prefetch([before])
    _open_entrances(model)


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The transformer blocks of all towers."""
    return [module for module in model.modules() if isinstance(module, Block | DecoderBlock)]


def is_shared(model: nn.Module) -> bool:
    """Whether this process has but a part of the model."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def let_go(model: nn.Module) -> None:
    """Of a shared model, keep this process's part only: after passes without a backward pass, which would do it."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def clip_gradients(parameters: Iterable[nn.Parameter], largest: float | None) -> float:
    """Scale gradients to a norm of at most `largest` (None: leave them) over the whole model; returns the norm before.

    Of a shared model, it is that of all its parts.
    """
    trained = [parameter for parameter in parameters if parameter.grad is not None]
    if not any(isinstance(parameter, DTensor) for parameter in trained):
        return float(nn.utils.clip_grad_norm_(trained, float("inf") if largest is None else largest))
    # One operation takes tensors of one kind: those that the same processes share, and scalars.
    kinds: dict[DeviceMesh | None, list[nn.Parameter]] = {}
    for parameter in trained:
        kinds.setdefault(parameter.device_mesh if isinstance(parameter, DTensor) else None, []).append(parameter)
    norm = torch.stack([_norm(parameters) for parameters in kinds.values()]).norm()
    if largest is not None:
        for parameters in kinds.values():
            nn.utils.clip_grads_with_norm_(parameters, largest, norm)
    return float(norm)


def whole_weights(model: nn.Module, everywhere: bool = False) -> Mapping[str, Tensor]:
    """A shared model's weights on the CPU of the first process; the others, which must ask too, get none.

    Of a model that is not shared, its state as it is.

    Args:
        everywhere: every process gets them, in its own memory.
    """
    if not is_shared(model):
        return model.state_dict()
    if everywhere:
        return {name: _whole(value) for name, value in get_model_state_dict(model).items()}
    state = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def _open_entrances(model: nn.Module) -> None:
    """Let objectives call methods besides `forward`, one within another too."""
    is_inside = False

    def entrance(plain: Callable[..., Tensor], hooked: Callable[..., Tensor]) -> Callable[..., Tensor]:
        @functools.wraps(plain)
        def enter(*args: object, **kwargs: object) -> Tensor:
            nonlocal is_inside
            if is_inside:  # FSDP2 takes the end of an inner call for the end of the outer
                return plain(*args, **kwargs)
            is_inside = True
            try:
                return hooked(*args, **kwargs)
            finally:
                is_inside = False

        return enter

    for name in _ENTRANCES:
        if hasattr(model, name):
            plain = getattr(model, name)
            setattr(model, name, _without_views(plain))
            register_fsdp_forward_method(model, name)
            setattr(model, name, entrance(plain, getattr(model, name)))


def _without_views(method: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """FSDP2 hangs its backward pass on what a method returns, which an in-place operation on a view would undo."""

    @functools.wraps(method)
    def wrapped(*args: object, **kwargs: object) -> Tensor:
        y = method(*args, **kwargs)
        return y.clone() if y._is_view() else y

    return wrapped


def _whole(value: object) -> Tensor:
    assert isinstance(value, Tensor)
    return (value.full_tensor() if isinstance(value, DTensor) else value).cpu()


def _norm(parameters: list[nn.Parameter]) -> Tensor:
    norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def _average_gradient(parameter: Tensor) -> None:
    assert parameter.grad is not None
    dist.all_reduce(parameter.grad)
    parameter.grad /= dist.get_world_size()
