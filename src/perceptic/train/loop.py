"""The one training loop. It knows steps, gradients, checkpoints and signals, and nothing of the objective or the data.

A step is a function of model, optimiser, random state, data position and step index, all of which are saved, so a run
that is killed and resumed ends with the same bits as one that is not (on CPU, with the same number of threads).
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

import torch
from torch import nn
from torch.optim import Optimizer

from perceptic.errors import ConfigError, TrainError
from perceptic.train.checkpoint import TrainState
from perceptic.train.ema import MovingAverage
from perceptic.train.metrics import MetricSink, StepMetrics
from perceptic.train.objectives import Objective
from perceptic.train.parallel import Processes
from perceptic.train.parallel_model import clip_gradients, let_go
from perceptic.train.plan import PlannedStep
from perceptic.train.profiling import StepProfiler
from perceptic.train.run_recipe import RunRecipe
from perceptic.train.sharded_checkpoint import Checkpoints, ShardedCheckpoints
from perceptic.train.sharded_state import tensors_of
from perceptic.train.sources import BatchSource, require_few_skipped
from perceptic.train.validation import PREFIX, Validation

Outcome = Literal["finished", "interrupted"]
ModelT = TypeVar("ModelT", bound=nn.Module)
BatchT = TypeVar("BatchT")


_LOSS, _SAMPLES = "loss of the step", "samples of the step"
SKIPPED = "skipped"
"""What a step's report calls the samples that could not be used, of all processes since the phase began."""

_STOPPING = [signal.SIGINT, signal.SIGTERM, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else [])]


class StopRequest:
    """Turns SIGINT, SIGTERM and SIGUSR1 (SLURM's `--signal=USR1@120`) into a flag that the loop reads between steps; a
    second one acts at once."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Install the handlers, and put the old ones back."""
        previous = {number: signal.signal(number, self._note) for number in _STOPPING}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)


