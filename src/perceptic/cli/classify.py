"""`perceptic classify`: zero-shot labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from perceptic.cli._shared import json_option, media_options, model_options, print_json, progress_bar, read_paths
from perceptic.errors import ConfigError

if TYPE_CHECKING:
    from perceptic.tasks.classify import Classification


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--labels", help="Labels with commas between them: 'a dog,a cat'.")
@click.option(
    "--labels-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A text file, one label per line.",
)
@click.option(
    "--template",
    "templates",
    multiple=True,
    help="A sentence with {} where the label goes; give several to average over them.",
)
@click.option("--top-k", type=click.IntRange(min=1), default=5, show_default=True, help="Labels shown per file.")
@media_options
@model_options
@json_option
def command(
    paths: tuple[str, ...],
    labels: str | None,
    labels_file: Path | None,
    templates: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Label images and videos with words of your own.

    The exit status is 1 if not one file could be read.
    """
    from perceptic.tasks.classify import classify
    from perceptic.tasks.zero_shot import DEFAULT_TEMPLATES

    chosen = _labels(labels, labels_file)
    with progress_bar("Classifying") as on_progress:
        results = classify(
            read_paths(paths), chosen, templates=templates or DEFAULT_TEMPLATES, on_progress=on_progress, **options
        )
    if as_json:
        print_json({"model": options["model"], "results": results})
    else:
        for result in results:
            _print_result(result)
    if all(result.error is not None for result in results):
        click.get_current_context().exit(1)


def _print_result(result: Classification) -> None:
    if result.error is not None:
        click.echo(f"{result.path}: {result.error}", err=True)
        return
    click.echo(result.path)
    for score in result.labels:
        click.echo(f"  {score.probability:7.2%}  {score.label}")


def _labels(labels: str | None, labels_file: Path | None) -> list[str]:
    if (labels is None) == (labels_file is None):
        raise click.UsageError("give either --labels or --labels-file")
    if labels is not None:
        return [label.strip() for label in labels.split(",") if label.strip()]
    assert labels_file is not None
    try:
        lines = labels_file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{labels_file}: cannot be read as text: {error}") from error
    return [line.strip() for line in lines if line.strip()]
