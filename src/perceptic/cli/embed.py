"""`perceptic embed`: images and videos into a file of vectors."""

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
@click.argument("paths", nargs=-1, required=True)
@click.option(
    "-o", "--output", required=True, help="Where to write: .parquet (any size), .npz, or .npy with a .json beside it."
)
@click.option("--restart", is_flag=True, help="Begin anew instead of continuing what is there.")
@click.option(
    "--save-every-seconds",
    type=click.FloatRange(min=0),
    default=5.0,
    show_default=True,
    help="How much work may be lost when the process dies.",
)
@media_options
@model_options
@json_option
def command(paths: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Embed images and videos: files, folders, globs; `-` reads one path per line from standard input.

    A file that cannot be read becomes a row with the reason and does not change the exit status. Stopped in any way,
    the same command continues; files already embedded and unchanged are skipped.
    """
    from perceptic.tasks.embed import embed_to_file

    with progress_bar("Embedding") as on_progress:
        summary = embed_to_file(read_paths(paths), on_progress=on_progress, **options)
    if as_json:
        print_json(summary)
        return
    click.echo(
        f"{summary.output}: {summary.embedded} embedded ({summary.embedding_size} numbers each), "
        f"{summary.skipped} already there, {summary.failed} failed, {summary.seconds:.1f} s"
    )
    print_failures(summary.failures)
