"""Tables of media with labels or captions: parquet (bytes or paths), JSONL as released, CSV of the video sets."""

from __future__ import annotations

import csv
import json
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from perceptic.data.json_lines import numbered_objects
from perceptic.errors import DataError, MediaError
from perceptic.evaluate.data_types import (
    CAPTION_FIELDS,
    LABEL_FIELDS,
    MEDIA_FIELDS,
    EvalData,
    EvalItem,
    as_captions,
    named_labels,
)
from perceptic.evaluate.features import Medium
from perceptic.evaluate.folder_data import read_bytes
from perceptic.media.collection import MediaKind, kind_of_content, media_kind

_HELD_GROUPS = 3
_SUFFIXES = ("", ".mp4", ".avi", ".webm", ".mkv", ".jpg", ".png")


def read_jsonl(files: list[Path], root: Path) -> EvalData:
    """Rows with a path (`image`, `video`, ...) and a label or captions. Paths start at `root`.

    Raises:
        DataError: a line that is not a JSON object, or has no medium.
    """
    rows = [row for file in files for row in _json_rows(file)]
    return _from_rows(rows, root, "jsonl")


def read_csv(files: list[Path], root: Path) -> EvalData:
    """`video_id,sentence` (sentences of a video joined by `@` or in rows of their own), or the columns of the JSONL.

    Raises:
        DataError: no header with a medium, or a medium that is not there.
    """
    rows: OrderedDict[str, dict[str, Any]] = OrderedDict()
    for file in files:
        try:
            with file.open(encoding="utf-8", newline="") as stream:
                for number, record in enumerate(csv.DictReader(stream), start=2):
                    where = f"{file}:{number}"
                    name = _medium_field(record, where)
                    row = rows.setdefault(str(record[name]), {**record, "captions": [], "_where": where})
                    row["captions"] += _sentences(record)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{file}: cannot be read as CSV: {error}") from error
    return _from_rows(list(rows.values()), root, "csv")


def read_parquet(files: list[Path], root: Path) -> EvalData:
    """Columns of pictures or videos (bytes, or Hugging Face's struct of bytes and path, or paths), labels, captions.

    Pixels are read row group by row group when they are needed. Class names come from the table's own metadata where
    Hugging Face wrote them.

    Raises:
        DataError: not a parquet file, or no column with media.
    """
    items: list[tuple[Medium, object, tuple[str, ...]]] = []
    names: tuple[str, ...] = ()
    for path in files:
        try:
            with pq.ParquetFile(path) as table:
                names = names or _class_names(table.schema_arrow)
                items += _parquet_rows(path, table, root)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{path}: cannot be read as a parquet table: {error}") from error
    labels, names = named_labels([label for _, label, _ in items], names, files[0])
    found = [EvalItem(medium, label, said) for (medium, _, said), label in zip(items, labels, strict=True)]
    return EvalData(files[0] if len(files) == 1 else root, "parquet", tuple(found), names)


def _json_rows(file: Path) -> Iterator[dict[str, Any]]:
    return ({**value, "_where": f"{file}:{number}"} for number, value in numbered_objects(file))


def _from_rows(rows: list[dict[str, Any]], root: Path, layout: str) -> EvalData:
    media = []
    rows = _merged(rows)
    for row in rows:
        name = str(row[_medium_field(row, row["_where"])])
        path = _media_path(root, name, row["_where"])
        kind = media_kind(path)
        if kind is None:
            raise DataError(f"{row['_where']}: {path} is neither a picture nor a video")
        media.append(Medium(name, kind, partial(read_bytes, path)))
    labels, names = named_labels([_label(row) for row in rows], (), root)
    items = [EvalItem(medium, label, _captions(row)) for medium, label, row in zip(media, labels, rows, strict=True)]
    return EvalData(root, layout, tuple(items), names)


