"""Muon for the matrices of the blocks of decoder and tower, AdamW for everything else.

Muon (Jordan 2024, https://kellerjordan.github.io/posts/muon) replaces the momentum of a matrix by the nearest
orthogonal one, so that rare directions learn as fast as frequent ones. The papers train without it: it is for small
models that begin with little.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.optim import AdamW, Muon, Optimizer


class MuonWithAdamW(Optimizer):
    """Two of torch's optimisers that look like one: one state, one list of groups.

    Args:
        groups: parameter groups; those with a true `muon` hold matrices only.
        betas, eps: of AdamW.
    """

    def __init__(self, groups: list[dict[str, Any]], betas: tuple[float, float], eps: float) -> None:
        super().__init__(groups, {"lr": 1e-3})
        # Both add what they need to the groups, which stay these.
        self._muon = Muon(self._groups(muon=True), adjust_lr_fn="match_rms_adamw")
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
