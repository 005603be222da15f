"""A run as parts: stretches of steps that share a model and an optimiser.

A contrastive run is one part. PerceptionLM's stages are one each: they differ in what is frozen, in LayerScale, pooling
and optimiser state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from perceptic.train.loop import StopRequest, Trainer
from perceptic.train.metrics import MetricSink, StepMetrics
from perceptic.train.optimizers import make_optimizer
from perceptic.train.parallel import Processes
from perceptic.train.plan import PlannedStep
from perceptic.train.profiling import StepProfiler
from perceptic.train.run_recipe import RunRecipe
from perceptic.train.sharded_checkpoint import Checkpoints

DataProgress = Callable[[str, int, int], None]
"""Called with (name of the data, samples ready, samples in all)."""


@dataclass(frozen=True)
class RunContext:
    """Where a run lives and whom it tells.

    Attributes:
        out: the run folder. cache: where data made ready is kept between runs.
        processes: those that train together, seen from this one.
        fresh: forget what is in `out`. workers: processes that make data ready.
    """

    out: Path
    cache: Path
    processes: Processes
    checkpoints: Checkpoints
    sink: MetricSink
    fresh: bool = False
    workers: int = 1
    on_data: DataProgress = lambda name, done, total: None
    on_step: Callable[[StepMetrics], None] = lambda metrics: None
    stop: StopRequest = field(default_factory=StopRequest)
    profiler: StepProfiler | None = None

    @property
    def device(self) -> torch.device:
        """That this process trains on."""
        return self.processes.device


class Setup(Protocol):
    """A recipe with its data at hand."""

    @property
    def parts(self) -> Sequence[Sequence[PlannedStep]]:
        """The steps of each part; together, those of the run."""

    def trainer(self, part: int, weights: Mapping[str, Tensor] | None) -> Trainer[Any, Any]:
        """What trains a part.

        Args:
            weights: the model's at the end of the part before; None where there is none, or where a checkpoint of this
                part will be restored.
        """

    def export(self, model: nn.Module, weights: Mapping[str, Tensor], folder: Path) -> Path:
        """Write a trained model, whose weights are given whole, in the package's own format."""


def optimizer_of(recipe: RunRecipe, model: nn.Module, rates: Mapping[str, float] = MappingProxyType({})) -> Optimizer:
    """The optimiser that a recipe asks for, over what trains in the model. `rates`: see `decay_groups`."""
    options = recipe.optimizer
    return make_optimizer(options.name, model, options.betas, options.eps, options.weight_decay, rates, options.decayed)
