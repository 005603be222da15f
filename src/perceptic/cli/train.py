"""`perceptic train`: run a recipe."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from perceptic.cli._shared import json_option, print_json
from perceptic.cli._train_estimate import print_estimate
from perceptic.cli._train_progress import TrainProgress
from perceptic.errors import EXIT_INTERRUPTED

if TYPE_CHECKING:
    from perceptic.train.recipe import AnyRecipe


def default_cache() -> Path:
    """Where decoded training data is kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "perceptic" / "data"


@click.command()
@click.argument("recipe")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change a key, for example --set seed=1.")
@click.option("--out", type=click.Path(path_type=Path), help="Run folder. [default: runs/NAME]")
@click.option("--cache", type=click.Path(path_type=Path), help="Decoded data. [default: ~/.cache/perceptic/data]")
@click.option("--resume/--fresh", default=True, show_default=True, help="Go on with the run in --out, or start anew.")
@click.option("--workers", type=click.IntRange(min=1), default=min(4, os.cpu_count() or 1), show_default=True,
              help="Processes that make data ready before training.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say what the run takes and stop.")
@click.option("--processes", type=click.IntRange(min=1), default=1, show_default=True,
              help="Processes to start on this machine, each with its share of the cores (several GPUs or machines: "
              "torchrun). With --dry-run: of how many the memory of each device is asked for.")  # fmt: skip
@json_option
def command(
    recipe: str,
    changes: tuple[str, ...],
    out: Path | None,
    cache: Path | None,
    resume: bool,
    workers: int,
    dry_run: bool,
    processes: int,
    as_json: bool,
) -> int:
    """Train a model from RECIPE: the name of a packaged recipe (nano-core, plm-nano) or a YAML file.

    The run folder gets metrics.jsonl, checkpoints and, at the end, the model. A run that was interrupted (Ctrl-C,
    SIGTERM, power) goes on where its newest checkpoint is when the same command is given again.
    """
    from perceptic.train.recipe import load_recipe

    loaded = load_recipe(recipe, changes)
    if dry_run:
        print_estimate(loaded, processes, as_json)
        return 0
    folder, cache = out or Path("runs") / loaded.name, cache or default_cache()
    if processes > 1:
        return train_together(
            recipe, changes, folder, cache, processes, workers=workers, fresh=not resume, as_json=as_json
        )
    return _train(loaded, folder, cache, not resume, workers, as_json)


def train_together(
    recipe: str,
    changes: tuple[str, ...],
    out: Path,
    cache: Path,
    processes: int,
    *,
    workers: int,
    fresh: bool = False,
    as_json: bool = False,
) -> int:
    """`perceptic train` in several processes of this machine; returns the exit status."""
    from perceptic.train.launch import run_together

    settings = [argument for change in changes for argument in ("--set", change)]
    flags = [*(["--fresh"] if fresh else []), *(["--json"] if as_json else [])]
    folders = ["--out", str(out), "--cache", str(cache), "--workers", str(workers)]
    return run_together([sys.executable, "-m", "perceptic", "train", recipe, *settings, *folders, *flags], processes)


def _train(recipe: AnyRecipe, out: Path, cache: Path, fresh: bool, workers: int, as_json: bool) -> int:
    from perceptic.train.parallel import find_place
    from perceptic.train.runs import train

    place = find_place(os.environ)
    if place is not None and place.rank:  # the first process speaks for all
        result = train(recipe, out, cache, fresh=fresh, workers=workers)
        return 0 if result.model_folder is not None else EXIT_INTERRUPTED
    with TrainProgress(recipe) as progress:
        result = train(recipe, out, cache, fresh=fresh, workers=workers, callbacks=progress.callbacks())
    for warning in result.warnings:
        click.echo(f"Warning: {warning}", err=True)
    if as_json:
        print_json({**asdict(result), "model_folder": result.model_folder and str(result.model_folder)})
    elif result.model_folder is not None:
        click.echo(f"{result.model_folder}: finished after {recipe.num_steps} steps; metrics in {out}/metrics.jsonl")
    if result.model_folder is None:
        where = f"Stopped by {result.stopped_by} at step {result.next_step}, saved."
        click.echo(f"{where} The same command goes on from there.", err=True)
        return EXIT_INTERRUPTED
    return 0
