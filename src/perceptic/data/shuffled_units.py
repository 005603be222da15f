"""In which order a reader takes the samples of many units: units shuffled, then places in a buffer (no pictures).

Unit draw n of the whole run is a function of (seed, n): every unit comes once in an epoch of draws, in a fresh order
each. Reader r of R takes draws r, r + R, r + 2R..., so over all readers every sample comes exactly once per epoch, and
no reader needs to know of another. With fewer units than readers each unit is cut into pieces (every p-th sample), so
that two readers are never in one epoch's same samples.

A buffer of places makes neighbours strangers: the next sample is drawn from it at random. Where epochs meet, the buffer
holds places of both.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from perceptic.data.mixing import Reader
from perceptic.data.permutation import permuted
from perceptic.data.samples import SampleError
from perceptic.data.units import Place, Units
from perceptic.errors import DataError

IDENTITY_KEYS = ("seed", "units", "pieces")

_EPOCHS_TO_TRY = 8


@dataclass(frozen=True)
class Reference:
    """A sample: the draw of its unit, and its place in the unit."""

    draw: int
    offset: int


@dataclass
class _Progress:
    """How far a unit has been scanned: where the next sample begins, and its number in the unit."""

    draw: int
    offset: int = 0
    number: int = 0


class ShuffledUnits:
    """An endless sequence of references of one reader; its state is plain JSON values.

    Args:
        reader: of how many, ranks of a training run.
        buffer_size: places to choose from. It should be several times what one unit holds of what belongs together.
        on_error: told of what a scan could not read; may raise to end the run.
    """

    def __init__(
        self,
        units: Units,
        reader: Reader,
        seed: int,
        buffer_size: int,
        on_error: Callable[[SampleError], None] = lambda error: None,
    ) -> None:
        self._units = units
        self._reader = reader
        self._seed = seed
        self._buffer_size = max(1, buffer_size)
        self._on_error = on_error
        self._pieces = -(-reader.count // len(units))
        self._next_draw = reader.index
        self._open: deque[_Progress] = deque()
        self._scan: Iterator[Place | SampleError] | None = None
        self._buffer: list[Reference] = []
        self._taken = 0

    @property
    def draws_per_epoch(self) -> int:
        """Unit draws of all readers in which every sample comes once."""
        return len(self._units) * self._pieces

    def unit(self, draw: int) -> int:
        """Which unit a draw is of."""
        return self._unit_and_piece(draw)[0]

    def next(self) -> Reference:
        """The next sample. Raises DataError if a whole epoch of draws gives none."""
        while len(self._buffer) < self._buffer_size:
            self._buffer.append(self._next_in_order())
        chosen = _random_below(len(self._buffer), self._seed, self._reader.index, self._taken)
        self._taken += 1
        self._buffer[chosen], self._buffer[-1] = self._buffer[-1], self._buffer[chosen]
        return self._buffer.pop()

    def state(self) -> dict[str, Any]:
        """Plain JSON values from which `restore` goes on exactly; about 15 bytes for each place in the buffer."""
        return {
            **self._identity(),
            "reader": [self._reader.index, self._reader.count],
            "next_draw": self._next_draw,
            "open": [[item.draw, item.offset, item.number] for item in self._open],
            "buffer": [[item.draw, item.offset] for item in self._buffer],
            "taken": self._taken,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state. Raises DataError if it is of other units, another seed or another reader."""
        wanted = {**self._identity(), "reader": [self._reader.index, self._reader.count]}
        # A run that began with another number of readers keeps its pieces: samples stay where they were dealt.
        wanted["pieces"] = state.get("pieces")
        changed = [key for key, value in wanted.items() if state.get(key) != value]
        if changed:
            raise DataError(
                f"data position: it was saved with another {', '.join(changed)}; go on with the same data and seed "
                "(positions of another number of processes are dealt out anew first), or start anew"
            )
        self._pieces = state["pieces"]
        self._next_draw = state["next_draw"]
        self._open = deque(_Progress(*item) for item in state["open"])
        self._buffer = [Reference(*item) for item in state["buffer"]]
        self._taken = state["taken"]
        self._scan = None

    def _identity(self) -> dict[str, Any]:
        return {"seed": self._seed, "units": self._units.identity, "pieces": self._pieces}

    def _next_in_order(self) -> Reference:
        # Readers get another part of each epoch: one that meets only bad units may find good ones in the next.
        for _ in range(len(self._open) + _EPOCHS_TO_TRY * self.draws_per_epoch):
            if not self._open:
                self._open.append(_Progress(self._next_draw))
                self._next_draw += self._reader.count
            found = self._next_of(self._open[0])
            if found is not None:
                return found
            self._open.popleft()
            self._scan = None
        raise DataError(f"{self._units.identity}: none holds a sample that can be read")

    def _next_of(self, progress: _Progress) -> Reference | None:
        unit, piece = self._unit_and_piece(progress.draw)
        if self._scan is None:
            self._scan = self._units.scan(unit, progress.offset)
        for place in self._scan:
            if isinstance(place, SampleError):
                # Each of the pieces would tell the same.
                if piece == 0:
                    self._on_error(place)
                continue
            number, progress.number = progress.number, progress.number + 1
            progress.offset = place.next_offset
            if number % self._pieces == piece:
                return Reference(progress.draw, place.offset)
        return None

    def _unit_and_piece(self, draw: int) -> tuple[int, int]:
        epoch, place = divmod(draw, self.draws_per_epoch)
        return divmod(permuted(place, self.draws_per_epoch, self._seed, epoch), self._pieces)


def redistribute_units(states: Sequence[Mapping[str, Any]], num_readers: int) -> list[dict[str, Any]]:
    """Let another number of readers go on: no sample is lost or repeated, only their order differs.

    Args:
        states: of every old reader of the same units.

    Raises:
        DataError: states of different data or seeds, or not one of each reader.
    """
    first = states[0]
    if any(state[key] != first[key] for state in states for key in IDENTITY_KEYS):
        raise DataError("data position: the readers' positions are of different data")
    if sorted(state["reader"] for state in states) != [[index, len(states)] for index in range(len(states))]:
        raise DataError("data position: give the position of every reader, each once")
    # Readers that are ahead decide where the new ones begin; units that the others have not reached are owed.
    start = max(state["next_draw"] for state in states)
    owed = [[draw, 0, 0] for state in states for draw in range(state["next_draw"], start, len(states))]
    begun = [*(item for state in states for item in state["open"]), *owed]
    buffered = [item for state in states for item in state["buffer"]]
    return [
        {
            **{key: first[key] for key in IDENTITY_KEYS},
            "reader": [index, num_readers],
            "next_draw": start + (index - start) % num_readers,
            "open": begun[index::num_readers],
            "buffer": buffered[index::num_readers],
            "taken": max(state["taken"] for state in states),
        }
        for index in range(num_readers)
    ]


def _random_below(limit: int, *key: int) -> int:
    """A random number that is a function of its key, so that nothing but a count is kept."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % limit
