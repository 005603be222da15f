"""`perceptic layers`: what every layer's frozen features are worth, task by task."""

from __future__ import annotations

from pathlib import Path

import click

from perceptic.cli._shared import json_option, print_json


@click.command()
@click.option(
    "--model",
    default="PE-Core-Nano",
    show_default=True,
    metavar="MODEL",
    help="Zoo name (see `perceptic models`), hub repository, folder or file.",
)
@click.option(
    "--tasks",
    default="classification,retrieval,segmentation,depth,tracking",
    show_default=True,
    help="Any of these, with commas between.",
)
@click.option(
    "--data", default="world", show_default=True, help="world, or a folder of your own data (docs/layers.md says how)."
)
@click.option("--layers", "layers_text", metavar="N,N,...", help="Block numbers from 0. [default: all]")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder of the page, the numbers, the features."
)
@click.option("--limit", type=click.IntRange(min=4), help="At most so many items in each set.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of scenes, probes and controls."
)
@click.option(
    "--untrained/--no-untrained",
    default=True,
    show_default=True,
    help="Measure the same network with fresh weights too.",
)
@json_option
def command(
    model: str,
    tasks: str,
    data: str,
    layers_text: str | None,
    out: Path,
    limit: int | None,
    seed: int,
    untrained: bool,
    as_json: bool,
) -> None:
    """Probe every layer for classification, retrieval, segmentation, depth and tracking, and draw score over depth.

    Writes layers.html and layers.json to --out. Stopped in any way, the same command goes on where it was.
    """
    from perceptic.cli._stages import stage_bar
    from perceptic.evaluate.layers import SweepOptions, sweep_layers
    from perceptic.evaluate.layers_page import HEADINGS, summary_rows, sweep_values, write_sweep

    chosen = tuple(name.strip() for name in tasks.split(",") if name.strip())
    options = SweepOptions(model, chosen, _numbers(layers_text), data=data, limit=limit, seed=seed, untrained=untrained)
    with stage_bar() as on_progress:
        report = sweep_layers(options, out, on_progress)
    write_sweep(report, out)
    if as_json:
        print_json(sweep_values(report))
        return
    click.echo(f"| {' | '.join(HEADINGS)} |")
    click.echo("| --- " * len(HEADINGS) + "|")
    for row in summary_rows(report):
        click.echo(f"| {' | '.join(row)} |")
    click.echo(f"\n{out / 'layers.html'}: the figure; {out / 'layers.json'}: the numbers; {report.seconds:.0f} s")


def _numbers(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: whole numbers with commas between", param_hint="--layers") from error
