"""`perceptic report`: what models know of the synthetic world."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from perceptic.cli._measures import measure_rows, measure_table
from perceptic.cli._shared import json_option, print_json

if TYPE_CHECKING:
    from perceptic.train.world_report import Measure


@click.command()
@click.argument("models", nargs=-1, required=True)
@click.option("--count", type=click.IntRange(min=10), default=1000, show_default=True, help="Scenes per measure.")
@click.option("--seed", type=click.IntRange(min=0), default=11, show_default=True, help="Which held-out scenes.")
@json_option
def command(models: tuple[str, ...], count: int, seed: int, as_json: bool) -> None:
    """Measure MODELS (names or folders) on held-out scenes of the synthetic world; several are runs of one recipe.

    Zero-shot labels on seen and unseen colour-shape pairs, retrieval, clips and out-of-distribution pictures, each
    beside the value of guessing and, where one was set, the aim.
    """
    from perceptic.train.world_report import load_clip, report

    results: list[list[Measure]] = []
    for name in models:
        click.echo(f"measuring {name}", err=True)
        results.append(report(*load_clip(name), count=count, seed=seed))
    if as_json:
        print_json({"models": list(models), "measures": measure_rows(results)})
        return
    for line in measure_table(models, results):
        click.echo(line)
