"""Webdataset trees as CLIP_benchmark and PE-Video lay them out (datasets-and-benchmarks sections 1.1 and 3.1)."""

from __future__ import annotations

import io
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from perceptic.data.shards import ShardEntry, index_shard
from perceptic.data.units import IMAGE_EXTENSIONS, VIDEO_EXTENSIONS
from perceptic.errors import DataError
from perceptic.evaluate.data_types import CAPTION_FIELDS, LABEL_FIELDS, EvalData, EvalItem, as_captions, named_labels
from perceptic.evaluate.features import Medium
from perceptic.media.collection import MediaKind


def read_shards(folder: Path, shards: list[Path]) -> EvalData:
    """The samples of tar files: a picture or video with `.cls`, `.npy`, `.txt` or `.json` beside it.

    Raises:
        DataError: a missing or unreadable tar, a sample that is not of the layout.
    """
    promised = folder / "nshards.txt"
    if promised.exists():
        count = _count(promised)
        if len(shards) != count:
            raise DataError(f"{promised} promises {count} tar files, there are {len(shards)}")
    entries = [entry for shard in shards for entry in index_shard(shard)]
    rows = [_row(entry) for entry in entries]
    labels, names = named_labels([row[1] for row in rows], (), folder)
    items = [
        EvalItem(medium, label, captions, positives)
        for (medium, _, captions, positives), label in zip(rows, labels, strict=True)
    ]
    return EvalData(folder, "webdataset", tuple(items), names)


def _count(path: Path) -> int:
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: expected one whole number: {error}") from error


def _row(entry: ShardEntry) -> tuple[Medium, object, tuple[str, ...], tuple[int, ...] | None]:
    extension, kind = _medium(entry)
    medium = Medium(f"{entry.shard.name}/{entry.key}", kind, partial(entry.read, extension))
    sidecar = _sidecar(entry)
    positives = None
    if "npy" in entry.members:
        positives = tuple(int(number) for number in np.flatnonzero(_vector(entry)))
    return medium, _label(entry, sidecar), _captions(entry, sidecar), positives


def _medium(entry: ShardEntry) -> tuple[str, MediaKind]:
    for extension in IMAGE_EXTENSIONS:
        if extension in entry.members:
            return extension, "image"
    for extension in VIDEO_EXTENSIONS:
        if extension in entry.members:
            return extension, "video"
    raise entry.fail(f"has no picture or video, only {', '.join(entry.members)}")


def _label(entry: ShardEntry, sidecar: dict[str, Any]) -> object:
    if "cls" in entry.members:
        try:
            return int(entry.read("cls"))
        except ValueError as error:
            raise entry.fail("its cls member is not a whole number") from error
    return next((sidecar[name] for name in LABEL_FIELDS if isinstance(sidecar.get(name), int | str)), None)


def _captions(entry: ShardEntry, sidecar: dict[str, Any]) -> tuple[str, ...]:
    if "txt" in entry.members:
        lines = entry.read("txt").decode("utf-8", errors="replace").splitlines()
        return tuple(_unescape(line) for line in lines if line.strip())
    found = (as_captions(sidecar.get(name)) for name in CAPTION_FIELDS)
    return next((captions for captions in found if captions), ())


def _sidecar(entry: ShardEntry) -> dict[str, Any]:
    if "json" not in entry.members:
        return {}
    try:
        value = json.loads(entry.read("json"))
    except ValueError as error:
        raise entry.fail(f"its json member cannot be parsed: {error}") from error
    return value if isinstance(value, dict) else {}


def _vector(entry: ShardEntry) -> Any:
    try:
        return np.load(io.BytesIO(entry.read("npy")), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise entry.fail(f"its npy member cannot be read: {error}") from error


def _unescape(line: str) -> str:
    """Undo the escapes of a caption that spans lines."""
    return line.replace("\\\\", "\0").replace("\\n", "\n").replace("\0", "\\")
