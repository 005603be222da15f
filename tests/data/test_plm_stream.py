"""The stream of packed batches: exact after any stop, with and without threads; bad rows counted up to a limit."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from perceptic.configs_plm import PerceptionLMPreprocessing
from perceptic.data.mixing import OrderName, Reader, ShuffledOrder, make_order
from perceptic.data.packing import PackedBatch
from perceptic.data.plm_rows import PlmRow, RowError
from perceptic.data.plm_samples import SampleMaker, TrainingSample
from perceptic.data.plm_stream import PackedStream, PackingSettings, SampleStream
from perceptic.data.positions import redistribute
from perceptic.data.registry import Mix, open_mix, parse_mix, read_registry
from perceptic.data.skipped import SkippedSamples
from perceptic.errors import DataError
from perceptic.media.chunks import ChunkTransform
from perceptic.text.conversations import TrainingTokens
from perceptic.text.llama_tokenizer import LlamaTokenizer
from perceptic.world.export import export_world
from perceptic.world.export_chunks import WorldSettings

GOLDENS = Path(__file__).parents[1] / "goldens"
TOKENIZER = LlamaTokenizer.from_file(GOLDENS / "plm" / "tokenizer" / "tokenizer.model")
SETTINGS = PackingSettings(num_sequences=2, num_tokens=40, pad_id=0, window=5)


@pytest.fixture
def mix(tmp_path: Path) -> Mix:
    """Two sets of short captions, of which every tenth row of one is bad."""
    for name, count in (("a", 50), ("b", 30)):
        lines = [json.dumps({"text": f"{name}{i}"}) for i in range(count)]
        if name == "a":
            lines[::10] = ["{}"] * len(lines[::10])
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    (tmp_path / "datasets.yaml").write_text("a: {annotation: a.jsonl}\nb: {annotation: b.jsonl}\n")
    return open_mix(parse_mix("a:2,b:1"), read_registry(tmp_path / "datasets.yaml"))


def numbered(row: PlmRow, root: Path, where: str) -> TrainingSample:
    """A sample whose ids say which row it is of, with a length of its own."""
    name, number = row.turns[1].text[0], int(row.turns[1].text[1:])
    ids = (ord(name) * 1000 + number,) * (3 + number % 17)
    return TrainingSample("text", TrainingTokens(ids, (), tuple(range(1, len(ids)))), None)


def open_stream(
    mix: Mix, *, order: OrderName = "shuffled", workers: int = 0, limit: int = 1000, reader: Reader | None = None
) -> tuple[SampleStream, PackedStream]:
    skipped = SkippedSamples(limit)
    samples = SampleStream(mix, make_order(order, mix, reader or Reader(), 4), numbered, skipped, workers=workers)
    return samples, PackedStream(samples, SETTINGS)


def rows_of(batch: PackedBatch) -> list[list[int]]:
    return batch.token_ids.tolist()


@pytest.mark.parametrize("order", ["shuffled", "original"])
@pytest.mark.parametrize("workers", [0, 3])
def test_restored_streams_go_on_exactly(mix: Mix, order: OrderName, workers: int) -> None:
    samples, stream = open_stream(mix, order=order, workers=workers)
    with samples:
        for _ in range(7):
            stream.next()
        state = json.loads(json.dumps(stream.state()))
        wanted = [rows_of(stream.next()) for _ in range(10)]
        counted = dict(samples.skipped.counts)
    again, stream = open_stream(mix, order=order, workers=2 - min(workers, 1))
    with again:
        stream.next()
        stream.restore(state)
        assert [rows_of(stream.next()) for _ in range(10)] == wanted
        assert dict(again.skipped.counts) == counted
    assert counted == {"no conversation": sum(counted.values())}
    assert sum(counted.values()) > 0


def test_another_number_of_readers_trains_on_every_row_once(mix: Mix) -> None:
    def trained(stream: PackedStream, count: int) -> list[int]:
        ids = [row for _ in range(count) for row in rows_of(stream.next())]
        return [key for row in ids for key in dict.fromkeys(row) if key]

    old = [open_stream(mix, reader=Reader(i, 3)) for i in range(3)]
    done = [key for i, (_, stream) in enumerate(old) for key in trained(stream, 1 + i % 2)]
    states = [stream.state() for _, stream in old]
    again = redistribute(states, 2)
    assert "3 processes was dealt out to 2" in again.note
    keys = []
    for i, state in enumerate(again.states):
        samples, stream = open_stream(mix, reader=Reader(i, 2))
        stream.restore(json.loads(json.dumps(state)))
        keys += trained(stream, 1)
        assert sum(samples.skipped.counts.values()) >= (
            sum(sum(s["skipped"].values()) for s in states) if i == 0 else 0
        )
    seen = [*done, *keys]
    assert len(seen) == len(set(seen)), "80 rows are more than these batches hold, so none may come twice"


def test_rows_come_in_the_order_of_their_draws_however_long_they_take(mix: Mix) -> None:
    def slow_at_times(row: PlmRow, root: Path, where: str) -> TrainingSample:
        sample = numbered(row, root, where)
        time.sleep(0.002 * (sample.num_inputs % 3))
        return sample

    def draws(workers: int) -> list[Any]:
        order = ShuffledOrder(mix, Reader(), 4)
        with SampleStream(mix, order, slow_at_times, SkippedSamples(99), workers=workers) as samples:
            return [samples.next().draw for _ in range(30)]

    assert draws(0) == draws(4)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("row-reader")]


def test_too_many_bad_rows_end_the_run(mix: Mix) -> None:
    _, stream = open_stream(mix, limit=3)
    with pytest.raises(DataError, match=r"4 samples could not .* limit of 3: no conversation \(4\)"):
        list(iter(stream.next, None))


def test_what_is_wrong_with_the_code_is_not_skipped(mix: Mix) -> None:
    def broken(row: PlmRow, root: Path, where: str) -> TrainingSample:
        raise KeyError("a bug")

    for workers in (0, 2):
        order = ShuffledOrder(mix, Reader(), 4)
        with (
            SampleStream(mix, order, broken, SkippedSamples(99), workers=workers) as samples,
            pytest.raises(KeyError),
        ):
            samples.next()


def test_examples_of_each_reason_are_kept() -> None:
    skipped = SkippedSamples(10)
    for i in range(5):
        skipped.note(RowError(f"rows:{i}", "not JSON"))
    assert skipped.counts == {"not JSON": 5}
    assert skipped.examples == {"not JSON": ["rows:0: not JSON", "rows:1: not JSON", "rows:2: not JSON"]}


def test_a_world_is_read_whole(tmp_path: Path) -> None:
    """Every kind of row that the world writes becomes a sample, with media and without complaint."""
    export_world(tmp_path / "world", WorldSettings(num_images=6, num_videos=2, num_zero_shot=0))
    registry = read_registry(tmp_path / "world" / "plm" / "datasets.yaml")
    mix = open_mix(parse_mix(",".join(f"{name}:1" for name in registry)), registry)
    preprocessing = PerceptionLMPreprocessing(tile_size=16, max_num_tiles=2, max_video_frames=4)
    make = SampleMaker(TOKENIZER, ChunkTransform(preprocessing), 4, 1 << 15)  # words of a clip's patches are many
    kinds = set()
    for rows in mix.row_sets:
        for index in range(len(rows)):
            sample = make(rows.row(index), rows.root, rows.where(index))
            kinds.add((rows.name, sample.media_type))
            assert not sample.is_cut
            num_chunks = 0 if sample.chunks is None else len(sample.chunks)
            assert len(sample.tokens.image_positions) == 4 * num_chunks
            assert sample.chunks is None or sample.chunks.dtype == torch.uint8
    assert {name for name, _ in kinds} == set(registry)
    assert {kind for _, kind in kinds} == {"text", "image", "multi_image", "video"}
