"""Folders of captioned pictures: text files beside them or one table, for pairs and for rows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from perceptic.data.folder_units import TABLES, FolderUnits
from perceptic.data.pair_decoder import decode
from perceptic.data.plm_rows import ImageRow, PlmRow, RowError, Turn, VideoRow
from perceptic.data.registry import open_mix, parse_mix, read_registry
from perceptic.data.row_files import RowFile
from perceptic.data.samples import SampleError
from perceptic.data.units import Place, RawPair
from perceptic.errors import ConfigError, DataError

RECORDS = [
    {"file": "sub/été 1.jpg", "caption": "A dog."},
    {"file": "b.png", "caption": "A cat, asleep."},
    {"file": "sub/été 1.jpg", "caption": "A brown dog."},
    {"file": "c.mp4", "caption": ""},
]


def write_table(folder: Path, name: str) -> None:
    match name:
        case "captions.parquet":
            pq.write_table(pa.Table.from_pylist(RECORDS), folder / name)
        case "captions.jsonl":
            (folder / name).write_text("\n\n".join(json.dumps(record) for record in RECORDS), encoding="utf-8")
        case _:
            separator = "\t" if name.endswith("tsv") else ","
            lines = [f'"{record["file"]}"{separator}"{record["caption"]}"' for record in RECORDS]
            (folder / name).write_text("\n".join([f"file{separator}caption", *lines]), encoding="utf-8-sig")


def read_all(units: FolderUnits) -> list[RawPair | SampleError]:
    found: list[RawPair | SampleError] = []
    for unit in range(len(units)):
        for place in units.scan(unit):
            assert isinstance(place, Place)
            try:
                found.append(units.read(unit, place.offset))
            except SampleError as error:
                found.append(error)
    return found


@pytest.mark.parametrize("name", TABLES)
def test_tables(tmp_path: Path, name: str) -> None:
    write_table(tmp_path, name)
    dog, cat, silent = read_all(FolderUnits.find(tmp_path))
    assert isinstance(dog, RawPair)
    assert (dog.content, dog.captions) == (tmp_path / "sub/été 1.jpg", ("A dog.", "A brown dog.", "A brown dog."))
    assert isinstance(cat, RawPair)
    assert (cat.captions[0], cat.is_video) == ("A cat, asleep.", False)
    assert isinstance(silent, SampleError)
    assert (silent.where, silent.reason) == (str(tmp_path / "c.mp4"), "empty caption")


def test_text_files_beside_the_pictures(tmp_path: Path) -> None:
    (tmp_path / "sub folder").mkdir()
    for name in ("b.JPG", "sub folder/写真.webp", "clip.webm", "notes.md", "alone.png", "latin.png"):
        (tmp_path / name).write_bytes(b"")
    for name, text in (("b.txt", b"B.\n"), ("sub folder/写真.txt", b"C."), ("clip.txt", b"D."), ("latin.txt", b"\xe9")):
        (tmp_path / name).write_bytes(text)
    found = read_all(FolderUnits.find(tmp_path))
    assert [item.reason if isinstance(item, SampleError) else item.captions[0] for item in found] == [
        "no caption",
        "B.",
        "D.",
        "caption is not UTF-8",
        "C.",
    ]
    assert [item.is_video for item in found if isinstance(item, RawPair)] == [False, True, False]


def test_huge_files_cost_nothing(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.txt"):
        with (tmp_path / name).open("wb") as stream:
            stream.truncate(10 << 30)
    (found,) = read_all(FolderUnits.find(tmp_path))
    assert isinstance(found, SampleError)
    assert found.reason == "caption too large"
    (tmp_path / "a.txt").write_text("zeros")
    (raw,) = read_all(FolderUnits.find(tmp_path))
    assert isinstance(raw, RawPair)
    with pytest.raises(SampleError, match="not an image"):
        decode(raw, 1)
    with (tmp_path / "rows.jsonl").open("wb") as stream:
        stream.truncate(1 << 27)
    with pytest.raises(RowError, match="row too long"):
        RowFile(tmp_path / "rows.jsonl").row(0)


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.jpg"])
@pytest.mark.parametrize("content", [b"", b"\0" * 5000, b"\x00\x00\x00\x18ftypmp42" + b"\0" * 99])
def test_damaged_media_are_bad_samples(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    (tmp_path / "a.txt").write_text("words")
    (raw,) = read_all(FolderUnits.find(tmp_path))
    assert isinstance(raw, RawPair)
    for medium in (raw.content, content):
        with pytest.raises(SampleError):
            decode(replace(raw, content=medium), 4 if raw.is_video else 1)


def test_long_folders_are_cut_into_units(tmp_path: Path) -> None:
    lines = ["file,caption", *(f"{i}.jpg,{i}" for i in range(2500))]
    (tmp_path / "captions.csv").write_text("\n".join(lines))
    units = FolderUnits.find(tmp_path)
    assert len(units) == 3
    pairs = [item for item in read_all(units) if isinstance(item, RawPair)]
    assert [pair.captions[0] for pair in pairs] == [str(i) for i in range(2500)]
    assert units.read(2, 499).captions[0] == "2499"
    assert [place.offset for place in units.scan(2, 498) if isinstance(place, Place)] == [498, 499]


def test_rows_of_a_folder(tmp_path: Path) -> None:
    for name in ("a.png", "b.mp4"):
        (tmp_path / "photos").mkdir(exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(b"")
        (tmp_path / "photos" / name).with_suffix(".txt").write_text(f"What {name} shows.\nMore of {name}.")
    (tmp_path / "datasets.yaml").write_text("photos: {folder: photos}\n")
    mix = open_mix(parse_mix("photos:1"), read_registry(tmp_path / "datasets.yaml"))
    rows: list[PlmRow] = [mix.row_sets[0].row(i) for i in range(2)]
    assert rows == [
        ImageRow((Turn("human", ""), Turn("assistant", "More of a.png.")), "a.png"),
        VideoRow((Turn("human", ""), Turn("assistant", "More of b.mp4.")), "b.mp4", None, None, {}),
    ]
    assert mix.row_sets[0].root / "a.png" == tmp_path / "photos" / "a.png"
    (tmp_path / "photos" / "a.txt").unlink()
    with pytest.raises(SampleError, match=r"a\.png: no caption"):
        mix.row_sets[0].row(0)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("captions.csv", b"path,text\na.jpg,b\n", "needs the columns file and caption; it has path, text"),
        ("captions.csv", b"file,caption\n", "no picture or video"),
        ("captions.csv", b"file,caption\n\xff\xfe,b\n", "cannot be read"),
        ("captions.jsonl", b'{"file": "a.jpg"\n', r"captions.jsonl:1: is not JSON"),
        ("captions.jsonl", b"[]", "expected an object"),
        ("captions.parquet", b"PAR1", "cannot be read"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        FolderUnits.find(tmp_path)


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no picture"):
        FolderUnits.find(tmp_path)
    with pytest.raises(DataError, match="is no folder"):
        FolderUnits.find(tmp_path / "gone")
    for name in ("captions.csv", "captions.jsonl"):
        write_table(tmp_path, name)
    with pytest.raises(DataError, match="keep one"):
        FolderUnits.find(tmp_path)


def test_identity_follows_names_and_table(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    first = FolderUnits.find(tmp_path).identity
    Image.new("RGB", (4, 4)).save(tmp_path / "b.png")
    second = FolderUnits.find(tmp_path).identity
    write_table(tmp_path, "captions.csv")
    assert len({first, second, FolderUnits.find(tmp_path).identity}) == 3


@pytest.mark.parametrize(
    ("entry", "error", "message"),
    [
        ("{folder: a, annotation: b}", ConfigError, "needs one of the keys"),
        ("{}", ConfigError, "needs one of the keys"),
        ("{folder: [a]}", ConfigError, "must be a path"),
        ("{folder: a, weight: 2}", ConfigError, "unknown key 'weight'"),
        ("{shards: 'a/*.tar'}", ConfigError, "contrastive training reads"),
        ("{annotation: a.parquet}", DataError, "perceptic data convert"),
    ],
)
def test_entries_that_cannot_be_rows(tmp_path: Path, entry: str, error: type[Exception], message: str) -> None:
    (tmp_path / "datasets.yaml").write_text(f"a: {entry}\n")
    with pytest.raises(error, match=message):
        open_mix(parse_mix("a:1"), read_registry(tmp_path / "datasets.yaml"))
