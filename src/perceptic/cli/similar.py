"""`perceptic similar`: rank media by likeness."""

from __future__ import annotations

from typing import Any

import click

from perceptic.cli._shared import (
    json_option,
    media_options,
    model_options,
    print_failures,
    print_json,
    progress_bar,
    read_paths,
)


@click.command()
@click.argument("query")
@click.argument("paths", nargs=-1, required=True)
@click.option(
    "--query-kind",
    type=click.Choice(["auto", "text", "media"]),
    default="auto",
    show_default=True,
    help="What QUERY is; auto takes existing files and names that end like media as media.",
)
@click.option("--top-k", type=click.IntRange(min=1), default=10, show_default=True, help="How many matches to show.")
@media_options
@model_options
@json_option
def command(query: str, paths: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Rank images and videos by likeness to QUERY: a text, an image or a video.

    PATHS are files, folders and globs, or one file that `perceptic embed` wrote, which makes this instant.
    """
    from perceptic.tasks.similar import similar

    with progress_bar("Embedding") as on_progress:
        ranking = similar(query, read_paths(paths), on_progress=on_progress, **options)
    if as_json:
        print_json(ranking)
        return
    for match in ranking.matches:
        click.echo(f"{match.similarity:7.4f}  {match.path}")
    if ranking.failures:
        click.echo(f"{len(ranking.failures)} files could not be read:", err=True)
        print_failures(ranking.failures)