@dataclass
class Trainer(Generic[ModelT, BatchT]):
    """A model, what trains it and where its state goes.

    Attributes:
        plan: the steps that train this model with this optimiser; a run may have several such parts.
        sources: batches of each phase in `plan`, by its name.
        count_samples: of a batch. processes: those that train together; all do every step.
        weigh: what a micro-batch counts for in the loss of its step, relative to the step's others.
        validation: see `Validation`. profiler: records steps.
        samples: seen in the run so far.
    """

    recipe: RunRecipe
    model: ModelT
    objective: Objective[ModelT, BatchT]
    optimizer: Optimizer
    sources: Mapping[str, BatchSource[BatchT]]
    plan: Sequence[PlannedStep]
    checkpoints: Checkpoints
    sink: MetricSink
    count_samples: Callable[[BatchT], int]
    processes: Processes
    on_step: Callable[[StepMetrics], None] = lambda metrics: None
    stop: StopRequest = field(default_factory=StopRequest)
    weigh: Callable[[BatchT], float] = lambda batch: 1.0
    validation: Validation[ModelT, BatchT] | None = None
    profiler: StepProfiler | None = None
    samples: int = 0
    best: float | None = None
    average: MovingAverage | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.recipe.average is not None:
            self.average = MovingAverage(self.model, self.recipe.average.decay)

    def restore(self, state: TrainState) -> None:
        """Go on from a checkpoint of this part.

        Raises:
            TrainError: it belongs to another model. DataError: it belongs to other data.
        """
        self._load(state)
        for name, source in self.sources.items():
            if name in state.data:
                source.restore(state.data[name])
        torch.set_rng_state(state.random_state)
        if state.device_random_state is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(state.device_random_state, self.device)
        self.samples, self.best = state.samples, state.best

    def _load(self, state: TrainState) -> None:
        average = None if self.average is None else self.average.state()
        if isinstance(self.checkpoints, ShardedCheckpoints):
            self.checkpoints.load(state, self.model, self.optimizer, average)
        else:
            average = state.average
            try:
                self.model.load_state_dict(state.model)
                self.optimizer.load_state_dict(state.optimizer)
            except (RuntimeError, ValueError) as error:
                raise TrainError(f"the checkpoint does not fit the recipe's model; use --fresh. {error}") from error
        if self.average is not None and average is not None:
            self.average.restore(average)

    def load_best(self) -> None:
        """Put the weights of the best checkpoint into the model. Raises TrainError if it cannot be read."""
        if isinstance(self.checkpoints, ShardedCheckpoints):
            self.checkpoints.load_best(self.model, self.optimizer)
        else:
            self.model.load_state_dict(self.checkpoints.best().model)

    @property
    def device(self) -> torch.device:
        return self.processes.device

    def run(self, start: int) -> Outcome:
        """Train from step `start` of the run to the end of this part, or until a signal; either way the last state is
        saved.

        Raises:
            TrainError: the loss is not finite. OutputError: a checkpoint cannot be written.
        """
        self.model.train()
        for planned in self.plan:
            if planned.index < start:
                continue
            metrics = self._profiled_step(planned)
            done, is_last = planned.index + 1, planned is self.plan[-1]
            found = self._validate(planned, is_last)
            metrics = dataclasses.replace(metrics, extra={**metrics.extra, **found})
            self.sink.write(metrics)
            self.on_step(metrics)
            is_stopped = self.processes.any(self.stop.signal is not None)
            if is_stopped or is_last or done % self.recipe.checkpoint.every_steps == 0:
                self.checkpoints.save(self._state(done))
            if is_stopped:
                return "interrupted"
        return "finished"

    def close(self) -> None:
        """Stop what the sources do in the background."""
        for source in self.sources.values():
            source.close()
        if self.profiler is not None:
            self.profiler.close()

    def _profiled_step(self, planned: PlannedStep) -> StepMetrics:
        if self.profiler is None:
            return self._step(planned)
        self.profiler.before_step(planned.index)
        metrics = self._step(planned)
        self.profiler.after_step(planned.index)
        return metrics

    def _step(self, planned: PlannedStep) -> StepMetrics:
        started = time.perf_counter()
        source = self.sources[planned.phase.name]
        batches = [source.batch(planned) for _ in range(self.recipe.accumulate)]
        data_seconds = time.perf_counter() - started
        for group in self.optimizer.param_groups:
            group["lr"] = planned.learning_rate * group.get("rate", 1.0)
        loss, extra = self._gradients(planned, batches)
        num_samples = sum(map(self.count_samples, batches))
        skipped = source.skipped
        if skipped is not None:
            extra[SKIPPED] = skipped.total
        figures = self.processes.combine({_LOSS: loss, _SAMPLES: num_samples, **extra})
        require_few_skipped(skipped, int(figures.get(SKIPPED, 0)), self.processes)
        norm = clip_gradients(self.model.parameters(), self.recipe.optimizer.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.objective.after_step(self.model)
        if self.average is not None:
            self.average.update(self.model)
        self.samples += int(figures.pop(_SAMPLES))
        return StepMetrics(
            step=planned.index,
            phase=planned.phase.name,
            loss=figures.pop(_LOSS),
            learning_rate=planned.learning_rate,
            gradient_norm=norm,
            seconds=time.perf_counter() - started,
            data_seconds=data_seconds,
            samples=self.samples,
            extra={**source.figures(planned), **figures},
        )

    def _gradients(self, planned: PlannedStep, batches: Sequence[BatchT]) -> tuple[float, dict[str, float]]:
        """Forward and backward of each micro-batch; returns loss and metrics of all of them together.

        Raises:
            TrainError: a loss is not finite.
        """
        # Of all processes together: a micro-batch is one batch of theirs.
        weights = [self.processes.sum(self.weigh(batch)) if len(batches) > 1 else 1.0 for batch in batches]
        total_weight, total_loss = sum(weights), 0.0
        extra: dict[str, float] = {}
        for batch, weight in zip(batches, weights, strict=True):
            share = weight / total_weight if total_weight else 1 / len(batches)
            with precision_context(self.recipe.precision, self.device.type):
                loss, metrics = self.objective.loss(self.model, batch)
            if not torch.isfinite(loss):
                raise TrainError(f"step {planned.index}: the loss is {loss.item()}; lower the learning rate and resume")
            (loss * share if len(batches) > 1 else loss).backward()
            total_loss += loss.item() * share
            for name, value in metrics.items():  # counts add up, shares and means are averaged
                part = value.item() * share if value.is_floating_point() else value.item()
                extra[name] = extra.get(name, 0) + part
        return total_loss, extra

    def _validate(self, planned: PlannedStep, is_last: bool) -> dict[str, float]:
        """Measure where the recipe says so, and keep the best."""
        recipe, done = self.recipe.validation, planned.index + 1
        if recipe is None or self.validation is None or not (is_last or done % recipe.every_steps == 0):
            return {}
        with precision_context(self.recipe.precision, self.device.type):
            found = self.validation.measure(self.model, planned, self.processes)
        let_go(self.model)
        if PREFIX + recipe.metric not in found:
            known = ", ".join(name.removeprefix(PREFIX) for name in found)
            raise ConfigError(f"validation.metric: there is no '{recipe.metric}'; known: {known}")
        value = found[PREFIX + recipe.metric]
        if recipe.is_better(value, self.best):
            self.best = value
            self.checkpoints.save_best(self._state(done))
        return found

    def _state(self, step: int) -> TrainState:
        is_sharded = isinstance(self.checkpoints, ShardedCheckpoints)
        tensors = tensors_of(self.model, self.optimizer) if is_sharded else None
        return TrainState(
            step=step,
            model=tensors["model"] if tensors else self.model.state_dict(),
            optimizer=tensors["optimizer"] if tensors else self.optimizer.state_dict(),
            random_state=torch.get_rng_state(),
            data={name: source.state() for name, source in self.sources.items()},
            samples=self.samples,
            device_random_state=torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            average=None if self.average is None else self.average.state(),
            best=self.best,
        )


def precision_context(precision: str, device_type: str = "cpu") -> AbstractContextManager[object]:
    """bf16 autocast with fp32 weights, or nothing."""
    assert precision != "auto", "settled before the run begins"
    return contextlib.nullcontext() if precision == "fp32" else torch.autocast(device_type, torch.bfloat16)
