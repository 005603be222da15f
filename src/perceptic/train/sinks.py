"""Metric sinks beside the JSON lines: TensorBoard, Weights & Biases and trackio. Optional packages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from perceptic import optional
from perceptic.train.metrics import JsonLines, MetricSink, StepMetrics

SinkName = Literal["tensorboard", "wandb", "trackio"]

PROJECT = "perceptic"


def make_sink(names: Sequence[SinkName], run: str, out: Path, settings: Mapping[str, Any]) -> MetricSink:
    """`metrics.jsonl` in a run folder, and the services that a recipe names.

    Args:
        run: its name there. settings: the recipe, which the services show.

    Raises:
        MissingDependencyError: a service's package is not installed.
    """
    others = [_SINKS[name](run, out, settings) for name in names]
    return ManySinks([JsonLines(out / "metrics.jsonl"), *others])


class ManySinks:
    """Tells every sink."""

    def __init__(self, sinks: Sequence[MetricSink]) -> None:
        self.sinks = sinks

    def resume_at(self, step: int) -> None:
        for sink in self.sinks:
            sink.resume_at(step)

    def write(self, metrics: StepMetrics) -> None:
        for sink in self.sinks:
            sink.write(metrics)

    def close(self) -> None:
        for sink in self.sinks:
            sink.close()


class TensorBoard:
    """Event files in `tensorboard/` of the run folder; view them with `tensorboard --logdir RUNS`."""

    def __init__(self, run: str, out: Path, settings: Mapping[str, Any]) -> None:
        optional.require("tensorboard", "the metric sink 'tensorboard'")
        self._folder = out / "tensorboard"
        self._writer: Any = None

    def resume_at(self, step: int) -> None:
        """Steps from here on that an interrupted run wrote are hidden."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(self._folder), purge_step=step)

    def write(self, metrics: StepMetrics) -> None:
        for name, value in numbers(metrics).items():
            self._writer.add_scalar(name, value, metrics.step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class Service:
    """Weights & Biases, or trackio, which has the same interface; one run there for each run folder.

    Both take steps that come again after a resume: the first value of a step stays.
    """

    def __init__(self, module: Any, run: str, out: Path, settings: Mapping[str, Any]) -> None:
        self._module = module
        self._arguments: dict[str, Any] = {"project": PROJECT, "name": run, "config": dict(settings)}
        if module.__name__ == "wandb":
            self._arguments |= {"id": f"{out.resolve().name}-{run}", "dir": str(out)}
        self._run: Any = None

    def resume_at(self, step: int) -> None:
        """Open the run, or go on with it."""
        self._run = self._module.init(**self._arguments, resume="allow" if step else "never")

    def write(self, metrics: StepMetrics) -> None:
        self._run.log(numbers(metrics), step=metrics.step)

    def close(self) -> None:
        if self._run is not None:
            self._run.finish()


def numbers(metrics: StepMetrics) -> dict[str, float]:
    """What can be drawn over the steps."""
    return {name: value for name, value in metrics.values().items() if name not in ("step", "phase")}


def _service(module: str) -> Callable[[str, Path, Mapping[str, Any]], Service]:
    def make(run: str, out: Path, settings: Mapping[str, Any]) -> Service:
        return Service(optional.require(module, f"the metric sink '{module}'"), run, out, settings)

    return make


_SINKS: dict[SinkName, Callable[[str, Path, Mapping[str, Any]], MetricSink]] = {
    "tensorboard": TensorBoard,
    "wandb": _service("wandb"),
    "trackio": _service("trackio"),
}
