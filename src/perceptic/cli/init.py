"""`perceptic init`: a model folder with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from perceptic.cli._shared import json_option, print_json


@click.command()
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the random weights.")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default="float32",
    show_default=True,
    help="Stored type.",
)
@click.option(
    "--tokenizer",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="tokenizer.model or tokenizer.json to put beside the weights. Needed for language models but PLM-Nano.",
)
@click.option("--force", is_flag=True, help="Replace the model folder at DIR.")
@json_option
def command(name: str, folder: Path, force: bool, as_json: bool, **options: Any) -> None:
    """Write a model folder of architecture NAME with RANDOM weights.

    For trying commands offline, for tests, and as a beginning for training. Nothing has been learned by such a model:
    its embeddings and answers are noise. NAME is any model of the zoo, such as PLM-Nano or PE-Core-B16-224.
    """
    from perceptic.tasks.fresh_model import write_fresh_model

    if folder.exists() and not force and not (folder.is_dir() and not any(folder.iterdir())):
        raise click.UsageError(f"{folder} exists; choose another name, or replace it with --force")
    done = write_fresh_model(name, folder, **options)
    if as_json:
        print_json({**vars(done), "folder": str(done.folder), "weights": "random"})
        return
    click.echo(
        f"{done.folder}: {done.name}, {done.parameters:,} parameters in {done.dtype}, {done.num_bytes / 1e6:,.1f} MB"
    )
    click.secho(
        "The weights are RANDOM: nothing has been learned, and whatever this model says is noise.", bold=True, err=True
    )
