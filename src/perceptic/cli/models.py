"""`perceptic models`: the zoo as a table."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

import click

from perceptic import zoo
from perceptic.cli._shared import json_option, print_json
from perceptic.zoo import ModelCard

if TYPE_CHECKING:
    from rich.table import Table

Kind = Literal["encoder", "language model"]
State = Literal["bundled", "missing", "cached", "download"]


@dataclass(frozen=True)
class Row:
    """One line of the table. `cached` names the formats that are in the hub cache of this machine."""

    name: str
    kind: Kind
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
    rows = [*(_row(card) for card in zoo.cards()), *_language_rows()]
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    from rich.console import Console

    console = Console(highlight=False)
    console.print(_table([row for row in rows if row.kind == "encoder"]))
    console.print(
        "\nCore models embed images, videos and texts; Lang and Spatial give patch features. Released weights are on "
        "the hub as facebook/<name>. The bundled PE-Core-Nano works offline and knows only the synthetic world.\n"
    )
    console.print(_table([row for row in rows if row.kind == "language model"]))
    console.print(
        "\nLanguage models answer questions about images and videos: perceptic ask, chat, describe, locate, caption. "
        "Released weights are on the hub as facebook/<name>, for research only (FAIR non-commercial). The bundled "
        "PLM-Nano works offline, knows only the synthetic world, and is often wrong there too."
    )


def _row(card: ModelCard) -> Row:
    cached = _cached_formats(card)
    state: State = "cached" if cached else "download"
    if card.folder is not None:
        state = "bundled" if (card.folder / "model.safetensors").is_file() else "missing"
    return Row(
        name=card.name,
        kind="encoder",
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


def _language_rows() -> list[Row]:
    from perceptic.configs_plm import PLM_CONFIGS
    from perceptic.weights.hub import is_cached
    from perceptic.weights.plm_card import PLM_CARDS, count_plm_parameters, has_nano_weights

    rows = []
    for name, config in PLM_CONFIGS.items():
        card = PLM_CARDS.get(name)
        is_here = card is not None and is_cached(card.config_file)
        state: State = "cached" if is_here else "download"
        if card is None:
            state = "bundled" if has_nano_weights() else "missing"
        rows.append(
            Row(
                name=name,
                kind="language model",
                parameters=count_plm_parameters(config),
                image_size=config.vision.image_size,
                has_text=True,
                licence="Apache-2.0" if card is None else card.licence,
                where="in this package" if card is None else card.repo_id,
                state=state,
                cached=["huggingface"] if is_here else [],
                summary="small; for trying commands offline" if card is None else "answers about images and videos",
            )
        )
    return rows


def _table(rows: list[Row]) -> Table:
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
        licence = row.licence.partition(" (")[0]
        table.add_row(row.name, size, f"{row.image_size} px", "yes" if row.has_text else "no", licence, state)
    return table
