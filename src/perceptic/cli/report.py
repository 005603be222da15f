"""`perceptic report`: what models know of the synthetic world."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from perceptic.cli._measures import measure_rows, measure_table
from perceptic.cli._shared import json_option, print_json

if TYPE_CHECKING:
    from perceptic.tasks.world_exam import ExamScore
    from perceptic.train.world_report import Measure

_ENCODER_COUNT = 1000
_LANGUAGE_MODEL_COUNT = 100


@click.command()
@click.argument("models", nargs=-1, required=True)
@click.option(
    "--count",
    type=click.IntRange(min=10),
    help=f"Scenes per measure. [default: {_ENCODER_COUNT}; questions of a language model: {_LANGUAGE_MODEL_COUNT}]",
)
@click.option("--seed", type=click.IntRange(min=0), default=11, show_default=True, help="Which held-out scenes.")
@click.option(
    "--page",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Of one language model: write its mistakes, with pictures, as an HTML page.",
)
@json_option
def command(models: tuple[str, ...], count: int | None, seed: int, page: Path | None, as_json: bool) -> None:
    """Measure MODELS (names or folders) on held-out scenes of the synthetic world; several are runs of one recipe.

    Of an encoder: zero-shot labels on seen and unseen colour-shape pairs, retrieval, clips and out-of-distribution
    pictures. Of a language model: its answers to questions about pictures and clips, descriptions of boxes and times of
    events, and a control in which every question is asked about another picture. Each is beside the value of guessing
    and, where one was set, the aim.
    """
    if page is not None and len(models) > 1:
        raise click.UsageError("--page shows the mistakes of one model; name one")
    results = []
    for name in models:
        click.echo(f"measuring {name}", err=True)
        results.append(_measures(name, count, seed, page))
    if len({len(measures) for measures in results}) > 1:
        raise click.UsageError("encoders and language models have other measures; report them one by one")
    if as_json:
        print_json({"models": list(models), "measures": measure_rows(results)})
        return
    for line in measure_table(models, results):
        click.echo(line)


def _measures(name: str, count: int | None, seed: int, page: Path | None) -> list[Measure]:
    from perceptic.evaluate.request import ModelUnderTest

    if ModelUnderTest(name).is_language_model:
        return _language_model(name, count or _LANGUAGE_MODEL_COUNT, seed, page)
    if page is not None:
        raise click.UsageError(f"--page shows answers, and {name} is an encoder: it gives none")
    from perceptic.train.world_report import load_clip, report

    return report(*load_clip(name), count=count or _ENCODER_COUNT, seed=seed)


def _language_model(name: str, count: int, seed: int, page: Path | None) -> list[Measure]:
    from perceptic.files import write_text
    from perceptic.train.plm_nano_page import mistakes_page
    from perceptic.train.plm_nano_report import plm_report

    def tell(score: ExamScore) -> None:
        click.echo(f"  {score.section}: {score.mean:.1%}", err=True)

    found = plm_report(name, count=count, seed=seed, on_section=tell)
    if page is not None:
        write_text(page, mistakes_page(Path(name).name, found))
    return found.measures
