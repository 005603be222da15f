"""Published tables become rows; what cannot is counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from perceptic.data.plm_rows import ImageRow, Turn, VideoRow
from perceptic.data.released_rows import convert_tables
from perceptic.data.row_files import RowFile
from perceptic.errors import DataError

SAID = (Turn("human", "What?"), Turn("assistant", "That."))
DOCUMENTS = [
    {
        "uuid": "5e0c",
        "image": "0012_p3.png",
        "page": 3,
        "conversations": [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "That."}],
    },
    {"uuid": "5e0d", "image": None, "page": 4, "conversations": [{"from": "human", "value": "What?"}]},
]


def fine_grained(start: float, end: float, answer: str | None = "That.") -> dict[str, Any]:
    metadata = {"source_video_id": "abc", "source_dataset": "coin", "source_start_time": start, "source_end_time": end}
    return {"qa_id": "q", "question": "What?", "answer": answer, "metadata": metadata}


def test_tables(tmp_path: Path) -> None:
    records = [fine_grained(-0.2, 9.5), fine_grained(4.0, 4.05), fine_grained(1.0, 2.0, answer=None)]
    captions = [{"video_id": "x.webm", "start_time": 62.0, "end_time": 91.5, "caption": "A man."}]
    for name, values in (("documents", DOCUMENTS), ("fgqa", records), ("captions", captions)):
        pq.write_table(pa.Table.from_pylist(values), tmp_path / f"{name}.parquet")
    tables = [tmp_path / f"{name}.parquet" for name in ("documents", "fgqa", "captions")]
    converted = convert_tables(tables, tmp_path / "rows.jsonl")
    rows = RowFile(tmp_path / "rows.jsonl")
    assert [rows.row(i) for i in range(len(rows))] == [
        ImageRow(SAID, "0012_p3.png"),
        VideoRow(SAID, "abc.mp4", 0.0, 9.5, {}),
        VideoRow((Turn("human", ""), Turn("assistant", "A man.")), "x.webm", 62.0, 91.5, {}),
    ]
    assert converted.num_rows == 3
    assert converted.skipped == {"no medium": 1, "clip too short": 1, "no conversation": 1}
    assert converted.examples["clip too short"] == [f"{tables[1]}, row 1: clip too short: it lasts from 4.0 to 4.05 s"]


def test_damaged_tables(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 not")
    for name in ("a.parquet", "gone.parquet"):
        with pytest.raises(DataError, match=rf"{name}: cannot be read"):
            convert_tables([tmp_path / name], tmp_path / "rows.jsonl")
    assert not (tmp_path / "rows.jsonl").exists()
