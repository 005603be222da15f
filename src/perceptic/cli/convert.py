"""`perceptic convert`: a checkpoint in another format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from perceptic.cli._shared import json_option, print_json

if TYPE_CHECKING:
    from perceptic.weights.convert import Conversion

FORMATS = ("timm", "open_clip", "original", "perceptic")


@click.command()
@click.argument("source")
@click.argument("destination", type=click.Path(path_type=Path))
@click.option("--to", "target", required=True, type=click.Choice(FORMATS), help="The format to write.")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    help="Stored type. Default: as in the source; float32 for original, as it was released.",
)
@click.option("--name", help="Zoo name of the architecture, where the file does not say it.")
@click.option(
    "--config",
    "config_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON file with the architecture's fields, where it is none of the zoo.",
)
@click.option("--force", is_flag=True, help="Replace what is at DESTINATION.")
@json_option
def command(
    source: str,
    destination: Path,
    target: Any,
    dtype: str | None,
    name: str | None,
    config_file: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write SOURCE in another format at DESTINATION.

    SOURCE is a zoo name, a hub repository, a folder or a file, in any of the formats. DESTINATION is a .pt file for
    `original` and a folder for the others. What was written is read back and compared bit by bit.
    """
    from perceptic.weights.convert import convert

    if destination.exists() and not force:
        raise click.UsageError(f"{destination} exists; choose another name, or replace it with --force")
    config = _read_config(name, config_file)
    done = convert(source, destination, target, dtype=dtype, config=config, force=force)
    if as_json:
        print_json({**vars(done), "destination": str(done.destination)})
    else:
        _print_summary(done)


def _read_config(name: str | None, config_file: Path | None) -> Any:
    if name and config_file:
        raise click.UsageError("give --name or --config, not both")
    if name:
        from perceptic.zoo import find_card

        return find_card(name).config
    if config_file:
        from perceptic.weights.folder import read_json

        return read_json(config_file)
    return None


def _print_summary(done: Conversion) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, box=None)
    table.add_row("from", f"{done.source} ({done.source_format})")
    table.add_row("to", f"{done.destination} ({done.target_format})")
    table.add_row("architecture", done.architecture or "none of the zoo")
    table.add_row("towers", " and ".join(done.towers))
    table.add_row("weights", f"{done.num_tensors} tensors, {done.parameters:,} parameters, {done.dtype}")
    table.add_row("size", f"{done.num_bytes / 1e6:,.1f} MB, read back and compared: identical")
    for note in done.notes:
        table.add_row("note", note)
    Console(soft_wrap=True, highlight=False).print(table)
