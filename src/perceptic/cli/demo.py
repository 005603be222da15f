"""`perceptic demo`: the main job on one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from perceptic.cli._shared import json_option, model_options, print_json, progress_bar

if TYPE_CHECKING:
    from perceptic.tasks.demo import DemoSummary


@click.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo-out"),
    show_default=True,
    help="Folder for the page, index.html, and the synthetic collection.",
)
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Your images and videos. Default: a small synthetic collection.",
)
@click.option("--query", "queries", multiple=True, help="A text to search for in your folder; give several.")
@click.option("--labels", help="Labels for your folder, with commas between them.")
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed, another synthetic collection.")
@model_options
@json_option
def command(out: Path, labels: str | None, as_json: bool, **options: Any) -> None:
    """Embed a collection, search it, label it, look inside, and write one self-contained HTML page.

    Runs offline with the bundled small model, which knows only its synthetic world.
    """
    from perceptic.tasks.demo import demo

    chosen = [label.strip() for label in (labels or "").split(",") if label.strip()]
    with progress_bar("Embedding") as on_progress:
        summary = demo(out, labels=chosen, on_progress=on_progress, **options)
    if as_json:
        print_json(summary)
    else:
        _print_summary(summary)


def _print_summary(summary: DemoSummary) -> None:
    from perceptic.tasks.demo_page import RELEASED_LINE

    click.echo(f"{summary.page}: {summary.files} files at {summary.files_per_second:.0f} a second with {summary.model}")
    if summary.queries_right is not None:
        click.echo(f"  {summary.queries_right:.0%} of the answers found over six text queries")
    for attribute, share in (summary.labels_right or {}).items():
        unseen = (summary.labels_right_unseen or {})[attribute]
        click.echo(f"  {attribute}: {share:.0%} labelled rightly, {unseen:.0%} on unseen colour-shape pairs")
    if summary.model == "PE-Core-Nano":
        click.echo("This model knows only its synthetic world. With a released model, on photographs:")
        click.echo(f"  {RELEASED_LINE}")
