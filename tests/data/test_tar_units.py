"""Tar shards read front to back: groups, places to go on from, and damage of every kind."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from perceptic.data.samples import SampleError
from perceptic.data.shards import index_shard
from perceptic.data.tar_units import TarUnits
from perceptic.data.units import Place, RawPair
from perceptic.errors import DataError

Members = list[tuple[str, bytes]]
LONG = "a folder with spaces/" + "très long " * 15 + "写真"


def write_tar(path: Path, members: Members, tar_format: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=tar_format) as archive:
        for name, content in members:
            item = tarfile.TarInfo(name)
            item.size = len(content)
            archive.addfile(item, io.BytesIO(content))
    return path


def read_all(units: TarUnits, unit: int = 0, offset: int = 0) -> list[RawPair | SampleError]:
    """Every sample, or what is wrong with it."""
    found: list[RawPair | SampleError] = []
    for place in units.scan(unit, offset):
        if isinstance(place, SampleError):
            found.append(place)
            continue
        try:
            found.append(units.read(unit, place.offset))
        except SampleError as error:
            found.append(error)
    return found


def reasons(found: list[RawPair | SampleError]) -> list[str]:
    return [item.reason if isinstance(item, SampleError) else item.captions[0] for item in found]


def units_of(path: Path) -> TarUnits:
    return TarUnits.find((str(path),))


@pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_pairs(tmp_path: Path, tar_format: int) -> None:
    sidecar = {"caption": "A dog.", "human_caption": "A dog runs far away.", "is_flip_safe": True}
    members: Members = [
        ("a.jpg", b"jpeg"),
        ("a.txt", b"short\n\na longer one\nthe\\nlongest one\nunused"),
        ("b.json", json.dumps(sidecar).encode()),
        ("b.mp4", b"video"),
    ]
    if tar_format != tarfile.USTAR_FORMAT:  # the oldest form has no room for such names
        members += [(f"{LONG}.webp", b"webp"), (f"{LONG}.txt", "\N{BYTE ORDER MARK}été".encode())]
    units = units_of(write_tar(tmp_path / "a b.tar", members, tar_format))
    pairs = [item for item in read_all(units) if isinstance(item, RawPair)]
    assert [(pair.content, pair.is_video, pair.captions, pair.is_flip_safe) for pair in pairs] == [
        (b"jpeg", False, ("short", "a longer one", "the\nlongest one"), False),
        (b"video", True, ("A dog.", "A dog runs far away.", "A dog runs far away."), True),
        (b"webp", False, ("été", "été", "été"), False),
    ][: len(members) // 2]
    assert pairs[0].where == f"{units.shards[0]}, sample a"


def test_reading_goes_on_from_any_place(tmp_path: Path) -> None:
    members = [(f"{i}.{kind}", f"{i}".encode()) for i in range(20) for kind in ("txt", "jpg")]
    units = units_of(write_tar(tmp_path / "a.tar", members))
    places = [place for place in units.scan(0) if isinstance(place, Place)]
    assert len(places) == 20
    for number, place in enumerate(places):
        assert list(units.scan(0, place.offset)) == places[number:]
        assert list(units.scan(0, place.next_offset)) == places[number + 1 :]
        assert units.read(0, place.offset).captions[0] == str(number)


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    members = [
        ("only.txt", b"no picture"),
        ("silent.jpg", b"x"),
        ("blank.jpg", b"x"),
        ("blank.txt", b" \n "),
        ("latin.jpg", b"x"),
        ("latin.txt", "é".encode("latin-1")),
        ("torn.jpg", b"x"),
        ("torn.json", b"{"),
        ("list.jpg", b"x"),
        ("list.json", b'["a caption"]'),
        ("good.jpg", b"x"),
        ("good.txt", b"good"),
    ]
    found = read_all(units_of(write_tar(tmp_path / "a.tar", members)))
    assert reasons(found) == [
        "no picture or video",
        "no caption",
        "empty caption",
        "caption is not UTF-8",
        "bad JSON",
        "no caption",
        "good",
    ]
    assert "sample only" in str(found[0])


def test_a_name_that_comes_twice_is_two_samples(tmp_path: Path) -> None:
    twice = [("a.jpg", b"1"), ("a.txt", b"first"), ("a.jpg", b"2"), ("a.txt", b"second")]
    found = read_all(units_of(write_tar(tmp_path / "a.tar", twice)))
    assert [(item.content, item.captions[0]) for item in found if isinstance(item, RawPair)] == [
        (b"1", "first"),
        (b"2", "second"),
    ]


def test_what_macos_puts_between_members_is_passed_over(tmp_path: Path) -> None:
    members = [("./._a.jpg", b"junk"), ("./a.jpg", b"x"), ("./._a.txt", b"junk"), ("./a.txt", b"words")]
    assert reasons(read_all(units_of(write_tar(tmp_path / "a.tar", members)))) == ["words"]
    assert [entry.key for entry in index_shard(tmp_path / "a.tar")] == ["./a"]


@pytest.mark.parametrize("cut", [1, 300, 700, 1500])
def test_what_is_before_a_cut_is_read(tmp_path: Path, cut: int) -> None:
    members = [(f"{i}.{kind}", f"{i}".encode() * 600) for i in range(3) for kind in ("jpg", "txt")]
    path = write_tar(tmp_path / "a.tar", members)
    places = [place for place in units_of(path).scan(0) if isinstance(place, Place)]
    path.write_bytes(path.read_bytes()[: places[2].next_offset - cut])
    found = read_all(units_of(path))
    assert reasons(found) == ["0" * 600, "1" * 600, "damaged shard"]
    with pytest.raises(DataError, match="cannot be read as a tar file"):
        index_shard(path)


@pytest.mark.parametrize("num_left", [2, 3])
def test_a_cut_between_two_members_is_seen(tmp_path: Path, num_left: int) -> None:
    members = [(f"{i}.{kind}", f"{i}".encode()) for i in range(3) for kind in ("jpg", "txt")]
    path = write_tar(tmp_path / "a.tar", members)
    path.write_bytes(path.read_bytes()[: 1024 * num_left])  # a header and a block of content each
    (*before, error) = read_all(units_of(path))
    assert reasons(before) == ["0"] * (num_left - 2), "the last sample may lack members"
    assert isinstance(error, SampleError)
    assert error.reason == "damaged shard"
    assert f"no end-of-archive marker at byte {1024 * num_left}" in str(error)
    with pytest.raises(DataError, match="no end-of-archive marker"):
        index_shard(path)


def test_the_shortest_end_is_an_end(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [("0.jpg", b"0"), ("0.txt", b"0")])
    path.write_bytes(path.read_bytes()[: 2048 + 512])  # writers fill up to 10,240 bytes, the format wants two blocks
    assert reasons(read_all(units_of(path))) == ["0"]
    assert len(index_shard(path)) == 1


def test_damage_in_the_middle_is_no_end(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [(f"{i}.jpg", b"x") for i in range(4)])
    content = bytearray(path.read_bytes())
    content[2048:2560] = b"\xff" * 512
    path.write_bytes(content)
    with pytest.raises(DataError, match="no tar header at byte 2048"):
        index_shard(path)


def test_damage_in_the_middle_is_told(tmp_path: Path) -> None:
    members = [(f"{i}.{kind}", b"x") for i in range(4) for kind in ("jpg", "txt")]
    path = write_tar(tmp_path / "a.tar", members)
    content = bytearray(path.read_bytes())
    third = [place for place in units_of(path).scan(0) if isinstance(place, Place)][2].offset
    content[third : third + 512] = os.urandom(512)
    path.write_bytes(content)
    assert reasons(read_all(units_of(path)))[-1] == "damaged shard"
    assert reasons(read_all(units_of(path)))[:1] == ["x"]


@pytest.mark.parametrize("content", [b"", b"not a tar at all" * 100, b"\x1f\x8b\x08" + bytes(600)])
def test_files_that_are_no_tar(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    assert reasons(read_all(units_of(tmp_path / "a.tar"))) == ["damaged shard"]


def test_huge_empty_files_and_members_cost_nothing(tmp_path: Path) -> None:
    with (tmp_path / "a.tar").open("wb") as stream:
        stream.truncate(10 << 30)
    assert read_all(units_of(tmp_path / "a.tar")) == []
    path = write_tar(tmp_path / "b.tar", [("a.txt", b"huge")])
    item = tarfile.TarInfo("a.jpg")
    item.size = 8 << 30
    with path.open("r+b") as stream:
        stream.seek(1024)
        stream.write(item.tobuf())
        stream.truncate(stream.tell() + item.size + 1024)
    (found,) = read_all(units_of(path))
    assert isinstance(found, SampleError)
    assert found.reason == "member too large"


def test_shards_that_are_gone_are_told_when_they_are_read(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_tar(tmp_path / f"{name}.tar", [("0.jpg", b"x"), ("0.txt", b"y")])
    units = TarUnits.find((str(tmp_path / "*.tar"),))
    (tmp_path / "b.tar").unlink()
    (found,) = read_all(units, 1)
    assert isinstance(found, SampleError)
    assert (found.where, found.reason) == (str(tmp_path / "b.tar"), "shard cannot be read")
    with pytest.raises(SampleError, match="cannot be read"):
        units.read(1, 0)


def test_a_tar_that_was_replaced_by_a_shorter_one(tmp_path: Path) -> None:
    units = units_of(write_tar(tmp_path / "a.tar", [(f"{i}.jpg", b"x") for i in range(9)]))
    places = [place for place in units.scan(0) if isinstance(place, Place)]
    write_tar(tmp_path / "a.tar", [])
    with pytest.raises(SampleError, match="cannot be read"):
        units.read(0, places[-1].offset)


def test_names_and_identity(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for name in ("b.tar", "a.tar"):
            write_tar(tmp_path / folder / name, [])
    one, two = (TarUnits.find((str(tmp_path / folder / "*.tar"),)) for folder in ("one", "two"))
    assert [path.name for path in one.shards] == ["a.tar", "b.tar"]
    assert one.identity == two.identity, "the folder may be another"
    assert one.identity != units_of(tmp_path / "one" / "a.tar").identity
    for patterns, message in (((str(tmp_path / "c*.tar"),), "matches no file"), ((), "empty")):
        with pytest.raises(DataError, match=message):
            TarUnits.find(patterns)
