"""What recipes of every objective have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from perceptic.errors import ConfigError
from perceptic.train.optimizers import OptimizerName


@dataclass(frozen=True)
class OptimizerRecipe:
    name: OptimizerName = "lamb"
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-6
    weight_decay: float = 0.05
    clip_norm: float | None = None


@dataclass(frozen=True)
class CheckpointRecipe:
    every_steps: int = 200
    keep: int = 2


class Phase(Protocol):
    """One stretch of training with one learning-rate schedule, as the loop sees it."""

    @property
    def name(self) -> str: ...

    @property
    def num_steps(self) -> int: ...

    @property
    def learning_rate(self) -> float: ...

    @property
    def final_learning_rate(self) -> float: ...

    @property
    def warmup_steps(self) -> int: ...

    def image_size(self, step: int) -> int:
        """Resolution of a step of the phase; 0 where it has none."""


@dataclass(frozen=True, kw_only=True)
class RunRecipe:
    """How a run is carried out, whatever it trains.

    Attributes:
        name: of the run. model: architecture, a name from `perceptic models`.
        seed: of weights, data and everything random. threads: 0 leaves torch's choice.
        precision: `bf16` is autocast with fp32 weights. compile: use torch.compile.
        device: `auto` is a CUDA GPU where there is one.
    """

    name: str
    model: str
    seed: int = 0
    threads: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"
    optimizer: OptimizerRecipe = OptimizerRecipe()
    checkpoint: CheckpointRecipe = CheckpointRecipe()

    @property
    def schedule(self) -> Sequence[Phase]:
        """The phases in order."""
        raise NotImplementedError

    @property
    def num_steps(self) -> int:
        return sum(phase.num_steps for phase in self.schedule)

    def check_phase_names(self) -> None:
        """Raises ConfigError unless there are phases, each with a name of its own."""
        names = [phase.name for phase in self.schedule]
        if not names:
            raise ConfigError(f"recipe '{self.name}': every recipe needs a phase")
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ConfigError(f"phases: '{twice}' comes twice; each needs a name of its own")
