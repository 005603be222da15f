"""The published parquet tables of questions, captions and conversations as JSONL (datasets-and-benchmarks 1.2 to 1.4).

A table is rewritten once: parquet decodes thousands of rows to give one, and shuffled reading wants single rows.
Columns are found by name at run time, since revisions of the tables differ.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from perceptic.data.json_lines import objects
from perceptic.data.plm_rows import RowError, parse_row
from perceptic.data.skipped import SkippedSamples
from perceptic.errors import DataError
from perceptic.files import atomic_path

_SHORTEST_SECONDS = 0.1
_PROGRESS_EVERY = 500
_BOX_KEYS = ("bbox", "width", "height", "bbox_map")
_SPEAKERS = {"gpt": "assistant"}


@dataclass(frozen=True)
class Converted:
    """How many rows were written, and how many were not by reason, with the first few of each."""

    num_rows: int
    skipped: dict[str, int]
    examples: dict[str, list[str]]


MakeRow = Callable[[Mapping[str, Any], str], dict[str, Any]]
"""A record of a table, and its place for messages, to a row. Raises RowError."""


def convert_tables(
    tables: Sequence[Path],
    destination: Path,
    make: MakeRow,
    columns: Sequence[str] = (),
    on_record: Callable[[int], None] = lambda done: None,
) -> Converted:
    """Write the rows of parquet or JSONL files to one JSONL file. Records that make no row are counted.

    Args:
        make: see `released_row` and `released_regions.RegionRows`.
        columns: that every table must have.
        on_record: called now and then with the records done so far.

    Raises:
        DataError: a table that cannot be read or lacks a column. OutputError: the file cannot be written.
    """
    skipped, num_rows, done = SkippedSamples(limit=None), 0, 0
    with atomic_path(destination) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for table in tables:
            _check_columns(table, columns)
            for number, record in enumerate(records(table)):
                done += 1
                if done % _PROGRESS_EVERY == 0:
                    on_record(done)
                where = f"{table}, record {number}"
                try:
                    row = make(record, where)
                    parse_row(row, where)
                except RowError as error:
                    skipped.note(error)
                    continue
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
                num_rows += 1
    return Converted(num_rows, dict(skipped.counts), skipped.examples)


def count_records(table: Path) -> int | None:
    """Records of a parquet file, from its footer; None for other files. Raises DataError if it cannot be read."""
    if table.suffix != ".parquet":
        return None
    with _opened(table) as file:
        return int(file.metadata.num_rows)


def column_names(table: Path) -> tuple[str, ...]:
    """Columns of a table: of a parquet file all, of a JSONL file those of the first record."""
    if table.suffix == ".parquet":
        with _opened(table) as file:
            return tuple(file.schema_arrow.names)
    return tuple(next(iter(records(table)), {}))


def _check_columns(table: Path, columns: Sequence[str]) -> None:
    found = column_names(table)
    missing = [name for name in columns if name not in found]
    if missing:
        raise DataError(
            f"{table}: lacks {', '.join(missing)}; such a table has the columns {', '.join(columns)}, "
            f"this one {', '.join(found) or 'none'}"
        )


def released_row(record: Mapping[str, Any], where: str, video_suffix: str = ".mp4") -> dict[str, Any]:
    """One record of a table as a row: its conversation, else question and answer, else caption; its medium and times.

    Args:
        video_suffix: added to video ids that have none.

    Raises:
        RowError: none of these, no medium, or a clip of less than a tenth of a second.
    """
    metadata = record.get("metadata")
    facts = {**(metadata if isinstance(metadata, Mapping) else {}), **record}
    # Records that are rows already keep their boxes.
    boxes = {key: facts[key] for key in _BOX_KEYS if facts.get(key) is not None}
    return {**_medium(facts, where, video_suffix), **boxes, **_said(facts, where)}


def _said(facts: Mapping[str, Any], where: str) -> dict[str, Any]:
    if facts.get("conversations") is not None:
        turns = [{**turn, "from": _SPEAKERS.get(turn.get("from"), turn.get("from"))} for turn in facts["conversations"]]
        return {"conversations": turns}
    question, answer = facts.get("question"), facts.get("answer")
    if question is not None and answer is not None:
        return {"conversations": [{"from": "human", "value": question}, {"from": "assistant", "value": answer}]}
    if facts.get("caption") is not None:
        return {"text": facts["caption"]}
    raise RowError(
        where, "no conversation", f"expected conversations, question and answer, or caption; it has {_filled(facts)}"
    )


def _medium(facts: Mapping[str, Any], where: str, video_suffix: str) -> dict[str, Any]:
    if facts.get("image") is not None:
        return {"image": facts["image"]}
    video = next((facts[key] for key in ("video", "video_id", "source_video_id") if facts.get(key) is not None), None)
    if video is None:
        expected = "expected image, video, video_id or source_video_id"
        raise RowError(where, "no medium", f"{expected}; it has {_filled(facts)}")
    start, end = (_first(facts, f"{name}_time", f"source_{name}_time") for name in ("start", "end"))
    if start is not None and end is not None and end - max(start, 0.0) < _SHORTEST_SECONDS:
        raise RowError(where, "clip too short", f"it lasts from {start} to {end} s")
    times = {"start_time": None if start is None else max(start, 0.0), "end_time": end}
    path = str(video) if Path(str(video)).suffix else f"{video}{video_suffix}"
    return {"video": path, **{key: value for key, value in times.items() if value is not None}}


def _filled(facts: Mapping[str, Any]) -> str:
    return ", ".join(name for name, value in facts.items() if value is not None) or "nothing"


def _first(facts: Mapping[str, Any], *keys: str) -> Any:
    return next((facts[key] for key in keys if facts.get(key) is not None), None)


def records(table: Path) -> Iterator[dict[str, Any]]:
    """Records of a parquet or JSONL file. Raises DataError if it cannot be read."""
    if table.suffix == ".parquet":
        with _opened(table) as file:
            for batch in file.iter_batches(batch_size=1024):
                yield from batch.to_pylist()
        return
    yield from objects(table)


@contextlib.contextmanager
def _opened(table: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(table) as file:
            yield file
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{table}: cannot be read as a parquet table: {error}") from error
