"""What recipes of every objective have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from perceptic.errors import ConfigError
from perceptic.train.optimizers import Decayed, OptimizerName
from perceptic.train.parallel_recipe import ParallelRecipe
from perceptic.train.sinks import SinkName


@dataclass(frozen=True)
class OptimizerRecipe:
    """LAMB, AdamW, or for the decoder of a language model Muon with AdamW for the rest.

    Attributes:
        decayed: weight decay acts on `matrices`, or on `all` (norms, biases and embeddings too, as PLM's original).
        warmup_from: learning rates of a warm-up of n steps are 1/n, 2/n... of the peak (`first`), or 0, 1/n... as in
            PLM's original, whose first step learns nothing (`zero`).
    """

    name: OptimizerName = "lamb"
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-6
    weight_decay: float = 0.05
    clip_norm: float | None = None
    decayed: Decayed = "matrices"
    warmup_from: Literal["first", "zero"] = "first"


@dataclass(frozen=True)
class CheckpointRecipe:
    every_steps: int = 200
    keep: int = 2


@dataclass(frozen=True)
class AverageRecipe:
    """A moving average of the weights; see `MovingAverage`."""

    decay: float = 0.999

    def __post_init__(self) -> None:
        if not 0 < self.decay < 1:
            raise ConfigError(f"average.decay: must be between 0 and 1, not {self.decay}")


@dataclass(frozen=True)
class ValidationRecipe:
    """Measurements on data that is not trained on, after every `every_steps` steps and at the end of each phase's part.

    Attributes:
        data: name of a pool or stream; for `objective: plm` a mix.
        batches: of each measurement. metric: by which the best checkpoint is chosen: `loss`, where less is better, or
            `accuracy` or another of the objective's, where more is.
    """

    data: str
    every_steps: int
    batches: int = 8
    metric: str = "loss"

    def __post_init__(self) -> None:
        if self.every_steps < 1 or self.batches < 1:
            raise ConfigError("validation: every_steps and batches must be positive")

    def is_better(self, value: float, than: float | None) -> bool:
        """Whether a measurement beats the best so far."""
        return than is None or (value < than if self.metric == "loss" else value > than)


@dataclass(frozen=True)
class ProfileRecipe:
    """Steps of which a trace is recorded: `start` and the next."""

    start: int = 10
    steps: int = 3


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
        precision: `bf16` is autocast with fp32 weights; `auto` is that where the device multiplies bf16 in
            hardware, fp32 elsewhere (`train.precision`). compile: use torch.compile.
        accumulate: micro-batches whose gradients make a step.
        average: keep a moving average of the weights. validation: measure on other data.
        export_weights: of the finished model: those of the last step, their moving `average`, or the `best` validated.
        sinks: where metrics go besides `metrics.jsonl`. profile: record a trace.
        device: `auto` is a CUDA GPU where there is one. parallel: how several processes share the model.
    """

    name: str
    model: str
    seed: int = 0
    threads: int = 0
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    compile: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"
    optimizer: OptimizerRecipe = OptimizerRecipe()
    checkpoint: CheckpointRecipe = CheckpointRecipe()
    accumulate: int = 1
    average: AverageRecipe | None = None
    validation: ValidationRecipe | None = None
    export_weights: Literal["last", "average", "best"] = "last"
    sinks: tuple[SinkName, ...] = ()
    profile: ProfileRecipe | None = None
    parallel: ParallelRecipe = field(default_factory=ParallelRecipe)

    @property
    def schedule(self) -> Sequence[Phase]:
        """The phases in order."""
        raise NotImplementedError

    @property
    def num_steps(self) -> int:
        return sum(phase.num_steps for phase in self.schedule)

    def check_run(self) -> None:
        """Raises ConfigError for keys that contradict each other, no phases, or two of one name."""
        if self.accumulate < 1:
            raise ConfigError(f"accumulate: must be at least 1, not {self.accumulate}")
        if self.export_weights == "average" and self.average is None:
            raise ConfigError("export_weights: there is no average to export; add 'average: {decay: 0.999}'")
        if self.export_weights == "best" and self.validation is None:
            raise ConfigError("export_weights: nothing says which is the best; add 'validation'")
        names = [phase.name for phase in self.schedule]
        if not names:
            raise ConfigError(f"recipe '{self.name}': every recipe needs a phase")
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ConfigError(f"phases: '{twice}' comes twice; each needs a name of its own")
