"""A moving average of the weights (Polyak averaging): often a better model than the last step's, and never trained."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class MovingAverage:
    """Of every weight that trains: average = decay * average + (1 - decay) * weight after each step. In fp32.

    Early on the decay is at most (1 + steps) / (10 + steps), so that the first weights are soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.averages = {name: parameter.detach().float().clone() for name, parameter in _trained(model).items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights after a step."""
        self.steps += 1
        share = 1.0 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, parameter in _trained(model).items():
            self.averages[name].lerp_(parameter.float(), share)

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Put the averages in the place of the weights."""
        for name, parameter in _trained(model).items():
            parameter.copy_(self.averages[name])

    def state(self) -> dict[str, Tensor]:
        """For a checkpoint."""
        return {**self.averages, _STEPS: torch.tensor(self.steps)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state."""
        self.steps = int(state[_STEPS])
        for name, average in self.averages.items():
            average.copy_(state[name])


_STEPS = "average.steps"


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
