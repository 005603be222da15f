"""Tar shards of captioned videos (PE-Video and the like) as files and training rows (datasets-and-benchmarks 1.1)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from perceptic.data.released_rows import Converted
from perceptic.data.samples import SampleError
from perceptic.data.skipped import SkippedSamples
from perceptic.data.tar_units import TarUnits
from perceptic.data.units import RawPair
from perceptic.errors import DataError
from perceptic.files import atomic_path, write_bytes


def unpack_shards(
    units: TarUnits, destination: Path, media: Path, on_shard: Callable[[int], None] = lambda done: None
) -> Converted:
    """Write every picture or video to `media/<shard>/<key>.<extension>` and its best caption to a row.

    The human caption is learned where there is one, else the model's. Files of the right size are kept, so that it can
    be run again after an interruption. Samples without a caption (the `extended` part) are counted.

    Args:
        destination: the JSONL file; media paths in it are relative to `media`.
        on_shard: called with the shards done so far.

    Raises:
        OutputError: a file cannot be written.
    """
    skipped, num_rows = SkippedSamples(limit=None), 0
    with atomic_path(destination) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for unit, shard in enumerate(units.shards):
            for place in units.scan(unit):
                try:
                    if isinstance(place, SampleError):
                        raise place
                    raw = units.read(unit, place.offset)
                    path = f"{shard.stem}/{_file_name(raw)}"
                except SampleError as error:
                    skipped.note(error)
                    continue
                _keep(media / path, raw)
                row = {"video" if raw.is_video else "image": path, "text": raw.captions[-1]}
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
                num_rows += 1
            on_shard(unit + 1)
    return Converted(num_rows, dict(skipped.counts), skipped.examples)


def _file_name(raw: RawPair) -> str:
    """The member's own name; a name that leads out of the folder is refused."""
    if ".." in raw.name.split("/") or raw.name.startswith("/"):
        raise SampleError(raw.where, "bad name", "it leads out of the folder")
    return raw.name


def _keep(path: Path, raw: RawPair) -> None:
    if not isinstance(raw.content, bytes):
        raise DataError(f"{raw.where}: is a file already")
    if not (path.is_file() and path.stat().st_size == len(raw.content)):
        write_bytes(path, raw.content)
