"""`perceptic models`: the zoo as a table."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

import click

from perceptic import zoo
from perceptic.cli._shared import json_option, print_json
from perceptic.zoo import ModelCard

State = Literal["bundled", "missing", "cached", "download"]


@dataclass(frozen=True)
class Row:
    """One line of the table. `cached` names the formats that are in the hub cache of this machine."""

    name: str
    parameters: int
    image_size: int
    has_text: bool
    licence: str
    where: str
    state: State
    cached: list[str]
    summary: str


@click.command()
@json_option
def command(as_json: bool) -> None:
    """List the models: size, licence, where the weights are, and what each is for."""
    rows = [_row(card) for card in zoo.cards()]
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        _print_table(rows)


def _row(card: ModelCard) -> Row:
    cached = _cached_formats(card)
    state: State = "cached" if cached else "download"
    if card.folder is not None:
        state = "bundled" if (card.folder / "model.safetensors").is_file() else "missing"
    return Row(
        name=card.name,
        parameters=card.parameters,
        image_size=card.image_size,
        has_text=card.is_clip,
        licence=card.licence,
        where="in this package" if card.original is None else card.original.repo_id,
        state=state,
        cached=cached,
        summary=card.summary,
    )


def _cached_formats(card: ModelCard) -> list[str]:
    from perceptic.weights.hub import is_cached

    files = {"original": card.original, "timm": card.timm, "open_clip": card.open_clip}
    return [name for name, file in files.items() if file is not None and is_cached(file)]


def _print_table(rows: list[Row]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    table.add_column("name", no_wrap=True)
    table.add_column("parameters", justify="right")
    table.add_column("image", justify="right")
    table.add_column("text")
    table.add_column("licence")
    table.add_column("weights")
    for row in rows:
        state = f"cached ({', '.join(row.cached)})" if row.cached else row.state
        size = f"{row.parameters / 1e6:,.1f} M"
        table.add_row(row.name, size, f"{row.image_size} px", "yes" if row.has_text else "no", row.licence, state)
    console = Console(highlight=False)
    console.print(table)
    console.print(
        "\nCore models embed images, videos and texts; Lang and Spatial give patch features. Released weights are on "
        "the hub as facebook/<name>. The bundled PE-Core-Nano works offline and knows only the synthetic world."
    )
