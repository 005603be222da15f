"""`perceptic caption`: folders of images and videos into a file of captions."""

from __future__ import annotations

from typing import Any

import click

from perceptic.cli._plm_options import (
    generation_options,
    plm_options,
    seeing_options,
    take_assistant,
    take_generation,
    take_seeing,
)
from perceptic.cli._shared import json_option, print_failures, print_json, progress_bar, read_paths


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("-o", "--output", required=True, metavar="FILE", help="Where to write: .jsonl, one row per file.")
@click.option("--prompt", metavar="TEXT", help="Asked of every file instead of the prompts that the models know.")
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Files that are captioned together; more is faster until memory ends.",
)
@click.option("--restart", is_flag=True, help="Begin anew instead of continuing what is there.")
@seeing_options
@generation_options()
@plm_options
@json_option
def command(paths: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Caption images and videos: files, folders, globs; `-` reads one path per line from standard input.

    A file that cannot be read becomes a row with the reason and does not change the exit status. Stopped in any way,
    the same command continues; files already captioned and unchanged are skipped.
    """
    from perceptic.tasks.caption import caption_to_file

    seeing, generation = take_seeing(options), take_generation(options)
    assistant = take_assistant(options)
    with progress_bar("Captioning") as on_progress:
        summary = caption_to_file(
            read_paths(paths), model=assistant, seeing=seeing, options=generation, on_progress=on_progress, **options
        )
    if as_json:
        print_json(summary)
        return
    click.echo(
        f"{summary.output}: {summary.captioned} captioned, {summary.skipped} already there, {summary.failed} failed, "
        f"{summary.seconds:.1f} s"
    )
    print_failures(summary.failures)
