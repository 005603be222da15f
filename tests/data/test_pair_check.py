"""The check of shards and folders: what is there, what cannot be used, and pictures for people."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from perceptic.data.check_table import errors_table, pairs_table
from perceptic.data.folder_units import FolderUnits
from perceptic.data.pair_check import check_pairs
from perceptic.data.pair_page import pairs_page
from perceptic.data.samples import SampleError
from perceptic.data.stream import StreamPart
from perceptic.data.tar_units import TarUnits
from perceptic.data.units import Place
from perceptic.text.bpe_training import train_bpe

TOKENIZER = train_bpe(["a small dog"], 516, 8)


def jpeg(width: int, height: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(stream, "JPEG")
    return stream.getvalue()


@pytest.fixture
def parts(tmp_path: Path) -> list[StreamPart]:
    members = [
        ("a.jpg", jpeg(40, 20)),
        ("a.txt", b"a <dog>"),
        ("b.jpg", jpeg(10, 300)),
        ("b.txt", b"a very small dog that does not fit"),
        ("c.jpg", jpeg(9, 9)[:60]),
        ("c.txt", b"cut off"),
        ("d.txt", b"only words"),
        ("e.jpg", b""),
        ("e.txt", b"zero bytes"),
        ("f.jpg", jpeg(9, 9)),
        ("f.txt", b"\n"),
    ]
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        for name, content in members:
            item = tarfile.TarInfo(name)
            item.size = len(content)
            archive.addfile(item, io.BytesIO(content))
    (tmp_path / "1.tar").write_bytes((tmp_path / "0.tar").read_bytes()[:1500])
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "x.jpg").write_bytes(jpeg(7, 7))
    (tmp_path / "photos" / "x.txt").write_text("a dog")
    return [
        StreamPart("tars", TarUnits.find((str(tmp_path / "*.tar"),)), 3),
        StreamPart("photos", FolderUnits.find(tmp_path / "photos"), 1),
    ]


def test_report(parts: list[StreamPart]) -> None:
    progress: list[tuple[int, int]] = []
    checked = check_pairs(parts, TOKENIZER, show=2, on_unit=lambda done, total: progress.append((done, total)))
    tars, photos = checked.reports
    assert (tars.share, tars.num_units, tars.num_samples, tars.num_usable) == (0.75, 2, 6, 2)
    assert set(tars.skipped) >= {"no picture or video", "empty caption", "damaged shard"}
    assert sum(tars.skipped.values()) == checked.num_skipped == 5
    assert any("sample d" in example for example in tars.examples["no picture or video"])
    assert (tars.smallest_side, tars.largest_side, tars.num_cut) == (10, 300, 1)
    assert tars.num_tokens == len(TOKENIZER.encode("a <dog>")) + 2 + TOKENIZER.context_length
    assert (photos.num_usable, photos.num_videos, photos.smallest_side) == (1, 0, 7)
    assert progress == [(1, 3), (2, 3), (3, 3)]
    assert [(item.data_set, item.captions[0]) for item in checked.shown] == [
        ("tars", "a <dog>"),
        ("photos", "a dog"),
    ]
    for table in (pairs_table(checked), errors_table(checked.reports)):
        assert {len(line) for line in table.lines} == {len(table.columns)}
    page = pairs_page(checked.shown)
    assert "a &lt;dog&gt;" in page
    assert page.count("data:image/jpeg;base64") == 2


def test_processes_find_the_same(parts: list[StreamPart]) -> None:
    one, two = (check_pairs(parts, TOKENIZER, show=3, jobs=jobs) for jobs in (1, 2))
    assert one == two


def test_an_interruption_tells_what_was_read(parts: list[StreamPart], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: FolderUnits, unit: int, offset: int = 0) -> Iterator[Place | SampleError]:
        raise KeyboardInterrupt

    monkeypatch.setattr(FolderUnits, "scan", interrupted)
    checked = check_pairs(parts, TOKENIZER)
    assert not checked.is_complete
    assert [report.num_read for report in checked.reports] == [2, 0]
    assert checked.reports[0].num_usable == 2
