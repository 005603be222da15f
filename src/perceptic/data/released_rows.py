"""The published parquet tables of questions, captions and conversations as JSONL (datasets-and-benchmarks 1.2 to 1.4).

A table is rewritten once: parquet decodes thousands of rows to give one, and shuffled reading wants single rows.
Columns are found by name at run time, since revisions of the tables differ.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from perceptic.data.plm_rows import RowError, parse_row
from perceptic.data.skipped import SkippedSamples
from perceptic.errors import DataError
from perceptic.files import atomic_path

_SHORTEST_SECONDS = 0.1
_SPEAKERS = {"gpt": "assistant"}


@dataclass(frozen=True)
class Converted:
    """How many rows were written, and how many were not by reason, with the first few of each."""

    num_rows: int
    skipped: dict[str, int]
    examples: dict[str, list[str]]


def convert_tables(tables: Sequence[Path], destination: Path, video_suffix: str = ".mp4") -> Converted:
    """Write the rows of parquet files to one JSONL file. Records that make no row are counted.

    Args:
        video_suffix: added to video ids that have none.

    Raises:
        DataError: a table that cannot be read. OutputError: the file cannot be written.
    """
    skipped, num_rows = SkippedSamples(limit=None), 0
    with atomic_path(destination) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for table in tables:
            for number, record in enumerate(_records(table)):
                where = f"{table}, row {number}"
                try:
                    row = released_row(record, where, video_suffix)
                    parse_row(row, where)
                except RowError as error:
                    skipped.note(error)
                    continue
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
                num_rows += 1
    return Converted(num_rows, dict(skipped.counts), skipped.examples)


def released_row(record: Mapping[str, Any], where: str, video_suffix: str = ".mp4") -> dict[str, Any]:
    """One record of a table as a row: its conversation, else question and answer, else caption; its medium and times.

    Raises:
        RowError: none of these, no medium, or a clip of less than a tenth of a second.
    """
    metadata = record.get("metadata")
    facts = {**(metadata if isinstance(metadata, Mapping) else {}), **record}
    return {**_medium(facts, where, video_suffix), **_said(facts, where)}


def _said(facts: Mapping[str, Any], where: str) -> dict[str, Any]:
    if facts.get("conversations") is not None:
        turns = [{**turn, "from": _SPEAKERS.get(turn.get("from"), turn.get("from"))} for turn in facts["conversations"]]
        return {"conversations": turns}
    question, answer = facts.get("question"), facts.get("answer")
    if question is not None and answer is not None:
        return {"conversations": [{"from": "human", "value": question}, {"from": "assistant", "value": answer}]}
    if facts.get("caption") is not None:
        return {"text": facts["caption"]}
    raise RowError(where, "no conversation", "the table has none of conversations, question and answer, caption")


def _medium(facts: Mapping[str, Any], where: str, video_suffix: str) -> dict[str, Any]:
    if facts.get("image") is not None:
        return {"image": facts["image"]}
    video = next((facts[key] for key in ("video", "video_id", "source_video_id") if facts.get(key) is not None), None)
    if video is None:
        raise RowError(where, "no medium", "the table has none of image, video, video_id, source_video_id")
    start, end = (_first(facts, f"{name}_time", f"source_{name}_time") for name in ("start", "end"))
    if start is not None and end is not None and end - max(start, 0.0) < _SHORTEST_SECONDS:
        raise RowError(where, "clip too short", f"it lasts from {start} to {end} s")
    times = {"start_time": None if start is None else max(start, 0.0), "end_time": end}
    path = str(video) if Path(str(video)).suffix else f"{video}{video_suffix}"
    return {"video": path, **{key: value for key, value in times.items() if value is not None}}


def _first(facts: Mapping[str, Any], *keys: str) -> Any:
    return next((facts[key] for key in keys if facts.get(key) is not None), None)


def _records(table: Path) -> Iterator[dict[str, Any]]:
    try:
        with pq.ParquetFile(table) as file:
            for batch in file.iter_batches(batch_size=1024):
                yield from batch.to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{table}: cannot be read as a parquet table: {error}") from error
