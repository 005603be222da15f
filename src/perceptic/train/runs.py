"""A run folder from beginning to end: `perceptic train` is this module's `train`.

A run folder holds `recipe.yaml` (as run), `tokenizer.json`, `metrics.jsonl`, `checkpoints/` and, in the end, `model/`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from perceptic.configs import Preprocessing
from perceptic.data.pool import Pool
from perceptic.errors import TrainError
from perceptic.files import write_text
from perceptic.tasks.file_lock import exclusive_lock
from perceptic.text.clip_tokenizer import ClipTokenizer
from perceptic.train.loop import Outcome, Trainer
from perceptic.train.metrics import StepMetrics
from perceptic.train.recipe import Recipe, parse_yaml
from perceptic.train.setup import DataProgress, learn_tokenizer, make_trainer, open_pools
from perceptic.weights.pretrained import CLIP as PretrainedCLIP

_MAY_CHANGE = frozenset({"threads", "checkpoint"})
"""Top-level keys that a resumed run may set anew. Another number of threads sums in another order: close, not equal."""


@dataclass(frozen=True)
class RunResult:
    """`model_folder` is None when the run was interrupted; then the same command goes on at `next_step`."""

    outcome: Outcome
    next_step: int
    model_folder: Path | None
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class RunCallbacks:
    """What a run tells its caller: data being made ready, the first step to run, every finished step."""

    on_data: DataProgress = lambda name, done, total: None
    on_start: Callable[[int], None] = lambda step: None
    on_step: Callable[[StepMetrics], None] = lambda metrics: None


def train(
    recipe: Recipe,
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
    """
    busy = f"{out}: another process is training there; wait for it, or choose another --out"
    with exclusive_lock(out / ".lock", busy):
        return _train(recipe, out, cache, fresh, workers, callbacks or RunCallbacks())


def _train(recipe: Recipe, out: Path, cache: Path, fresh: bool, workers: int, callbacks: RunCallbacks) -> RunResult:
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    _claim(recipe, out, fresh)
    pools = open_pools(recipe, cache, workers, callbacks.on_data)
    tokenizer = _tokenizer(recipe, out, pools, fresh)
    trainer = make_trainer(recipe, out, pools, tokenizer, callbacks.on_step)
    if fresh:
        trainer.checkpoints.clear()
    start, warnings = trainer.restore()
    callbacks.on_start(start)
    outcome = trainer.run(start)
    folder = _export(trainer, tokenizer, out / "model") if outcome == "finished" else None
    newest = trainer.checkpoints.newest().state
    return RunResult(outcome, newest.step if newest else 0, folder, warnings)


def recipe_values(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain YAML values."""
    plain = parse_yaml(yaml.safe_dump(_listed(dataclasses.asdict(recipe)), sort_keys=False), recipe.name)
    assert isinstance(plain, dict)
    return plain


def _claim(recipe: Recipe, out: Path, fresh: bool) -> None:
    """Write the recipe into the run folder, or make sure that the one there is the same."""
    path, wanted = out / "recipe.yaml", recipe_values(recipe)
    if path.exists() and not fresh:
        there = parse_yaml(path.read_text(encoding="utf-8"), str(path))
        changed = [key for key in wanted if there.get(key) != wanted[key] and key not in _MAY_CHANGE]
        if changed:
            raise TrainError(
                f"{out} holds a run with another recipe ({', '.join(changed)} differ); "
                "choose another --out, or --fresh to start anew there"
            )
    write_text(path, yaml.safe_dump(wanted, sort_keys=False))


def _tokenizer(recipe: Recipe, out: Path, pools: dict[str, Pool], fresh: bool) -> ClipTokenizer:
    path = out / "tokenizer.json"
    if fresh or not path.exists():
        learn_tokenizer(recipe, pools).save(path)
    return ClipTokenizer.from_file(path)


def _export(trainer: Trainer, tokenizer: ClipTokenizer, folder: Path) -> Path:
    """The finished model in the package's own format, bf16 weights."""
    model = PretrainedCLIP(trainer.model.config)
    model.load_state_dict(trainer.model.state_dict())
    preprocessing = Preprocessing(image_size=model.image_size)
    return model.to(torch.bfloat16).save_pretrained(folder, preprocessing=preprocessing, tokenizer=tokenizer)


def _listed(value: Any) -> Any:
    """Tuples as lists, which is all that YAML has."""
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, tuple | list) else value
