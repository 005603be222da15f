"""Muon for the matrices of the blocks of decoder and tower, AdamW for everything else.

Muon (Jordan 2024, https://kellerjordan.github.io/posts/muon) replaces the momentum of a matrix by the nearest
orthogonal one, so that rare directions learn as fast as frequent ones. The papers train without it: it is for small
models that begin with little. torch has one that takes a matrix at a time, which is a quarter of a small model's step;
here all matrices of a size are taken together.

Shapes: N matrices of M rows and K columns.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate
from torch.optim import AdamW, Optimizer

from perceptic.inference.processors import computes_bfloat16
from perceptic.train.group_optimizer import GroupOptimizer

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration, chosen by its author for the steepest rise from zero."""
_NUM_ITERATIONS = 5
_RMS = 0.2
"""Of AdamW's updates, which Muon's are scaled to (Liu et al. 2025, arXiv 2502.16982)."""


class Muon(GroupOptimizer):
    """Nesterov momentum, made orthogonal; updates are as large as AdamW's and decay is decoupled, as there.

    Args:
        params: matrices, or groups of them.
        lr: learning rate, overwritten by the schedule. weight_decay, momentum: as `torch.optim.Muon`.
    """

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, weight_decay: float = 0.1, momentum: float = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    def update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """All matrices of a size together."""
        of_shape: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
        for parameter in parameters:
            of_shape[tuple(parameter.shape)].append(parameter)
        for alike in of_shape.values():
            self._update(alike, group)

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        momenta = [self._momentum(parameter) for parameter in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        updates = _orthogonal_of_all(list(torch._foreach_lerp(gradients, momenta, group["momentum"])))
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(parameters, updates, alpha=-group["lr"] * _RMS * max(parameters[0].shape) ** 0.5)

    def _momentum(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        momentum: Tensor = state["momentum_buffer"]
        return momentum


def orthogonal(x_NMK: Tensor) -> Tensor:
    """About U V^T of each matrix U S V^T: singular values between 0.5 and 1.5, of the type of `x_NMK`.

    Worked out by Newton and Schulz's iteration, after which no step is exact and none needs to be: in bf16, or in fp32
    where bf16 is slow.
    """
    if x_NMK.shape[1] > x_NMK.shape[2]:
        return orthogonal(x_NMK.mT).mT
    factor, of_square, of_fourth = _COEFFICIENTS
    y_NMK = x_NMK.to(_fast_type(x_NMK.device), memory_format=torch.contiguous_format)
    y_NMK = y_NMK / y_NMK.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(_NUM_ITERATIONS):
        gram_NMM = torch.bmm(y_NMK, y_NMK.transpose(1, 2))
        change_NMM = torch.baddbmm(gram_NMM, gram_NMM, gram_NMM, beta=of_square, alpha=of_fourth)
        y_NMK = torch.baddbmm(y_NMK, change_NMM, y_NMK, beta=factor)
    return y_NMK.to(x_NMK.dtype)


def _orthogonal_of_all(matrices: list[Tensor]) -> list[Tensor]:
    """`orthogonal` of matrices of one size, each shared by processes as it was."""
    shared = [matrix for matrix in matrices if isinstance(matrix, DTensor)]
    if not shared:
        return list(orthogonal(torch.stack(matrices)).unbind())
    mesh = shared[0].device_mesh
    updates = _orthogonal_in_shares(torch.stack([matrix.full_tensor() for matrix in shared]), mesh)
    everywhere = [Replicate()] * mesh.ndim
    return [
        DTensor.from_local(update, mesh, everywhere, run_check=False).redistribute(placements=matrix.placements)
        for update, matrix in zip(updates, shared, strict=True)
    ]


def _orthogonal_in_shares(x_NMK: Tensor, mesh: DeviceMesh) -> Tensor:
    """`orthogonal` of matrices that all processes have, each of which works out a share of them for all; on a mesh of
    several dimensions, all of them."""
    wide = [dim for dim in range(mesh.ndim) if mesh.size(dim) > 1]
    if len(wide) != 1:
        return orthogonal(x_NMK)
    group = mesh.get_group(wide[0])
    rank, count = dist.get_rank(group), dist.get_world_size(group)
    size = -(-len(x_NMK) // count)
    share = x_NMK[rank * size : (rank + 1) * size]
    done = x_NMK.new_zeros(size, *x_NMK.shape[1:])
    if len(share):
        done[: len(share)] = orthogonal(share)
    whole = x_NMK.new_empty(count * size, *x_NMK.shape[1:])
    dist.all_gather_into_tensor(whole, done, group=group)
    return whole[: len(x_NMK)]


@functools.cache
def _fast_type(device: torch.device) -> torch.dtype:
    return torch.bfloat16 if computes_bfloat16(device) else torch.float32


class MuonWithAdamW(Optimizer):
    """Two optimisers that look like one: one state, one list of groups.

    Args:
        groups: parameter groups; those with a true `muon` hold matrices only.
        betas, eps: of AdamW.
    """

    def __init__(self, groups: list[dict[str, Any]], betas: tuple[float, float], eps: float) -> None:
        super().__init__(groups, {"lr": 1e-3})
        # Both add what they need to the groups, which stay these.
        self._muon = Muon(self._groups(muon=True))
        self._adamw = AdamW(self._groups(muon=False), betas=betas, eps=eps)
        self._share()

    def _groups(self, *, muon: bool) -> list[dict[str, Any]]:
        return [group for group in self.param_groups if group.get("muon", False) is muon]

    def _share(self) -> None:
        for optimizer, muon in ((self._muon, True), (self._adamw, False)):
            optimizer.param_groups = self._groups(muon=muon)
            optimizer.state = self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As `Optimizer.load_state_dict`, which puts new groups and a new state in place."""
        super().load_state_dict(state_dict)
        self._share()

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update; returns what the closure returns."""
        loss: float | None = self._muon.step(closure)
        self._adamw.step()
        return loss