def _merged(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of one medium as one row with all their captions, which is how caption sets often come."""
    found: OrderedDict[str, dict[str, Any]] = OrderedDict()
    for row in rows:
        name = str(row[_medium_field(row, row["_where"])])
        first = found.setdefault(name, {**row, "captions": []})
        if _label(first) != _label(row):
            raise DataError(f"{row['_where']}: {name} has two labels, {_label(first)!r} and {_label(row)!r}")
        first["captions"] = [*first["captions"], *_captions(row)]
    return list(found.values())


def _medium_field(row: Mapping[str, Any], where: str) -> str:
    found = next((name for name in MEDIA_FIELDS if isinstance(row.get(name), str)), None)
    if found is None:
        raise DataError(f"{where}: has no medium; expected one of {', '.join(MEDIA_FIELDS)}")
    return found


def _media_path(root: Path, name: str, where: str) -> Path:
    for folder in (root, root / "videos", root / "images"):
        for suffix in _SUFFIXES:
            path = folder / f"{name}{suffix}"
            if path.is_file():
                return path
    raise DataError(f"{where}: there is no file {root / name}")


def _label(row: Mapping[str, Any]) -> object:
    value = next((row[name] for name in LABEL_FIELDS if isinstance(row.get(name), int | str)), None)
    return int(value) if isinstance(value, str) and value.isdigit() else value


def _captions(row: Mapping[str, Any]) -> tuple[str, ...]:
    found = (as_captions(row.get(name)) for name in CAPTION_FIELDS)
    return next((captions for captions in found if captions), ())


def _sentences(record: Mapping[str, Any]) -> list[str]:
    value = next((record[name] for name in CAPTION_FIELDS if record.get(name)), "")
    return [part.strip() for part in str(value).split("@") if part.strip()]


def _class_names(schema: pa.Schema) -> tuple[str, ...]:
    """What Hugging Face's `ClassLabel` keeps in the table's metadata."""
    text = (schema.metadata or {}).get(b"huggingface")
    if text is None:
        return ()
    features = json.loads(text).get("info", {}).get("features", {})
    for name in LABEL_FIELDS:
        names = features.get(name, {}).get("names") if isinstance(features.get(name), dict) else None
        if names:
            return tuple(map(str, names))
    return ()


def _parquet_rows(path: Path, table: pq.ParquetFile, root: Path) -> list[tuple[Medium, object, tuple[str, ...]]]:
    columns = table.schema_arrow.names
    media = next((name for name in MEDIA_FIELDS if name in columns), None)
    if media is None:
        raise DataError(
            f"{path}: no column of media; expected one of {', '.join(MEDIA_FIELDS)}, found {', '.join(columns)}"
        )
    cells = _Cells(path, media)
    others = [name for name in columns if name in (*LABEL_FIELDS, *CAPTION_FIELDS)]
    is_path = pa.types.is_string(table.schema_arrow.field(media).type)
    rows: list[tuple[Medium, object, tuple[str, ...]]] = []
    for group in range(table.num_row_groups):
        facts = table.read_row_group(group, columns=[*others, *([media] if is_path else [])]).to_pylist()
        for number in range(table.metadata.row_group(group).num_rows):
            row, name = (facts[number] if facts else {}), f"{path.name}/{len(rows)}"
            if is_path:
                file = _media_path(root, row[media], f"{path}, row {len(rows)}")
                medium = Medium(name, media_kind(file) or "image", partial(read_bytes, file))
            else:
                medium = Medium(name, _kind(cells, media, group, number), partial(cells.read, group, number))
            rows.append((medium, _label(row), _captions(row)))
    return rows


def _kind(cells: _Cells, column: str, group: int, number: int) -> MediaKind:
    if column in ("video", "mp4"):
        return "video"
    if (group, number) == (0, 0):  # one look tells for the whole file
        cells.kind = kind_of_content(cells.read(group, number)[:16]) or "image"
    return cells.kind


class _Cells:
    """The media of one parquet file; the last few row groups stay decoded, since they are read nearly in order."""

    kind: MediaKind = "image"

    def __init__(self, path: Path, column: str) -> None:
        self._path, self._column = path, column
        self._groups: OrderedDict[int, list[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, group: int, number: int) -> bytes:
        """The bytes of a row's medium. Raises MediaError."""
        with self._lock:
            if group not in self._groups:
                self._groups[group] = self._load(group)
                while len(self._groups) > _HELD_GROUPS:
                    self._groups.popitem(last=False)
            value = self._groups[group][number]
        content = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(content, bytes):
            raise MediaError(f"{self._path}, row group {group}, row {number}", "has no bytes")
        return content

    def _load(self, group: int) -> list[Any]:
        try:
            with pq.ParquetFile(self._path) as table:
                values: list[Any] = table.read_row_group(group, columns=[self._column]).column(0).to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise MediaError(self._path, f"cannot be read: {error}") from error
        return values
