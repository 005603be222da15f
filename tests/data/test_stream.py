"""Contrastive batches from shards and folders: the right pixels, mixes, bad samples, exact positions."""

from __future__ import annotations

import io
import json
import re
import tarfile
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from perceptic.data.augmentation import NO_AUGMENTATION, Augmentation
from perceptic.data.batches import Batch
from perceptic.data.mixing import Reader
from perceptic.data.pair_decoder import PairDecoder
from perceptic.data.positions import redistribute
from perceptic.data.registry import parse_mix, read_registry
from perceptic.data.stream import StreamBatches, StreamPart, StreamSettings
from perceptic.data.stream_parts import find_units, open_stream_parts
from perceptic.errors import ConfigError, DataError
from perceptic.text.bpe_training import train_bpe
from perceptic.text.clip_tokenizer import ClipTokenizer
from perceptic.world import WorldSettings, export_world

NUM_PICTURES = 30
PLAIN = PairDecoder(1, {"short": 1.0}, NO_AUGMENTATION)


@dataclass(frozen=True)
class Step:
    image_size: int = 8


@pytest.fixture(scope="module")
def tokenizer() -> ClipTokenizer:
    return train_bpe((f"number {i}" for i in range(200)), 518, 16)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Pictures whose grey level is in their caption, in shards of uneven sizes; one in a shard of its own is bad."""
    folder = tmp_path_factory.mktemp("shards with spaces")
    number = 0
    for shard, size in enumerate((13, 0, 2, 15)):
        with tarfile.open(folder / f"{shard:03}.tar", "w") as archive:
            for _ in range(size):
                add(archive, f"{number}.png", grey(8 * number))
                add(archive, f"{number}.txt", f"number {number}".encode())
                number += 1
    return str(folder / "*.tar")


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    item = tarfile.TarInfo(name)
    item.size = len(content)
    archive.addfile(item, io.BytesIO(content))


def grey(level: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (12, 9), (level, level, level)).save(stream, "PNG")
    return stream.getvalue()


def open_stream(shards: str, tokenizer: ClipTokenizer, reader: Reader | None = None, **options: Any) -> StreamBatches:
    decoder = options.pop("decoder", PLAIN)
    settings = StreamSettings(**{"batch_size": 4, "seed": 1, "buffer_size": 6, "workers": 0, **options})
    return StreamBatches([StreamPart("a", find_units(shards=(shards,)))], decoder, tokenizer, settings, reader)


def numbers(batch: Batch, tokenizer: ClipTokenizer) -> list[int]:
    """Of the captions, which must be those of the pixels."""
    said = [number_of(ids, tokenizer) for ids in batch.ids]
    levels = ((batch.pixels.mean(dim=(1, 2, 3)) + 1) * 127.5 / 8).round().long()
    assert said == levels.tolist()
    return said


def number_of(ids: torch.Tensor, tokenizer: ClipTokenizer) -> int:
    """Digits are pieces of their own."""
    return int(re.sub(r"\D", "", tokenizer.decode(ids.tolist())))


@pytest.fixture(autouse=True)
def no_threads_left() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("pair-reader")]


@pytest.mark.parametrize("workers", [0, 3])
def test_pairs_belong_together_and_every_epoch_is_whole(shards: str, tokenizer: ClipTokenizer, workers: int) -> None:
    stream = open_stream(shards, tokenizer, batch_size=5, buffer_size=1, workers=workers)
    batches = [stream.batch(Step()) for _ in range(2 * NUM_PICTURES // 5)]
    stream.close()
    assert batches[0].pixels.shape == (5, 3, 8, 8)
    assert batches[0].ids.shape == (5, tokenizer.context_length)
    drawn = [number for batch in batches for number in numbers(batch, tokenizer)]
    assert sorted(drawn[:NUM_PICTURES]) == sorted(drawn[NUM_PICTURES:]) == list(range(NUM_PICTURES))
    assert drawn[:NUM_PICTURES] != drawn[NUM_PICTURES:]


def test_threads_change_nothing(shards: str, tokenizer: ClipTokenizer) -> None:
    decoder = PairDecoder(1, {"short": 1.0}, Augmentation())

    def batches(workers: int) -> list[Batch]:
        stream = open_stream(shards, tokenizer, workers=workers, decoder=decoder)
        made = [stream.batch(Step(8 if i < 5 else 12)) for i in range(9)]
        stream.close()
        return made

    for one, two in zip(batches(0), batches(4), strict=True):
        assert torch.equal(one.pixels, two.pixels)
        assert torch.equal(one.ids, two.ids)


@pytest.mark.parametrize("workers", [0, 2])
def test_restored_streams_go_on_to_the_bit(shards: str, tokenizer: ClipTokenizer, workers: int) -> None:
    decoder = PairDecoder(1, {"short": 1.0}, Augmentation())
    one = open_stream(shards, tokenizer, Reader(1, 2), workers=workers, decoder=decoder)
    for _ in range(7):
        one.batch(Step())
    state = json.loads(json.dumps(one.state()))
    two = open_stream(shards, tokenizer, Reader(1, 2), workers=2 - workers, decoder=decoder)
    two.batch(Step())
    two.restore(state)
    for size in (8, 8, 10, 10):
        first, second = one.batch(Step(size)), two.batch(Step(size))
        assert torch.equal(first.pixels, second.pixels)
        assert torch.equal(first.ids, second.ids)
    one.close()
    two.close()


@pytest.mark.parametrize("counts", [(2, 3), (3, 1), (1, 6)])
def test_another_number_of_processes(shards: str, tokenizer: ClipTokenizer, counts: tuple[int, int]) -> None:
    """What was drawn and not used is dealt out, each once; `test_shuffled_units` shows the same of what follows."""
    old = [open_stream(shards, tokenizer, Reader(i, counts[0]), batch_size=1, workers=i % 2) for i in range(counts[0])]
    for i, stream in enumerate(old):
        for _ in range(2 + i):
            numbers(stream.batch(Step()), tokenizer)
    found = redistribute([stream.state() for stream in old], counts[1])
    assert "no sample is lost or repeated" in found.note
    draws = [tuple(item) for stream in old for item in unread(stream.state())]
    dealt = [tuple(item) for state in found.states for item in unread(state)]
    assert Counter(dealt) == Counter(draws)
    new = [open_stream(shards, tokenizer, Reader(i, counts[1]), batch_size=1) for i in range(counts[1])]
    for stream, state in zip(new, found.states, strict=True):
        stream.restore(json.loads(json.dumps(state)))
        assert len({number for _ in state["owed"] for number in numbers(stream.batch(Step()), tokenizer)}) == len(
            state["owed"]
        )
        assert [item for item in unread(stream.state()) if item in state["owed"]] == []
    for stream in (*old, *new):
        stream.close()


def unread(state: dict[str, Any]) -> list[list[Any]]:
    part = state["parts"]["a"]
    return [*([0, *item] for item in part["buffer"]), *state["owed"]]


def test_mixes_and_registry(shards: str, tokenizer: ClipTokenizer, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("one", "two"):
        Image.new("RGB", (5, 5)).save(tmp_path / "photos" / f"{name}.png")
        (tmp_path / "photos" / f"{name}.txt").write_text("number 777")
    (tmp_path / "datasets.yaml").write_text(
        f"tars: {{shards: ['{shards}']}}\nphotos: {{folder: photos}}\nrows: {{annotation: rows.jsonl}}\n"
    )
    registry = read_registry(tmp_path / "datasets.yaml")
    parts = open_stream_parts(parse_mix("tars:3,photos:1"), registry)
    stream = StreamBatches(parts, PLAIN, tokenizer, StreamSettings(200, 0, workers=0))
    found = [number_of(ids, tokenizer) for ids in stream.batch(Step()).ids]
    assert 30 <= found.count(777) <= 70
    for mix, message in (("rows:1", "contrastive training needs"), ("phots:1", "did you mean 'photos'")):
        with pytest.raises(ConfigError, match=message):
            open_stream_parts(parse_mix(mix), registry)
    other = StreamBatches(parts[:1], PLAIN, tokenizer, StreamSettings(2, 0, workers=0))
    with pytest.raises(DataError, match="mix of tars"):
        other.restore(stream.state())


def bad_shards(folder: Path) -> str:
    with tarfile.open(folder / "0.tar", "w") as archive:
        for number in range(20):
            add(archive, f"{number}.png", grey(8 * number) if number % 2 else b"")
            add(archive, f"{number}.txt", f"number {number}".encode())
    content = (folder / "0.tar").read_bytes()
    (folder / "1.tar").write_bytes(content[:3000])
    (folder / "2.tar").write_bytes(b"")
    return str(folder / "*.tar")


def read_on(stream: StreamBatches) -> None:
    for _ in range(300):
        stream.batch(Step())


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_samples_are_counted_up_to_a_limit(tmp_path: Path, tokenizer: ClipTokenizer, workers: int) -> None:
    pattern = bad_shards(tmp_path)
    stream = open_stream(pattern, tokenizer, workers=workers, skip_limit=None)
    drawn = [number for _ in range(10) for number in numbers(stream.batch(Step()), tokenizer)]
    assert set(drawn) == set(range(1, 20, 2))
    assert set(stream.skipped.counts) == {"not an image", "damaged shard"}
    assert stream.skipped.total == sum(stream.skipped.counts.values()) > 0
    assert any(", sample 0: not an image" in example for example in stream.skipped.examples["not an image"])
    stream.close()
    strict = open_stream(pattern, tokenizer, workers=workers, skip_limit=5)
    with pytest.raises(DataError, match="6 samples could not be used, more than the limit of 5"):
        read_on(strict)
    strict.close()


def test_shards_that_vanish_meanwhile(tmp_path: Path, tokenizer: ClipTokenizer) -> None:
    for name, first in (("a", 0), ("b", 10)):
        with tarfile.open(tmp_path / f"{name}.tar", "w") as archive:
            for number in range(first, first + 10):
                add(archive, f"{number}.png", grey(8 * number))
                add(archive, f"{number}.txt", f"number {number}".encode())
    stream = open_stream(str(tmp_path / "*.tar"), tokenizer, workers=2)
    stream.batch(Step())
    (tmp_path / "a.tar").unlink()
    drawn = [number for _ in range(12) for number in numbers(stream.batch(Step()), tokenizer)]
    assert set(drawn[-16:]) <= set(range(10, 20))
    assert set(stream.skipped.counts) == {"shard cannot be read"}
    (tmp_path / "b.tar").unlink()
    with pytest.raises(DataError, match=r"none holds a sample|more than the limit"):
        read_on(stream)
    stream.close()


def test_clips_and_sidecars_of_an_exported_world(tmp_path: Path, tokenizer: ClipTokenizer) -> None:
    export_world(tmp_path, WorldSettings(num_images=4, num_videos=4, seed=3, num_zero_shot=0))
    clips = str(tmp_path / "clips" / "train" / "*.tar")
    always = Augmentation(flip_share=1.0)
    stream = open_stream(clips, tokenizer, decoder=PairDecoder(4, {"long": 1.0}, always), skip_limit=0)
    batch = stream.batch(Step(16))
    assert batch.pixels.shape == (4, 4, 3, 16, 16)
    assert -1 <= float(batch.pixels.min()) < float(batch.pixels.max()) <= 1
    still = open_stream(clips, tokenizer, decoder=PairDecoder(1, {"long": 1.0}, NO_AUGMENTATION), skip_limit=0)
    assert still.batch(Step(16)).pixels.shape == (4, 3, 16, 16)
    pictures = str(tmp_path / "contrastive" / "train" / "*.tar")
    wrong = open_stream(pictures, tokenizer, decoder=PairDecoder(4, {"long": 1.0}, always), skip_limit=2)
    with pytest.raises(DataError, match=r"picture instead of a video \(3\)"):
        wrong.batch(Step(16))


def test_captions_follow_the_mirror_only_where_it_is_known_to_be_safe(tmp_path: Path, tokenizer: ClipTokenizer) -> None:
    picture = Image.new("RGB", (16, 16))
    picture.paste((255, 255, 255), (0, 0, 8, 16))
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for number, is_safe in enumerate((True, False)):
            add(archive, f"{number}.png", stream.getvalue())
            add(archive, f"{number}.json", json.dumps({"caption": "number 1", "is_flip_safe": is_safe}).encode())

    def seen(flip_unsafe: bool) -> set[tuple[int, bool]]:
        mirror = Augmentation(crop_share=0, brightness=0, saturation=0, flip_share=1.0, flip_unsafe=flip_unsafe)
        decoder = PairDecoder(1, {"short": 1.0}, mirror, lambda text: text.replace("1", "2"))
        batch = open_stream(str(tmp_path / "a.tar"), tokenizer, decoder=decoder, batch_size=2).batch(Step(16))
        is_mirrored = batch.pixels[:, 0, 0, 0] < 0
        return {(number_of(ids, tokenizer), bool(flag)) for ids, flag in zip(batch.ids, is_mirrored, strict=True)}

    assert seen(flip_unsafe=False) == {(2, True), (1, False)}
    assert seen(flip_unsafe=True) == {(2, True), (1, True)}


@pytest.mark.parametrize(("name", "value"), [("batch_size", 0), ("buffer_size", 0), ("workers", -1)])
def test_settings_are_checked(name: str, value: int) -> None:
    with pytest.raises(ConfigError, match=name):
        StreamSettings(**{"batch_size": 1, "seed": 0, name: value})


def test_units_are_of_one_kind(shards: str) -> None:
    for options in ({}, {"shards": (shards,), "folder": "."}):
        with pytest.raises(ConfigError, match="either shards or a folder"):
            find_units(**options)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(DataError, match="there is none"):
        redistribute([], 2)
