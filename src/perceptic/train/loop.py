"""The one training loop. It knows steps, gradients, checkpoints and signals, and nothing of the objective or the data.

A step is a pure function of (model, optimiser, random state, step index), so a run that is killed and resumed ends with
the same bits as one that is not (on CPU, with the same number of threads).
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim import Optimizer

from perceptic.data.batches import Batch, BatchMaker
from perceptic.errors import TrainError
from perceptic.models.clip import CLIP
from perceptic.train.checkpoint import CheckpointFolder, TrainState
from perceptic.train.metrics import MetricSink, StepMetrics
from perceptic.train.objectives import Objective
from perceptic.train.plan import PlannedStep, plan_steps, samples_before
from perceptic.train.recipe import Recipe

Outcome = Literal["finished", "interrupted"]


class StopRequest:
    """Turns SIGINT and SIGTERM into a flag that the loop reads between steps; a second SIGINT acts at once."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Install the handlers, and put the old ones back."""
        previous = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
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
class Trainer:
    """A model, what trains it and where its state goes."""

    recipe: Recipe
    model: CLIP
    objective: Objective[CLIP, Batch]
    optimizer: Optimizer
    batches: Mapping[str, BatchMaker]
    checkpoints: CheckpointFolder
    sink: MetricSink
    on_step: Callable[[StepMetrics], None] = lambda metrics: None
    stop: StopRequest = field(default_factory=StopRequest)

    def restore(self) -> tuple[int, tuple[str, ...]]:
        """Go on from the newest readable checkpoint; returns the first step to run and warnings about damaged ones.

        Raises:
            TrainError: no checkpoint can be read, or it belongs to another model.
        """
        found = self.checkpoints.newest()
        if found.state is None:
            return 0, found.warnings
        try:
            self.model.load_state_dict(found.state.model)
            self.optimizer.load_state_dict(found.state.optimizer)
        except (RuntimeError, ValueError) as error:
            raise TrainError(f"the checkpoint does not fit the recipe's model; use --fresh. {error}") from error
        torch.set_rng_state(found.state.random_state)
        return found.state.step, found.warnings

    def run(self, start: int) -> Outcome:
        """Train from step `start` to the end, or until a signal; either way the last state is saved.

        Raises:
            TrainError: the loss is not finite. OutputError: a checkpoint cannot be written.
        """
        plan = plan_steps(self.recipe)
        self.sink.resume_at(start)
        self.model.train()
        with self.stop.listening():
            for planned in plan[start:]:
                metrics = self._step(planned)
                self.sink.write(metrics)
                self.on_step(metrics)
                done = planned.index + 1
                if self.stop.signal is not None:
                    self._save(done)
                    return "interrupted"
                if done % self.recipe.checkpoint.every_steps == 0 or done == len(plan):
                    self._save(done)
        return "finished"

    def _step(self, planned: PlannedStep) -> StepMetrics:
        started = time.perf_counter()
        batch = self.batches[planned.phase.name].batch(planned.step_in_phase, planned.image_size)
        data_seconds = time.perf_counter() - started
        for group in self.optimizer.param_groups:
            group["lr"] = planned.learning_rate
        with precision_context(self.recipe.precision):
            loss, extra = self.objective.loss(self.model, batch)
        if not torch.isfinite(loss):
            raise TrainError(f"step {planned.index}: the loss is {loss.item()}; lower the learning rate and resume")
        loss.backward()
        norm = clip_gradients(self.model, self.recipe.optimizer.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.objective.after_step(self.model)
        return StepMetrics(
            step=planned.index,
            phase=planned.phase.name,
            image_size=planned.image_size,
            loss=loss.item(),
            accuracy=extra["accuracy"].item(),
            logit_scale=extra["logit_scale"].item(),
            learning_rate=planned.learning_rate,
            gradient_norm=norm,
            seconds=time.perf_counter() - started,
            data_seconds=data_seconds,
            samples=samples_before(self.recipe, planned.index + 1),
        )

    def _save(self, step: int) -> None:
        state = TrainState(step, self.model.state_dict(), self.optimizer.state_dict(), torch.get_rng_state())
        self.checkpoints.save(state)


def clip_gradients(model: nn.Module, largest: float | None) -> float:
    """Scale gradients to a norm of at most `largest` (None: leave them); returns the norm before."""
    limit = float("inf") if largest is None else largest
    return float(nn.utils.clip_grad_norm_(model.parameters(), limit))


@contextlib.contextmanager
def precision_context(precision: Literal["fp32", "bf16"]) -> Iterator[None]:
    """bf16 autocast with fp32 weights, or nothing.

    On CPU the fused attention's bf16 backward takes ten times as long as plain products at the few dozen tokens of a
    small picture (859 against 90 ms of a 2.1 s step), so bf16 runs the plain form.
    """
    if precision == "fp32":
        yield
        return
    autocast: AbstractContextManager[object] = torch.autocast("cpu", torch.bfloat16)
    with autocast, sdpa_kernel(SDPBackend.MATH):
        yield
