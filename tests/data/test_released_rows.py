"""Published tables become rows; what cannot is counted."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from perceptic.data.plm_rows import ImageRow, Turn, VideoRow, parse_row
from perceptic.data.released_regions import COLUMNS, RegionKind, RegionRows, Track, read_boxes
from perceptic.data.released_rows import convert_tables, released_row
from perceptic.data.released_videos import unpack_shards
from perceptic.data.row_files import RowFile
from perceptic.data.tar_units import TarUnits
from perceptic.errors import DataError
from perceptic.media.boxes import Box

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
    converted = convert_tables(tables, tmp_path / "rows.jsonl", released_row)
    rows = RowFile(tmp_path / "rows.jsonl")
    assert [rows.row(i) for i in range(len(rows))] == [
        ImageRow(SAID, "0012_p3.png"),
        VideoRow(SAID, "abc.mp4", 0.0, 9.5, {}),
        VideoRow((Turn("human", ""), Turn("assistant", "A man.")), "x.webm", 62.0, 91.5, {}),
    ]
    assert converted.num_rows == 3
    assert converted.skipped == {"no medium": 1, "clip too short": 1, "no conversation": 1}
    assert converted.examples["clip too short"] == [
        f"{tables[1]}, record 1: clip too short: it lasts from 4.0 to 4.05 s"
    ]


def test_damaged_tables(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 not")
    for name in ("a.parquet", "gone.parquet"):
        with pytest.raises(DataError, match=rf"{name}: cannot be read"):
            convert_tables([tmp_path / name], tmp_path / "rows.jsonl", released_row)
    assert not (tmp_path / "rows.jsonl").exists()


RECORD = {"uid": 7, "video": "sav_012345.mp4", "masklet_id": 2, "total_frames": 96}
EVENT = {**RECORD, "caption": "A woman ties the leash. ", "start_frame": 24, "end_frame": 60}
DENSE = {
    **RECORD,
    "dense_captions": [
        {"start_frame": 0, "end_frame": 24, "caption": "Out of frame"},
        {"start_frame": 24, "end_frame": 60, "caption": "She kneels."},
        {"start_frame": 60, "end_frame": 96, "caption": "She walks off."},
    ],
}
BOXES = {Track("sav_012345.mp4", 2): {"0": None, "30": [412.0, 96.0, 655.0, 540.0]}}


@pytest.mark.parametrize(
    ("kind", "record", "asked", "answer"),
    [
        ("rcap", EVENT, "[8, 20]", "A woman ties the leash."),
        ("rtloc", EVENT, "when 'A woman ties the leash' happens", "[8, 20]"),
        (
            "rdcap",
            DENSE,
            "red rectangles",
            "Frame [0, 8]: Out of frame\nFrame [8, 20]: She kneels.\nFrame [20, 31]: She walks off.",
        ),
    ],
)
def test_regions(kind: RegionKind, record: dict[str, Any], asked: str, answer: str) -> None:
    row = parse_row(RegionRows(kind, BOXES)(record, "here"), "here")
    assert isinstance(row, VideoRow)
    question, said = row.turns
    assert asked in question.text
    assert "red rectangle" in question.text
    assert "32 frame video" in question.text
    assert said.text == answer
    assert row.boxes == {30: Box(412, 96, 655, 540)}
    bare = RegionRows(kind, None)(record, "here")
    assert "bbox_map" not in bare
    assert "rectangle" not in bare["conversations"][0]["value"]
    assert bare["conversations"][1]["value"] == answer
    assert RegionRows(kind, BOXES)(record, "there") == RegionRows(kind, BOXES)(record, "here"), (
        "wording is the record's"
    )


def test_wordings_vary() -> None:
    make = RegionRows("rcap", BOXES)
    questions = {make({**EVENT, "uid": uid}, "")["conversations"][0]["value"] for uid in range(30)}
    assert len(questions) == 2


@pytest.mark.parametrize(
    ("total", "frame", "expected"),
    [(121, 0, 0), (121, 30, 7), (121, 33, 8), (121, 120, 31), (80, 38, 15), (48, 5, 3), (32, 31, 31), (96, 96, 31)],
)
def test_sampled_frames_are_the_specification_s(total: int, frame: int, expected: int) -> None:
    record = {**EVENT, "total_frames": total, "start_frame": frame, "end_frame": frame}
    row = RegionRows("rtloc", None)(record, "")
    assert row["conversations"][1]["value"] == f"[{expected}, {expected}]"


def test_faster_files_get_a_box_on_every_frame() -> None:
    boxes = RegionRows("rcap", BOXES, frame_step=4)(EVENT, "")["bbox_map"]
    assert [frame for frame, box in boxes.items() if box] == ["120", "121", "122", "123"]


def test_region_tables(tmp_path: Path) -> None:
    records = [EVENT, {**EVENT, "masklet_id": 9}, {**EVENT, "end_frame": 3}, {**EVENT, "total_frames": None}]
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "rcap.parquet")
    lines = [{"video": track.video, "masklet_id": track.masklet_id, "bbox": box} for track, box in BOXES.items()]
    (tmp_path / "boxes.jsonl").write_text("\n".join(map(json.dumps, lines)))
    boxes = read_boxes(tmp_path / "boxes.jsonl")
    assert boxes == BOXES
    make = RegionRows("rcap", boxes)
    converted = convert_tables([tmp_path / "rcap.parquet"], tmp_path / "rows.jsonl", make, COLUMNS["rcap"])
    assert (converted.num_rows, converted.skipped) == (1, {"no boxes": 1, "bad frame numbers": 2})
    with pytest.raises(DataError, match=r"lacks dense_captions; such a table has .* this one uid, video"):
        convert_tables([tmp_path / "rcap.parquet"], tmp_path / "rows.jsonl", make, COLUMNS["rdcap"])


@pytest.mark.parametrize("line", ["{", "[]", '{"video": "a"}', '{"video": "a", "masklet_id": "x", "bbox": {}}'])
def test_damaged_box_tables(tmp_path: Path, line: str) -> None:
    (tmp_path / "boxes.jsonl").write_text(line)
    with pytest.raises(DataError, match=r"boxes\.jsonl"):
        read_boxes(tmp_path / "boxes.jsonl")


def test_jsonl_twins_are_tables_too(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(fine_grained(0, 9)) + "\n\n" + json.dumps({"image": "a.png"}))
    converted = convert_tables([tmp_path / "a.jsonl"], tmp_path / "rows.jsonl", released_row)
    assert converted.num_rows == 1
    assert converted.examples["no conversation"][0].endswith("or caption; it has image")


def test_rows_stay_rows() -> None:
    turns = [{"from": "human", "value": "Where?"}, {"from": "assistant", "value": "<|bbox0|>"}]
    image = {"image": "a.png", "bbox": [[1, 2, 3, 4]], "width": 9, "height": 9, "conversations": turns}
    video = {"video": "a.mp4", "bbox_map": {"0": [1, 2, 3, 4]}, "conversations": turns}
    assert [released_row(row, "") for row in (image, video)] == [image, video]


def test_shards_of_captioned_videos(tmp_path: Path) -> None:
    sidecars = [
        {"human_caption": "Hands roll dough.", "model_caption": "The video shows", "category": "Food"},
        {"model_caption": "A dog runs.", "human_caption": ""},
        {"category": "extended"},
    ]
    with tarfile.open(tmp_path / "000001.tar", "w") as archive:
        for number, sidecar in enumerate(sidecars):
            for extension, content in (("mp4", b"video %d" % number), ("json", json.dumps(sidecar).encode())):
                item = tarfile.TarInfo(f"{number}.{extension}")
                item.size = len(content)
                archive.addfile(item, io.BytesIO(content))
    units = TarUnits.find((str(tmp_path / "*.tar"),))
    for _ in range(2):
        converted = unpack_shards(units, tmp_path / "rows.jsonl", tmp_path / "media")
        assert (converted.num_rows, converted.skipped) == (2, {"no caption": 1})
    rows = RowFile(tmp_path / "rows.jsonl")
    assert [rows.row(i).turns[1].text for i in range(2)] == ["Hands roll dough.", "A dog runs."]
    row = rows.row(1)
    assert isinstance(row, VideoRow)
    assert (tmp_path / "media" / row.path).read_bytes() == b"video 1"


def test_names_that_lead_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, content in (("../../evil.jpg", b"x"), ("../../evil.txt", b"words")):
            item = tarfile.TarInfo(name)
            item.size = len(content)
            archive.addfile(item, io.BytesIO(content))
    converted = unpack_shards(TarUnits.find((str(tmp_path / "a.tar"),)), tmp_path / "r.jsonl", tmp_path / "m" / "m")
    assert converted.skipped == {"bad name": 1}
    assert not list(tmp_path.rglob("evil*"))
