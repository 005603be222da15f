"""`perceptic show`: draw what a model sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from perceptic.cli._shared import json_option, model_options, print_json


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="PNG to write. Default: <name of PATH>-features.png in the current folder.",
)
@click.option("--point", metavar="X,Y", help="Likeness to the patch at this point, in pixels or as fractions 0..1.")
@click.option("--text", help="Likeness to a text (PE-Core models).")
@click.option(
    "--layer", type=int, default=-1, show_default=True, help="Whose features: 0 is the first block, -1 the last."
)
@click.option(
    "--size", type=click.IntRange(min=1), help="Side in pixels at which the model sees it. Default: the model's own."
)
@click.option(
    "--colours",
    type=click.Choice(["lch", "rgb"]),
    default="lch",
    show_default=True,
    help="How the three principal components become colours.",
)
@model_options
@json_option
def command(path: Path, output: Path | None, point: str | None, as_json: bool, **options: Any) -> None:
    """Draw the features of an image, or of a video's middle frame, beside it.

    Without --point or --text: the three principal components of the patch features as colours.
    """
    from perceptic.tasks.show import show

    target = output or Path(f"{path.stem}-features.png")
    shown = show(path, target, point=None if point is None else _parse_point(point), **options)
    rows, columns = shown.values.shape[:2]
    low, high = float(shown.values.min()), float(shown.values.max())
    if as_json:
        found = {
            "output": str(target),
            "map": shown.map_kind,
            "rows": rows,
            "columns": columns,
            "low": low,
            "high": high,
        }
        print_json(found)
        return
    scale = "" if shown.map_kind == "components" else f", cosine {low:.3f} (dark) to {high:.3f} (light)"
    click.echo(f"{target}: {rows} x {columns} patches{scale}")


def _parse_point(text: str) -> tuple[float, float]:
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError as error:
        raise click.BadParameter(
            f"{text!r} is not two numbers with a comma between them", param_hint="--point"
        ) from error
    return x, y
