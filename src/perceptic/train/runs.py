"""A run folder from beginning to end: `perceptic train` is this module's `train`.

A run folder holds `recipe.yaml` (as run), `tokenizer.json`, `metrics.jsonl`, `checkpoints/` and, in the end, `model/`.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from perceptic.errors import ConfigError, TrainError
from perceptic.files import write_text
from perceptic.tasks.file_lock import exclusive_lock
from perceptic.train.checkpoint import Found
from perceptic.train.loop import Outcome, StopRequest, Trainer
from perceptic.train.metrics import StepMetrics
from perceptic.train.parallel import Processes, joined
from perceptic.train.parallel_model import whole_weights
from perceptic.train.parts import DataProgress, RunContext, Setup
from perceptic.train.plm_recipe import PlmRecipe
from perceptic.train.precision import precision_advice, settled
from perceptic.train.profiling import StepProfiler
from perceptic.train.recipe import AnyRecipe, build_recipe, parse_yaml
from perceptic.train.setup import prepare
from perceptic.train.sharded_checkpoint import open_checkpoints
from perceptic.train.sinks import ManySinks, make_sink

_RECIPE = "recipe.yaml"
_MAY_CHANGE = frozenset({"threads", "checkpoint", "device", "sinks", "profile", "parallel"})
"""Top-level keys that a resumed run may set anew. Another number of threads sums in another order: close, not equal."""


@dataclass(frozen=True)
class RunResult:
    """`model_folder` is None when the run was interrupted; then the same command goes on at `next_step`. `stopped_by`
    is the signal's name."""

    outcome: Outcome
    next_step: int
    model_folder: Path | None
    warnings: tuple[str, ...]
    stopped_by: str | None = None


@dataclass(frozen=True)
class RunCallbacks:
    """What a run tells its caller: data being made ready, the first step to run, every finished step, and before all
    that what the caller may want to change."""

    on_data: DataProgress = lambda name, done, total: None
    on_start: Callable[[int], None] = lambda step: None
    on_step: Callable[[StepMetrics], None] = lambda metrics: None
    on_advice: Callable[[str], None] = lambda advice: None


def train(
    recipe: AnyRecipe,
    out: Path,
    cache: Path,
    *,
    fresh: bool = False,
    workers: int = 1,
    callbacks: RunCallbacks | None = None,
) -> RunResult:
    """Run a recipe, or go on with the run that is in `out`.

    Args:
        recipe: what to train.
        out: the run folder. cache: where decoded data is kept between runs.
        fresh: forget what is in `out` instead of going on.
        workers: processes that make the data ready (before training only).

    Raises:
        TrainError: `out` holds a run of another recipe, no checkpoint can be read, or the loss is not finite.
        DataError: data that cannot be read.
        OutputError: nothing can be written to `out`, or another process trains there.
        ConfigError: the recipe cannot be carried out by these processes.
    """
    _check_teams(recipe)
    busy = f"{out}: another process is training there; wait for it, or choose another --out"
    with contextlib.ExitStack() as held:
        processes = held.enter_context(joined(recipe.device)).teamed(recipe.parallel.tensor)
        # One process reports for all.
        told = callbacks if callbacks is not None and processes.is_first else RunCallbacks()
        with processes.first_goes_ahead():
            if processes.is_first:
                held.enter_context(exclusive_lock(out / ".lock", busy))
            # The others find what the first has written there.
            there = None if fresh and processes.is_first else _values_there(out)
            recipe = settled(recipe, processes.device, there and there.get("precision"))
            if processes.is_first:
                _claim(recipe, out, there)
        if advice := precision_advice(recipe, processes.device):
            told.on_advice(advice)
        context = _context(recipe, out, cache, fresh, workers, told, processes)
        return _train(recipe, context, fresh, told.on_start)


def _check_teams(recipe: AnyRecipe) -> None:
    """Raises ConfigError where `parallel.tensor` cannot be had."""
    if recipe.parallel.tensor == 1:
        return
    if not isinstance(recipe, PlmRecipe):
        raise ConfigError("parallel.tensor: splits a language model's decoder, and this recipe trains none")
    for key, there in (("lora", recipe.lora is not None), ("compile", recipe.compile)):
        if there:
            raise ConfigError(f"parallel.tensor: goes without '{key}'; split with parallel.shard alone")


