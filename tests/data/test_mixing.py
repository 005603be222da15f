"""Mixes: the original's order to the row; ours without loss or repeat however it is shared, stopped and dealt anew."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perceptic.data.mixing import Draw, OrderName, OriginalOrder, Reader, ShuffledOrder, make_order, redistribute
from perceptic.data.permutation import permuted
from perceptic.data.registry import Mix, MixPart, open_mix, parse_mix, read_registry
from perceptic.data.row_files import RowFile, RowSet
from perceptic.errors import ConfigError, DataError


def make_mix(folder: Path, lengths: dict[str, list[int]], weights: list[float]) -> Mix:
    """Sets of files with so many rows each."""
    row_sets = []
    for name, counts in lengths.items():
        for i, count in enumerate(counts):
            (folder / f"{name}{i}.jsonl").write_text("".join(f'{{"text": "{name}{i} {n}"}}\n' for n in range(count)))
        files = tuple(RowFile(folder / f"{name}{i}.jsonl") for i in range(len(counts)))
        row_sets.append(RowSet(name, files, folder))
    return Mix(tuple(row_sets), tuple(weight / sum(weights) for weight in weights))


@pytest.fixture(scope="module")
def mix(tmp_path_factory: pytest.TempPathFactory) -> Mix:
    return make_mix(tmp_path_factory.mktemp("mix"), {"a": [7], "b": [5]}, [3, 1])


def counted(lengths: list[int], weights: list[float]) -> Any:
    """What the shuffled order needs of a mix."""
    return SimpleNamespace(lengths=tuple(lengths), shares=tuple(weight / sum(weights) for weight in weights))


def names(mix: Mix, draws: list[Draw]) -> str:
    return " ".join(f"{mix.row_sets[draw.row_set].name}{draw.row}" for draw in draws)


@pytest.mark.parametrize(
    ("reader", "sequence"),
    [
        (0, "a0 b0 a2 b2 a4 a6 a0 b4 a2 b0 a4 b2 a6 a0"),
        (1, "a1 a3 a5 b1 b3 a1 a3 b1 a5 b3 a1 b1 a3 b3"),
    ],
)
def test_original_order(mix: Mix, reader: int, sequence: str) -> None:
    order = OriginalOrder(mix, Reader(reader, 2), 777)
    assert names(mix, [order.next() for _ in range(14)]) == sequence


def test_original_order_takes_its_lines_of_every_file(tmp_path: Path) -> None:
    mix = make_mix(tmp_path, {"a": [5, 2, 4]}, [1])
    order = OriginalOrder(mix, Reader(1, 3), 0)
    assert [order.next().row for _ in range(6)] == [1, 4, 6, 8, 1, 4]  # lines 1 and 4, line 1, line 1; round again


def test_original_order_needs_rows_for_every_reader(mix: Mix) -> None:
    with pytest.raises(DataError, match="b: none of its 5 rows is for reader 5 of 6"):
        OriginalOrder(mix, Reader(5, 6), 0)


@pytest.mark.parametrize("name", ["shuffled", "original"])
@pytest.mark.parametrize("stop", [0, 1, 700])
def test_state_restores_exactly(mix: Mix, name: OrderName, stop: int) -> None:
    reader = Reader(1, 2)
    order = make_order(name, mix, reader, 3)
    for _ in range(stop):
        order.next()
    state = json.loads(json.dumps(order.state()))
    wanted = [order.next() for _ in range(50)]
    restored = make_order(name, mix, reader, 3)
    restored.restore(state)
    assert [restored.next() for _ in range(50)] == wanted


@pytest.mark.parametrize("name", ["shuffled", "original"])
def test_state_of_something_else(mix: Mix, name: OrderName) -> None:
    state = make_order(name, mix, Reader(1, 2), 3).state()
    with pytest.raises(DataError, match="another seed"):
        make_order(name, mix, Reader(1, 2), 4).restore(state)
    with pytest.raises(DataError, match="reader"):
        make_order(name, mix, Reader(0, 2), 3).restore(state)
    other: OrderName = "original" if name == "shuffled" else "shuffled"
    with pytest.raises(DataError, match="another order"):
        make_order(other, mix, Reader(1, 2), 3).restore(state)


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    num_readers=st.integers(1, 5),
    seed=st.integers(0, 1000),
)
@settings(max_examples=20, deadline=None)
def test_rows_come_once_before_any_comes_again(lengths: list[int], num_readers: int, seed: int) -> None:
    mix = counted(lengths, [1.0] * len(lengths))
    readers = [ShuffledOrder(mix, Reader(i, num_readers), seed) for i in range(num_readers)]
    draws = [reader.next() for _ in range(60) for reader in readers]
    assert draws == list(map(ShuffledOrder(mix, Reader(), seed).draw, range(len(draws))))
    for row_set, length in enumerate(lengths):
        rows = [draw.row for draw in draws if draw.row_set == row_set]
        for start in range(0, len(rows) - length + 1, length):
            assert sorted(rows[start : start + length]) == list(range(length))


def test_shares_are_exact_over_a_block_and_near_within() -> None:
    order = ShuffledOrder(counted([9, 2, 3, 7], [3e9, 1, 1000, 1e9]), Reader(), 5)
    sets = [order.draw(n).row_set for n in range(1 << 16)]
    counts = Counter(sets)
    assert counts[1] == counts[2] == 1, "a small share is not lost"
    assert counts[0] / counts[3] == pytest.approx(3, rel=1e-4)
    near = Counter(sets[10_000:12_000])
    assert near[0] / 2000 == pytest.approx(0.75, abs=0.04)


def test_an_epoch_crosses_blocks() -> None:
    order = ShuffledOrder(counted([70_000], [1]), Reader(), 5)
    rows = [order.draw(n).row for n in range(60_000, 70_000)]
    first = [order.draw(n).row for n in range(0, 60_000, 7)]
    assert len({*rows, *first}) == len(rows) + len(first)


def test_epochs_and_seeds_differ(mix: Mix) -> None:
    def rows(seed: int) -> list[int]:
        order = ShuffledOrder(mix, Reader(), seed)
        return [draw.row for draw in map(order.draw, range(200)) if draw.row_set == 0]

    assert rows(1)[:7] != rows(1)[7:14]
    assert rows(1) != rows(2)


@given(
    steps=st.lists(st.integers(0, 20), min_size=1, max_size=4),
    num_readers=st.integers(1, 5),
)
@settings(max_examples=20, deadline=None)
def test_another_number_of_readers_loses_and_repeats_nothing(steps: list[int], num_readers: int) -> None:
    mix = counted([1000, 900], [1, 2])
    old = [ShuffledOrder(mix, Reader(i, len(steps)), 9) for i in range(len(steps))]
    done = [order.next() for order, count in zip(old, steps, strict=True) for _ in range(count)]
    again = redistribute([order.state() for order in old], num_readers)
    new = [ShuffledOrder(mix, Reader(i, num_readers), 9) for i in range(num_readers)]
    for order, state in zip(new, again.states, strict=True):
        order.restore(state)
    later = [order.next() for _ in range(100 // num_readers) for order in new]
    draws = [*done, *itertools.chain(*again.owed), *later]
    wanted = list(map(ShuffledOrder(mix, Reader(), 9).draw, range(len(draws))))
    assert sorted(map(vars_of, draws)) == sorted(map(vars_of, wanted))


def vars_of(draw: Draw) -> tuple[int, int]:
    return draw.row_set, draw.row


def test_redistributing_wants_every_reader(mix: Mix) -> None:
    state = ShuffledOrder(mix, Reader(0, 2), 9).state()
    with pytest.raises(DataError, match="every reader"):
        redistribute([state, state], 3)


@given(st.integers(1, 3000), st.integers())
@settings(max_examples=20, deadline=None)
def test_permutations(length: int, key: int) -> None:
    assert sorted(permuted(i, length, key, "x") for i in range(length)) == list(range(length))


def test_permutations_are_evenly_spread() -> None:
    """Chi-square of which of n things comes first, and of which pairs are neighbours, over many keys."""
    for length in (2, 3, 5, 8, 17):
        first = Counter(permuted(0, length, key) for key in range(4000))
        expected = 4000 / length
        chi = sum((first[i] - expected) ** 2 / expected for i in range(length))
        assert chi < length - 1 + 4 * (2 * length) ** 0.5, length
    pairs = Counter(permuted(0, 5, key) * 5 + permuted(1, 5, key) for key in range(4000))
    assert len(pairs) == 20
    assert max(pairs.values()) < 270  # 200 expected
    assert permuted(10**11, 10**12, 1) != permuted(10**11, 10**12, 2)


def test_registry(tmp_path: Path) -> None:
    (tmp_path / "plm").mkdir()
    (tmp_path / "plm" / "one.jsonl").write_text('{"text": "1"}\n')
    chunks = tmp_path / "plm" / "many"
    chunks.mkdir()
    for name, count in (("x.chunk.2.jsonl", 2), ("x.chunk.10.jsonl", 1), ("notes.jsonl", 9)):
        (chunks / name).write_text('{"text": "1"}\n' * count)
    path = tmp_path / "plm" / "datasets.yaml"
    path.write_text("one:\n  annotation: one.jsonl\n  root_dir: ..\nmany:\n  annotation: many\n")
    mix = open_mix(parse_mix(" one : 1,\n many:3 "), read_registry(path))
    assert mix.shares == (0.25, 0.75)
    assert mix.lengths == (1, 3)
    assert mix.row_sets[0].root.resolve() == tmp_path.resolve()
    assert [Path(file.where(0)).name for file in mix.row_sets[1].files] == ["x.chunk.10.jsonl:1", "x.chunk.2.jsonl:1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a", "name:weight"),
        ("a:", "name:weight"),
        (":1", "name:weight"),
        ("a:1,,b:1", "name:weight"),
        ("a:x", "name:weight"),
        ("a:0", "must be positive"),
        ("a:-1", "must be positive"),
        ("a:inf", "must be positive"),
        ("a:1,b:2,a:3", "'a' comes twice"),
    ],
)
def test_bad_mixes(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_mix(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "names of data sets"),
        ("a: 1", "annotation"),
        ("a: {annotation: x, root: y}", "unknown key 'root'"),
        ("a: {annotation: x, root_dir: [1]}", "root_dir"),
        ("a: {", "not valid YAML"),
    ],
)
def test_bad_registries(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "datasets.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_registry(tmp_path / "datasets.yaml")


def test_data_sets_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "folder").mkdir()
    path = tmp_path / "datasets.yaml"
    path.write_text("".join(f"{n}: {{annotation: {n}}}\n" for n in ("empty.jsonl", "folder", "gone")))
    registry = read_registry(path)
    for name, error, message in (
        ("empty.jsonl", DataError, "has no rows"),
        ("folder", DataError, r"chunk\.N"),
        ("gone", DataError, "cannot be read"),
        ("fold", ConfigError, "did you mean 'folder'"),
    ):
        with pytest.raises(error, match=message):
            open_mix((MixPart(name, 1.0),), registry)
    with pytest.raises(DataError, match="cannot be read"):
        read_registry(tmp_path / "none.yaml")
