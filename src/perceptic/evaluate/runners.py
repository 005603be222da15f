"""Which module measures which task. A module is loaded when it is needed.

A runner module has two names: `Options`, a frozen dataclass with defaults (what `--set key=value` reaches), and
`run(request: Request[Options]) -> Measured`.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from perceptic.errors import ConfigError
from perceptic.evaluate.benchmark import Benchmark
from perceptic.evaluate.request import Request
from perceptic.evaluate.result import Measured
from perceptic.train.strict import build

RUNNERS = {
    "zero_shot": "perceptic.evaluate.zero_shot",
    "retrieval": "perceptic.evaluate.retrieval",
    "knn": "perceptic.evaluate.knn",
    "linear_probe": "perceptic.evaluate.linear_probe",
    "attention_probe": "perceptic.evaluate.attention_probe",
    "world": "perceptic.evaluate.world_suite",
    "plm_videobench": "perceptic.evaluate.plm_bench",
    "qa": "perceptic.evaluate.qa",
    "world_plm": "perceptic.evaluate.world_plm",
    "segmentation": "perceptic.evaluate.layer_benchmark",
    "depth": "perceptic.evaluate.layer_benchmark",
    "tracking": "perceptic.evaluate.layer_benchmark",
}
"""Task -> module. A task of a benchmark without a module here is described and cannot be run."""
PLM_TASKS = frozenset({"plm_videobench", "qa", "world_plm"})
"""Tasks that a language model answers; all others measure an encoder."""


class RunFunction(Protocol):
    def __call__(self, request: Request[Any], /) -> Measured: ...


@dataclass(frozen=True)
class Runner:
    """A task's options and function."""

    task: str
    options: type[Any]
    run: RunFunction


def is_runnable(benchmark: Benchmark) -> bool:
    """Whether this version measures the benchmark's task, rather than only describing it."""
    home = RUNNERS.get(benchmark.task)
    return home is not None and importlib.util.find_spec(home) is not None


def runner_for(benchmark: Benchmark) -> Runner:
    """The runner of a benchmark's task. Raises ConfigError if this version has none."""
    if not is_runnable(benchmark):
        raise ConfigError(
            f"{benchmark.name}: this version describes {benchmark.task.replace('_', ' ')} and does not run it; "
            f"its published numbers are in `perceptic eval --list --json`"
        )
    module = importlib.import_module(RUNNERS[benchmark.task])
    return Runner(benchmark.task, module.Options, module.run)


def build_options(runner: Runner, benchmark: Benchmark, given: Mapping[str, Any]) -> Any:
    """The runner's defaults, then the benchmark's, then what the user set; keys that the runner lacks are left out.

    Raises:
        ConfigError: a value of the wrong kind.
    """
    known = {item.name for item in dataclasses.fields(runner.options)}
    values = {**benchmark.options, **{key: value for key, value in given.items() if key in known}}
    return build(runner.options, values, benchmark.name)


def check_options(runners: list[Runner], given: Mapping[str, Any]) -> None:
    """Every key is known to at least one of the runners. Raises ConfigError that names the nearest one."""
    known = {item.name for runner in runners for item in dataclasses.fields(runner.options)}
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(sorted(known))}"
            raise ConfigError(f"--set {key}: no such option here; {hint}")
