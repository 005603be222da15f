"""The loss on data that is not trained on, every so many steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import nn

from perceptic.errors import ConfigError
from perceptic.train.objectives import Objective
from perceptic.train.parallel import Processes
from perceptic.train.plan import PlannedStep
from perceptic.train.sources import BatchSource

ModelT = TypeVar("ModelT", bound=nn.Module)
BatchT = TypeVar("BatchT")

PREFIX = "validation_"


@dataclass(frozen=True)
class Validation(Generic[ModelT, BatchT]):
    """What is measured.

    Attributes:
        open_source: the data from its beginning, so that every measurement sees the same.
        num_batches: of them. weigh: a batch's share in the mean, relative to the others', of this process's part of it.
    """

    objective: Objective[ModelT, BatchT]
    open_source: Callable[[], BatchSource[BatchT]]
    num_batches: int
    weigh: Callable[[BatchT], float]

    @torch.no_grad()
    def measure(self, model: ModelT, planned: PlannedStep, processes: Processes) -> dict[str, float]:
        """Mean loss and metrics over the batches of all processes, the same in each, as `validation_...`; the model is
        in training mode again afterwards.

        Args:
            planned: the step after which it is: batches are as in its phase.
        """
        source = self.open_source()
        model.eval()
        try:
            batches = [source.batch(_at(planned, number)) for number in range(self.num_batches)]
            # As in a step: a batch is that of all processes, whose losses' mean is its loss.
            weights = [processes.sum(self.weigh(batch)) for batch in batches]
            results = [self._measure_batch(model, batch) for batch in batches]
        finally:
            model.train()
            source.close()
        total = sum(weights)
        if not total:
            raise ConfigError("validation: nothing is learned from its data; give other data or more batches")
        pairs = list(zip(weights, results, strict=True))
        own = {PREFIX + name: sum(w * result[name] for w, result in pairs) / total for name in results[0]}
        return processes.mean(own)

    def _measure_batch(self, model: ModelT, batch: BatchT) -> dict[str, float]:
        loss, metrics = self.objective.loss(model, batch)
        shares = {name: value.item() for name, value in metrics.items() if value.is_floating_point()}
        return {"loss": loss.item(), **shares}


def _at(planned: PlannedStep, number: int) -> PlannedStep:
    return PlannedStep(planned.index, planned.phase, number, planned.image_size)
