"""`perceptic reproduce`: train the bundled models anew and measure them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from perceptic.cli._measures import measure_rows, measure_table
from perceptic.cli._shared import json_option, print_json
from perceptic.cli._train_progress import TrainProgress
from perceptic.cli.train import default_cache, train_together
from perceptic.errors import EXIT_INTERRUPTED

if TYPE_CHECKING:
    from perceptic.train.reproduce import PlannedRun
    from perceptic.train.world_report import Measure


@click.command()
@click.argument("what", type=click.Choice(["nano"]))
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Runs of each model.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/reproduce"), show_default=True,
              help="Folder of the runs; the same command goes on there.")  # fmt: skip
@click.option("--cache", type=click.Path(path_type=Path), help="Decoded data. [default: ~/.cache/perceptic/data]")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE",
              help="Change a key of every recipe, for example --set threads=2.")  # fmt: skip
@click.option("--count", type=click.IntRange(min=10), default=1000, show_default=True, help="Scenes per measure.")
@click.option("--workers", type=click.IntRange(min=1), default=min(4, os.cpu_count() or 1), show_default=True,
              help="Processes that make data ready before training.")  # fmt: skip
@click.option("--processes", type=click.IntRange(min=1), default=1, show_default=True,
              help="Processes that train together on this machine, each with its share of the cores.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say what would run and how long it takes, and stop.")
@json_option
def command(
    what: str,
    seeds: int,
    out: Path,
    cache: Path | None,
    changes: tuple[str, ...],
    count: int,
    workers: int,
    processes: int,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Train the bundled models (WHAT is `nano`) from nothing and print the tables of the README.

    Takes hours (see --dry-run). Whatever interrupts it, the same command goes on where it was.
    """
    from perceptic.train.reproduce import plan_runs

    runs = plan_runs(out, seeds, changes)
    if dry_run:
        return _dry_run(runs, as_json)
    for run in runs:
        click.echo(f"{run.model.name}, seed {run.seed}: {run.out}", err=True)
        if status := _train(run, cache or default_cache(), workers, processes):
            return status
    _print_reports(runs, count, as_json)
    return 0


def _train(run: PlannedRun, cache: Path, workers: int, processes: int) -> int:
    """Exit status: 0 once the model is there."""
    from perceptic.train.reproduce import train_run

    if processes > 1:
        return train_together(run.model.recipe, run.changes, run.out, cache, processes, workers=workers)
    with TrainProgress(run.recipe) as progress:
        result = train_run(run, cache, workers=workers, callbacks=progress.callbacks())
    if result.model_folder is None:
        click.echo(f"Stopped at step {result.next_step}, saved. The same command goes on from there.", err=True)
        return EXIT_INTERRUPTED
    return 0


def _dry_run(runs: tuple[PlannedRun, ...], as_json: bool) -> int:
    rows = [
        {
            "model": run.model.name,
            "recipe": run.model.recipe,
            "seed": run.seed,
            "out": str(run.out),
            "steps": run.recipe.num_steps,
            "core_minutes": run.model.core_minutes,
        }
        for run in runs
    ]
    total = sum(run.model.core_minutes for run in runs)
    if as_json:
        print_json({"runs": rows, "core_minutes": total})
        return 0
    for row in rows:
        click.echo(
            f"{row['model']:<14} seed {row['seed']}: {row['recipe']}, {row['steps']:,} steps, "
            f"about {row['core_minutes']} minutes of one core, in {row['out']}"
        )
    click.echo(f"together about {total} minutes of one core with fast bfloat16 (AMX, AVX-512), several times that else")
    return 0


def _print_reports(runs: tuple[PlannedRun, ...], count: int, as_json: bool) -> None:
    from perceptic.train.reproduce import measure_run

    results: dict[str, list[list[Measure]]] = {}
    for run in runs:
        click.echo(f"measuring {run.folder}", err=True)
        results.setdefault(run.model.name, []).append(measure_run(run, count, seed=11))
    if as_json:
        print_json({name: measure_rows(measures) for name, measures in results.items()})
        return
    for name, measures in results.items():
        click.echo(f"\n{name}\n")
        for line in measure_table([f"seed {seed}" for seed in range(len(measures))], measures):
            click.echo(line)