def _context(
    recipe: AnyRecipe,
    out: Path,
    cache: Path,
    fresh: bool,
    workers: int,
    callbacks: RunCallbacks,
    processes: Processes,
) -> RunContext:
    is_first = processes.is_first
    sink = make_sink(recipe.sinks, recipe.name, out, recipe_values(recipe)) if is_first else ManySinks([])
    return RunContext(
        out=out,
        cache=cache,
        processes=processes,
        checkpoints=open_checkpoints(out / "checkpoints", recipe.checkpoint.keep, processes),
        sink=sink,
        fresh=fresh and is_first,
        workers=workers,
        on_data=callbacks.on_data,
        on_step=callbacks.on_step,
        stop=StopRequest(),
        profiler=StepProfiler(recipe.profile, out) if recipe.profile is not None and is_first else None,
    )


def _train(recipe: AnyRecipe, context: RunContext, fresh: bool, on_start: Callable[[int], None]) -> RunResult:
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    with context.processes.first_goes_ahead():
        setup = prepare(recipe, context)
    if fresh:
        context.checkpoints.clear()
    found = context.checkpoints.newest()
    try:
        outcome, folder = _run_parts(setup, context, found, on_start)
    finally:
        context.sink.close()
    newest = context.checkpoints.newest().state
    return RunResult(outcome, newest.step if newest else 0, folder, found.warnings, _stopped_by(context))


def _stopped_by(context: RunContext) -> str | None:
    """The signal that any of the processes was sent."""
    name = None if context.stop.signal is None else context.stop.signal.name
    return next((found for found in context.processes.gather(name) if found is not None), None)


def _run_parts(
    setup: Setup, context: RunContext, found: Found, on_start: Callable[[int], None]
) -> tuple[Outcome, Path | None]:
    """Train part after part from a checkpoint on, and export the model of the last."""
    start = found.state.step if found.state else 0
    part = _part_of(setup, start)
    trainer = setup.trainer(part, None)
    try:
        if found.state is not None:
            trainer.restore(found.state)
        context.sink.resume_at(start)
        on_start(start)
        with context.stop.listening():
            outcome = trainer.run(start)
            while outcome == "finished" and part + 1 < len(setup.parts):
                part += 1
                trainer = _next_part(setup, part, trainer)
                outcome = trainer.run(start)
        folder = _export(setup, trainer, context) if outcome == "finished" else None
    finally:
        trainer.close()
    return outcome, folder


def _export(setup: Setup, trainer: Trainer[Any, Any], context: RunContext) -> Path:
    """Write the weights that the recipe asks for; the last step's are in its checkpoint by now."""
    chosen = trainer.recipe.export_weights
    if chosen == "average" and trainer.average is not None:
        trainer.average.copy_to(trainer.model)
    elif chosen == "best":
        trainer.load_best()
    folder = context.out / "model"
    weights = whole_weights(trainer.model)
    if context.processes.is_first:
        setup.export(trainer.model, weights, folder)
    context.processes.barrier()
    return folder


def _part_of(setup: Setup, start: int) -> int:
    """The part whose model a checkpoint after `start` steps holds: at a border, that of the part that ended there."""
    ends = [steps[-1].index + 1 for steps in setup.parts]
    return next((part for part, end in enumerate(ends) if start <= end), len(ends) - 1)


def _next_part(setup: Setup, part: int, before: Trainer[Any, Any]) -> Trainer[Any, Any]:
    before.close()
    trainer = setup.trainer(part, whole_weights(before.model, everywhere=True))
    trainer.samples = before.samples
    return trainer


def recipe_values(recipe: AnyRecipe) -> dict[str, Any]:
    """The recipe as plain YAML values."""
    plain = parse_yaml(yaml.safe_dump(_listed(dataclasses.asdict(recipe)), sort_keys=False), recipe.name)
    assert isinstance(plain, dict)
    return plain


def _claim(recipe: AnyRecipe, out: Path, there: dict[str, Any] | None) -> None:
    """Write the recipe into the run folder, or make sure that the one `there` is the same."""
    wanted = recipe_values(recipe)
    if there is not None:
        changed = [key for key in wanted if there.get(key) != wanted[key] and key not in _MAY_CHANGE]
        if changed:
            raise TrainError(
                f"{out} holds a run with another recipe ({', '.join(changed)} differ); "
                "choose another --out, or --fresh to start anew there"
            )
    write_text(out / _RECIPE, yaml.safe_dump(wanted, sort_keys=False))


def _values_there(out: Path) -> dict[str, Any] | None:
    """The values of the recipe in a run folder, with today's defaults for keys that it is too old to have; None where
    no run has begun."""
    path = out / _RECIPE
    if not path.exists():
        return None
    plain: dict[str, Any] = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    try:
        return recipe_values(build_recipe(plain))
    except ConfigError:  # another version's, or edited: what it does have is compared
        return plain


def _listed(value: Any) -> Any:
    """Tuples as lists, which is all that YAML has."""
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, tuple | list) else value
