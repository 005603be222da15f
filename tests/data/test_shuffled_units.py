"""Every sample comes once an epoch over all readers; saved positions are exact; readers may change in number."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perceptic.data.mixing import Reader
from perceptic.data.samples import SampleError
from perceptic.data.shuffled_units import Reference, ShuffledUnits, redistribute_units
from perceptic.data.units import Place, RawPair
from perceptic.errors import DataError

Sample = tuple[int, int]


@dataclass(frozen=True)
class Listed:
    """Units of so many samples each; places are three apart. Units in `broken` end with an error."""

    sizes: tuple[int, ...]
    broken: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def identity(self) -> str:
        return repr(self.sizes)

    def scan(self, unit: int, offset: int = 0) -> Iterator[Place | SampleError]:
        for number in range(offset // 3, self.sizes[unit]):
            yield Place(3 * number, 3 * number + 3)
        if unit in self.broken:
            yield SampleError(f"unit {unit}", "damaged")

    def read(self, unit: int, offset: int) -> RawPair:
        raise NotImplementedError

    @property
    def samples(self) -> Counter[Sample]:
        return Counter((unit, number) for unit, size in enumerate(self.sizes) for number in range(size))


UNITS = st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any).map(lambda sizes: Listed(tuple(sizes)))


def sample(units: ShuffledUnits, reference: Reference) -> Sample:
    return units.unit(reference.draw), reference.offset // 3


def epoch_of(units: ShuffledUnits, reference: Reference) -> int:
    return reference.draw // units.draws_per_epoch


def epochs_seen(readers: list[ShuffledUnits], num_epochs: int) -> list[Counter[Sample]]:
    """What comes of each of the first epochs, all readers together. Each is read until its buffer must be past them."""
    seen = [Counter[Sample]() for _ in range(num_epochs)]
    for units in readers:
        for _ in range(10_000):
            reference = units.next()
            if epoch_of(units, reference) < num_epochs:
                seen[epoch_of(units, reference)][sample(units, reference)] += 1
            state = units.state()
            waiting = [draw for draw, *_ in (*state["open"], *state["buffer"])]
            if min([*waiting, state["next_draw"]]) >= num_epochs * units.draws_per_epoch:
                break
        else:
            pytest.fail("an epoch did not end")
    return seen


@settings(max_examples=40, deadline=None)
@given(UNITS, st.integers(1, 7), st.integers(1, 12), st.integers(0, 5))
def test_every_sample_comes_once_an_epoch(units: Listed, count: int, buffer_size: int, seed: int) -> None:
    readers = [ShuffledUnits(units, Reader(index, count), seed, buffer_size) for index in range(count)]
    assert epochs_seen(readers, 2) == [units.samples, units.samples]


@settings(max_examples=40, deadline=None)
@given(UNITS, st.integers(1, 5), st.integers(1, 12), st.integers(0, 40), st.integers(0, 40))
def test_a_restored_reader_goes_on_exactly(
    units: Listed, count: int, buffer_size: int, before: int, other: int
) -> None:
    reader = Reader(count - 1, count)
    one, two = (ShuffledUnits(units, reader, 3, buffer_size) for _ in range(2))
    for _ in range(before):
        one.next()
    for _ in range(other):
        two.next()
    two.restore(json.loads(json.dumps(one.state())))
    assert [one.next() for _ in range(60)] == [two.next() for _ in range(60)]
    assert one.state() == two.state()


@settings(max_examples=40, deadline=None)
@given(
    UNITS, st.lists(st.integers(0, 12), min_size=1, max_size=5), st.integers(1, 6), st.integers(1, 8), st.integers(0, 9)
)
def test_another_number_of_readers_loses_and_repeats_nothing(
    units: Listed, drawn: list[int], new_count: int, buffer_size: int, seed: int
) -> None:
    old = [ShuffledUnits(units, Reader(index, len(drawn)), seed, buffer_size) for index in range(len(drawn))]
    seen: Counter[tuple[int, Sample]] = Counter()
    for reader, count in zip(old, drawn, strict=True):
        for _ in range(count):
            reference = reader.next()
            seen[epoch_of(reader, reference), sample(reader, reference)] += 1
    states = redistribute_units([reader.state() for reader in old], new_count)
    new = [ShuffledUnits(units, Reader(index, new_count), seed, buffer_size) for index in range(new_count)]
    for reader, state in zip(new, states, strict=True):
        reader.restore(json.loads(json.dumps(state)))
    num_epochs = 2 + max((epoch for epoch, _ in seen), default=0)
    for epoch, found in enumerate(epochs_seen(new, num_epochs)):
        for (at, item), times in seen.items():
            found[item] += times * (at == epoch)
        assert found == units.samples


def test_epochs_and_seeds_differ_and_neighbours_are_parted() -> None:
    units = Listed((50, 50, 50, 50))

    def order(seed: int, buffer_size: int) -> list[Sample]:
        reader = ShuffledUnits(units, Reader(), seed, buffer_size)
        return [sample(reader, reader.next()) for _ in range(400)]

    assert order(1, 40)[:200] != order(1, 40)[200:]
    assert order(1, 40) != order(2, 40)
    in_order = order(1, 1)
    assert sorted(in_order[:50]) == in_order[:50], "a buffer of one keeps a unit's order"
    neighbours = sum(b[1] - a[1] == 1 and a[0] == b[0] for a, b in zip(order(1, 40), order(1, 40)[1:], strict=False))
    assert neighbours < 30


def test_damaged_units_are_told_once_a_visit_and_the_rest_is_read() -> None:
    errors: list[SampleError] = []
    units = Listed((2, 3), frozenset({1}))
    reader = ShuffledUnits(units, Reader(), 0, 1, errors.append)
    seen = Counter(sample(reader, reader.next()) for _ in range(5))
    assert seen == units.samples
    reader.next()
    assert [error.where for error in errors] == ["unit 1"]


def test_nothing_to_read_is_an_error_and_not_a_loop() -> None:
    with pytest.raises(DataError, match="none holds a sample"):
        ShuffledUnits(Listed((0, 0)), Reader(), 0, 5).next()


def test_foreign_positions_are_refused() -> None:
    units = Listed((4, 4))
    state = ShuffledUnits(units, Reader(), 0, 5).state()
    others: list[tuple[str, ShuffledUnits]] = [
        ("seed", ShuffledUnits(units, Reader(), 1, 5)),
        ("units", ShuffledUnits(Listed((4, 5)), Reader(), 0, 5)),
        ("reader", ShuffledUnits(units, Reader(0, 2), 0, 5)),
    ]
    for what, reader in others:
        with pytest.raises(DataError, match=f"another {what}"):
            reader.restore(state)
    different: dict[str, Any] = {**state, "seed": 9, "reader": [1, 2]}
    with pytest.raises(DataError, match="of different data"):
        redistribute_units([state, different], 2)
    with pytest.raises(DataError, match="every reader, each once"):
        redistribute_units([state, state], 2)
