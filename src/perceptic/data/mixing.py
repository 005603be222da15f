"""In which order the rows of several data sets are read (perception-language-model spec 8.2).

`ShuffledOrder` is ours: draw n of the whole run is a function of (seed, n), and reader r of R takes draws r, r + R,
r + 2R... Every row of a data set comes once before any comes again, however many readers there are, and a run may go
on with another number of readers without losing or repeating a row.

`OriginalOrder` is the original's: every reader walks its own lines of each file in file order, never shuffled, and
chooses among data sets by a generator of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from perceptic.data.permutation import permuted
from perceptic.data.registry import Mix
from perceptic.errors import ConfigError, DataError

OrderName = Literal["shuffled", "original"]

_BLOCK = 1 << 16
"""Draws after which shares come out exactly; within a block they are in random order."""


@dataclass(frozen=True)
class Draw:
    """Row `row` of row set `row_set` of a mix."""

    row_set: int
    row: int


@dataclass(frozen=True)
class Reader:
    """One of `count` readers (data-parallel ranks times workers) that share a mix."""

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ConfigError(f"reader {self.index} of {self.count}: readers count from 0")

    def share_of(self, total: int, what: str) -> int:
        """This reader's part of `total`, which is as large as everyone's. Raises ConfigError if it cannot be."""
        if total % self.count:
            raise ConfigError(f"{what} of {total} cannot be shared evenly by {self.count} processes")
        return total // self.count


ALONE: Final = Reader()
"""The reader of a run of one process."""


class DrawOrder(Protocol):
    """An endless sequence of draws of one reader; its state is plain JSON values."""

    def next(self) -> Draw:
        """The next draw."""

    def state(self) -> dict[str, Any]:
        """What `restore` needs to go on exactly from here."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state. Raises DataError if it is of another order, mix or reader."""


def make_order(name: OrderName, mix: Mix, reader: Reader, seed: int) -> DrawOrder:
    """A reader's order by name. Raises DataError as `OriginalOrder` does."""
    return ShuffledOrder(mix, reader, seed) if name == "shuffled" else OriginalOrder(mix, reader, seed)


@dataclass(frozen=True)
class Share:
    """Part `part` of a mix, drawn `before` times before."""

    part: int
    before: int


