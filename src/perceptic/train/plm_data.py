"""Where a PLM recipe's rows are."""

from __future__ import annotations

from pathlib import Path

import yaml

from perceptic.errors import DataError
from perceptic.files import write_text
from perceptic.train.parts import RunContext
from perceptic.train.plm_recipe import PlmDataRecipe, PlmRecipe

ROWS = "rows"
"""What mixes call the data set of `data.rows`."""


def find_registry(recipe: PlmRecipe, context: RunContext) -> Path:
    """The recipe's `datasets.yaml`. For `rows` one is written into the run folder, the world's rows are exported into
    the cache where they are missing.

    Raises:
        DataError: rows that are not there.
    """
    data = recipe.data
    if data.registry is not None:
        return Path(data.registry).expanduser()
    if data.rows is not None:
        return _own_registry(data.rows, data.media, context.out)
    return _world_registry(data, context)


def _own_registry(rows: str, media: str | None, out: Path) -> Path:
    annotation = Path(rows).expanduser().resolve()
    if not annotation.exists():
        raise DataError(f"data.rows: {rows} is not there; give a JSONL file: --set data.rows=my.jsonl")
    root = annotation.parent if media is None else Path(media).expanduser().resolve()
    path = out / "datasets.yaml"
    entry = {"annotation": str(annotation), "root_dir": str(root)}
    write_text(path, yaml.safe_dump({ROWS: entry}, sort_keys=False))
    return path


def _world_registry(data: PlmDataRecipe, context: RunContext) -> Path:
    from perceptic.data.world_rows import world_registry

    assert data.world is not None  # one of them is there, `PlmDataRecipe` says

    def progress(done: int, total: int) -> None:
        context.on_data("world", done, total)

    return world_registry(
        context.cache,
        images=data.world.images,
        videos=data.world.videos,
        seed=data.world.seed,
        single_share=data.world.single_share,
        workers=context.workers,
        progress=progress,
    )
