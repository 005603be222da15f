"""Run benchmarks on models, one after the other, into a folder that lets a stopped run go on."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perceptic.errors import ConfigError, DataError, PercepticError
from perceptic.evaluate.benchmark import Benchmark
from perceptic.evaluate.request import Common, ModelUnderTest, OnProgress, Request, ignore_progress
from perceptic.evaluate.result import EvalResult, Measured, make_result, versions
from perceptic.evaluate.result_folder import ResultFolder
from perceptic.evaluate.runners import PLM_TASKS, build_options, check_options, runner_for
from perceptic.tasks.file_lock import exclusive_lock

FEATURES = "features"
_MAX_FILES = 200_000


@dataclass(frozen=True)
class RunPlan:
    """What to measure.

    Attributes:
        benchmarks, models: each benchmark runs on the models that suit it, encoders or language models; one that suits
            none of them is left out (`on_left_out`).
        data: where data lie; None if every benchmark makes its own. options: what `--set` gave.
        out: folder of results; None keeps nothing on disk.
        features: folder of features; inside `out` unless given.
    """

    benchmarks: Sequence[Benchmark]
    models: Sequence[ModelUnderTest]
    data: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    common: Common = field(default_factory=Common)
    out: Path | None = None
    features: Path | None = None


@dataclass(frozen=True)
class RunCallbacks:
    """What a run tells its caller: a benchmark begins, how far it is, it is done (now or before), or it failed."""

    on_start: Callable[[Benchmark, ModelUnderTest], None] = lambda benchmark, model: None
    on_progress: OnProgress = ignore_progress
    on_result: Callable[[EvalResult, bool], None] = lambda result, is_new: None
    on_left_out: Callable[[Sequence[Benchmark]], None] = lambda benchmarks: None
    on_failure: Callable[[Benchmark, ModelUnderTest, PercepticError], None] = lambda benchmark, model, error: None


def run_benchmarks(plan: RunPlan, callbacks: RunCallbacks | None = None) -> list[EvalResult]:
    """Measure everything; results that the folder has with equal settings are taken from there.

    Ctrl-C loses the running benchmark at most, and of it not the features. One of several benchmarks whose data cannot
    be read does not stop the others: `on_failure` hears of it.

    Raises:
        ConfigError: an option that no runner knows, or models that suit none of the benchmarks.
        PercepticError: the only benchmark failed, or the results cannot be written; another process writes there.
    """
    tell = callbacks or RunCallbacks()
    pairs = _pairs(plan, tell)
    check_options([runner_for(benchmark) for benchmark, _ in pairs], plan.options)
    if plan.out is None:
        return _run_pairs(plan, pairs, None, tell)
    busy = f"{plan.out}: another process is measuring there; wait for it, or give another --out"
    with exclusive_lock(plan.out / ".lock", busy):
        return _run_pairs(plan, pairs, ResultFolder(plan.out), tell)


def _run_pairs(
    plan: RunPlan, pairs: Sequence[tuple[Benchmark, ModelUnderTest]], folder: ResultFolder | None, tell: RunCallbacks
) -> list[EvalResult]:
    results = []
    for benchmark, model in pairs:
        tell.on_start(benchmark, model)
        try:
            result, is_new = _result(plan, benchmark, model, folder, tell.on_progress)
        except (ConfigError, DataError) as error:
            if len(pairs) == 1:
                raise
            tell.on_failure(benchmark, model, error)
            continue
        results.append(result)
        tell.on_result(result, is_new)
    return results


def _result(
    plan: RunPlan, benchmark: Benchmark, model: ModelUnderTest, folder: ResultFolder | None, on_progress: OnProgress
) -> tuple[EvalResult, bool]:
    """A result, and whether it was measured now."""
    settings = run_settings(plan, benchmark, model)
    known = None if folder is None else folder.find(benchmark.name, model.name, settings)
    if known is not None:
        return known, False
    started = time.monotonic()
    measured = _measure(plan, benchmark, model, on_progress)
    result = make_result(benchmark, model.name, measured, settings, time.monotonic() - started)
    return (result if folder is None else folder.add(result, measured.items)), True


def run_settings(plan: RunPlan, benchmark: Benchmark, model: ModelUnderTest) -> dict[str, Any]:
    """Everything that decides the numbers and is known before the run."""
    runner = runner_for(benchmark)
    options = build_options(runner, benchmark, plan.options)
    known = {item.name for item in dataclasses.fields(runner.options)}
    return {
        "benchmark": benchmark.name,
        "task": benchmark.task,
        "split": benchmark.split,
        "options": dataclasses.asdict(options),
        "set": {key: value for key, value in plan.options.items() if key in known},
        **plan.common.settings(),
        "model": model.source,
        "weights": model.fingerprint,
        "model_files": files_state(Path(model.source)),
        "device": model.device,
        "dtype": model.dtype,
        "data": None if plan.data is None else str(plan.data),
        "data_files": None if plan.data is None else files_state(plan.data),
        "versions": versions(),
    }


def files_state(path: Path) -> str | None:
    """A hash of the names, sizes and times of the files at a path; None where there is none (a name, a pattern)."""
    if not path.exists():
        return None
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())[:_MAX_FILES]
    states = ((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    return hashlib.sha256(repr(list(states)).encode()).hexdigest()[:32]


def _measure(plan: RunPlan, benchmark: Benchmark, model: ModelUnderTest, on_progress: OnProgress) -> Measured:
    runner = runner_for(benchmark)
    cache = plan.features or plan.common.cache or (None if plan.out is None else plan.out / FEATURES)
    request: Request[Any] = Request(
        benchmark=benchmark,
        model=model,
        options=build_options(runner, benchmark, plan.options),
        data=plan.data,
        common=dataclasses.replace(plan.common, cache=cache),
        on_progress=on_progress,
    )
    return runner.run(request)


def suited(benchmark: Benchmark, models: Sequence[ModelUnderTest]) -> list[ModelUnderTest]:
    """The models that a benchmark can measure: language models answer, encoders embed."""
    return [model for model in models if model.is_language_model == (benchmark.task in PLM_TASKS)]


def _pairs(plan: RunPlan, tell: RunCallbacks) -> list[tuple[Benchmark, ModelUnderTest]]:
    pairs = [(benchmark, model) for benchmark in plan.benchmarks for model in suited(benchmark, plan.models)]
    left_out = [benchmark for benchmark in plan.benchmarks if not suited(benchmark, plan.models)]
    if not pairs:
        kind = "a language model, for example Perception-LM-1B" if left_out[0].task in PLM_TASKS else "an encoder"
        named = ", ".join(model.name for model in plan.models)
        raise ConfigError(f"{left_out[0].name} measures {kind}; given: {named or 'no model'}")
    if left_out:
        tell.on_left_out(left_out)
    return pairs
