"""`perceptic convert`: a checkpoint in another format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from perceptic.cli._shared import json_option, print_json

if TYPE_CHECKING:
    from perceptic.weights.convert import Conversion
    from perceptic.weights.formats import FormatName
    from perceptic.weights.plm_convert import PLMConversion
    from perceptic.weights.plm_folder import PLMFormat

FORMATS = ("timm", "open_clip", "original", "perceptic", "huggingface")
PLM_FORMATS = ("perceptic", "original", "huggingface")


@click.command()
@click.argument("source")
@click.argument("destination", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "target",
    type=click.Choice(FORMATS),
    help="The format to write. huggingface is for PerceptionLM; with --weights, perceptic needs no saying.",
)
@click.option(
    "--weights",
    type=click.Choice(["int8", "int4"]),
    help="Store the decoder of a PerceptionLM in 8 or 4 bits (docs/quantization.md).",
)
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
    target: str | None,
    weights: str | None,
    dtype: str | None,
    name: str | None,
    config_file: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write SOURCE in another format at DESTINATION.

    SOURCE is a zoo name, a hub repository, a folder or a file, in any of the formats. DESTINATION is a .pt file for
    `original` and a folder for the others; for a PerceptionLM it is always a folder. What was written is read back and
    compared bit by bit.
    """
    from perceptic.weights.plm_convert import is_plm_source

    if destination.exists() and not force:
        raise click.UsageError(f"{destination} exists; choose another name, or replace it with --force")
    is_plm = weights is not None or target == "huggingface" or is_plm_source(source)
    target = target or ("perceptic" if weights else None)
    if target is None:
        raise click.UsageError("missing option '--to': the format to write")
    done: Conversion | PLMConversion
    if is_plm:
        done = _convert_plm(source, destination, target, weights, dtype, force, name or config_file)
    else:
        from perceptic.weights.convert import convert

        config = _read_config(name, config_file)
        done = convert(source, destination, cast("FormatName", target), dtype=dtype, config=config, force=force)
    if as_json:
        print_json({**vars(done), "destination": str(done.destination)})
    else:
        _print_summary(done)


def _convert_plm(
    source: str,
    destination: Path,
    target: str,
    weights: str | None,
    dtype: str | None,
    force: bool,
    architecture: object,
) -> PLMConversion:
    from perceptic.weights.plm_convert import convert_plm

    if target not in PLM_FORMATS:
        raise click.UsageError(f"a PerceptionLM cannot be written as {target}; choose {', '.join(PLM_FORMATS)}")
    if architecture:
        raise click.UsageError("a PerceptionLM's folder says its own architecture: leave out --name and --config")
    return convert_plm(source, destination, cast("PLMFormat", target), weights=weights, dtype=dtype, force=force)


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


def _print_summary(done: Conversion | PLMConversion) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, box=None)
    table.add_row("from", f"{done.source} ({done.source_format})")
    table.add_row("to", f"{done.destination} ({done.target_format})")
    for row in _facts(done):
        table.add_row(*row)
    table.add_row("size", f"{done.num_bytes / 1e6:,.1f} MB, read back and compared: identical")
    for note in getattr(done, "notes", ()):
        table.add_row("note", note)
    Console(soft_wrap=True, highlight=False).print(table)


def _facts(done: Conversion | PLMConversion) -> list[tuple[str, str]]:
    from perceptic.weights.plm_convert import PLMConversion

    if isinstance(done, PLMConversion):
        return [("weights", f"{done.num_tensors} tensors, decoder in {done.weights}")]
    return [
        ("architecture", done.architecture or "none of the zoo"),
        ("towers", " and ".join(done.towers)),
        ("weights", f"{done.num_tensors} tensors, {done.parameters:,} parameters, {done.dtype}"),
    ]