class ShareOrder:
    """Which part of a mix each draw of a run is of, a function of (seed, number); shares exact over 65,536 draws.

    Attributes:
        counts: draws of each part in a block of 65,536.
    """

    def __init__(self, counts: Sequence[int], seed: int) -> None:
        self.counts = list(counts)
        self._seed = seed
        self._block: _Block | None = None

    @classmethod
    def of(cls, shares: Sequence[float], seed: int) -> ShareOrder:
        """Shares are those of the parts; they sum to 1."""
        return cls(_whole_shares(shares, _BLOCK), seed)

    def share(self, number: int) -> Share:
        """The part of draw `number`."""
        if self._block is None or self._block.number != number // _BLOCK:
            self._block = _make_block(self.counts, self._seed, number // _BLOCK)
        block, place = self._block, number % _BLOCK
        part = int(block.row_sets[place])
        return Share(part, block.number * self.counts[part] + int(block.ranks[place]))


class ShuffledOrder:
    """Every epoch of a data set in a fresh random order; shares exact over every 65,536 draws."""

    def __init__(self, mix: Mix, reader: Reader, seed: int) -> None:
        self._draws = _Draws(mix.lengths, ShareOrder.of(mix.shares, seed), seed)
        self._reader = reader
        self._number = reader.index

    def draw(self, number: int) -> Draw:
        """Draw `number` of the run, all readers counted together."""
        return self._draws.draw(number)

    def next(self) -> Draw:
        number = self._number
        self._number += self._reader.count
        return self.draw(number)

    def state(self) -> dict[str, Any]:
        return {"order": "shuffled", "next_number": self._number, **self._identity()}

    def restore(self, state: dict[str, Any]) -> None:
        _check_identity(state, {"order": "shuffled", **self._identity()})
        if state["next_number"] % self._reader.count != self._reader.index:
            raise DataError("data position: it is of another reader; redistribute the readers' positions")
        self._number = state["next_number"]

    def _identity(self) -> dict[str, Any]:
        return self._draws.identity()


@dataclass(frozen=True, eq=False)
class _Draws:
    """The draws of all readers, a function of their number."""

    lengths: Sequence[int]
    shares: ShareOrder
    seed: int

    def draw(self, number: int) -> Draw:
        share = self.shares.share(number)
        length = self.lengths[share.part]
        epoch, position = divmod(share.before, length)
        return Draw(share.part, permuted(position, length, self.seed, share.part, epoch))

    def identity(self) -> dict[str, Any]:
        return {"seed": self.seed, "lengths": list(self.lengths), "counts": self.shares.counts}


@dataclass(frozen=True, eq=False)
class _Block:
    """Which row set each draw of a block is of, and how many draws of that set there are before it in the block."""

    number: int
    row_sets: NDArray[np.int32]
    ranks: NDArray[np.int32]


def _make_block(counts: Sequence[int], seed: int, number: int) -> _Block:
    # numpy keeps this generator's sequence for ever, that of the newer ones not: a saved position stays good.
    random = np.random.RandomState((seed, number))
    row_sets = random.permutation(np.repeat(np.arange(len(counts), dtype=np.int32), counts))
    ranks = np.empty_like(row_sets)
    for row_set, count in enumerate(counts):
        ranks[row_sets == row_set] = np.arange(count, dtype=np.int32)
    return _Block(number, row_sets, ranks)


class OriginalOrder:
    """The original's order. Raises DataError where a reader has no line of a data set (it would wait forever)."""

    def __init__(self, mix: Mix, reader: Reader, seed: int) -> None:
        self._shares = mix.shares
        self._reader = reader
        self._seed = seed
        self._own_rows = [_own_rows([len(file) for file in rows.files], reader) for rows in mix.row_sets]
        for rows, own in zip(mix.row_sets, self._own_rows, strict=True):
            if not own.total:
                raise DataError(
                    f"{rows.name}: none of its {len(rows)} rows is for reader {reader.index} of {reader.count} in the "
                    "original order; use fewer readers or the shuffled order"
                )
        self._drawn = [0] * len(mix.row_sets)
        # The legacy generator on purpose: its sequence is what makes the order the original's.
        self._random = np.random.RandomState((reader.index, reader.count, seed))

    def next(self) -> Draw:
        row_set = int(self._random.choice(len(self._shares), p=self._shares))
        row = self._own_rows[row_set].row(self._drawn[row_set])
        self._drawn[row_set] += 1
        return Draw(row_set, row)

    def state(self) -> dict[str, Any]:
        generator = self._random.get_state(legacy=False)["state"]
        return {
            "drawn": list(self._drawn),
            "keys": generator["key"].tolist(),
            "position": int(generator["pos"]),
            **self._identity(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        _check_identity(state, self._identity())
        self._drawn = list(state["drawn"])
        generator = {"key": np.array(state["keys"], dtype=np.uint32), "pos": state["position"]}
        self._random.set_state({"bit_generator": "MT19937", "state": generator, "has_gauss": 0, "gauss": 0.0})

    def _identity(self) -> dict[str, Any]:
        reader = [self._reader.index, self._reader.count]
        return {"order": "original", "seed": self._seed, "reader": reader, "shares": list(self._shares)}


@dataclass(frozen=True)
class _OwnRows:
    """The lines i of each file with i mod R = r, files one after the other, round and round."""

    reader: Reader
    file_starts: tuple[int, ...]
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        return sum(self.counts)

    def row(self, number: int) -> int:
        place = number % self.total
        for start, count in zip(self.file_starts, self.counts, strict=True):
            if place < count:
                return start + self.reader.index + place * self.reader.count
            place -= count
        raise AssertionError("unreachable")


def _own_rows(file_lengths: Sequence[int], reader: Reader) -> _OwnRows:
    starts = (0, *itertools.accumulate(file_lengths))[:-1]
    return _OwnRows(
        reader, tuple(starts), tuple(len(range(reader.index, length, reader.count)) for length in file_lengths)
    )


@dataclass(frozen=True)
class Redistributed:
    """Where new readers go on: each one's order state, and draws that old readers still owed, dealt out to them."""

    states: tuple[dict[str, Any], ...]
    owed: tuple[tuple[Draw, ...], ...]


def redistribute(old_states: Sequence[dict[str, Any]], num_readers: int) -> Redistributed:
    """Let another number of readers go on with a shuffled order: no row is lost or repeated, only their order differs.

    Args:
        old_states: of the `ShuffledOrder` of every old reader.

    Raises:
        DataError: a state of another order, mix or seed (the original's order is bound to its readers), or not one
            state of each reader.
    """
    first = old_states[0]
    if first.get("order") != "shuffled":
        raise DataError("data position: the original's order is bound to its readers; go on with as many as before")
    draws = _Draws(first["lengths"], ShareOrder(first["counts"], first["seed"]), first["seed"])
    for state in old_states:
        _check_identity(state, {"order": "shuffled", **draws.identity()})
    numbers = [state["next_number"] for state in old_states]
    if sorted(number % len(numbers) for number in numbers) != list(range(len(numbers))):
        raise DataError("data position: give the position of every reader, each once")
    # Readers that are ahead decide where the new ones begin; what the others have not reached yet is owed.
    start = max(numbers)
    owed = sorted(number for behind in numbers for number in range(behind, start, len(numbers)))
    states = []
    for index in range(num_readers):
        number = start + (index - start) % num_readers
        states.append({**first, "next_number": number})
    return Redistributed(
        tuple(states), tuple(tuple(map(draws.draw, owed[index::num_readers])) for index in range(num_readers))
    )


def _whole_shares(shares: Sequence[float], total: int) -> list[int]:
    """Shares as whole numbers with this sum (largest remainders), none of them 0."""
    exact = [share * total for share in shares]
    whole = [max(1, int(value)) for value in exact]
    by_remainder = sorted(range(len(shares)), key=lambda i: int(exact[i]) - exact[i])
    for i in itertools.islice(itertools.cycle(by_remainder), max(0, total - sum(whole))):
        whole[i] += 1
    # Shares raised to 1 are taken from the largest.
    whole[whole.index(max(whole))] -= max(0, sum(whole) - total)
    return whole


def _check_identity(state: dict[str, Any], wanted: dict[str, Any]) -> None:
    changed = [key for key, value in wanted.items() if state.get(key) != value]
    if changed:
        raise DataError(
            f"data position: it was saved with another {', '.join(changed)}; "
            "go on with the same data, weights and seed, or start anew"
        )
