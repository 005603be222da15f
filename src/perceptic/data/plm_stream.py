"""An endless stream of packed batches from a mix of row files, whose position can be saved and restored exactly.

The position is the order's state and the draws that were made but not trained on yet, a few hundred at most: those
waiting to be packed and those being decoded. Restoring reads them again.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from perceptic.data.mixing import Draw, DrawOrder
from perceptic.data.packing import PackedBatch, collate, needed_tokens, take_together
from perceptic.data.plm_rows import PlmRow
from perceptic.data.plm_samples import TrainingSample
from perceptic.data.registry import Mix
from perceptic.data.samples import SampleError
from perceptic.data.skipped import SkippedSamples

MakeSample = Callable[[PlmRow, Path, str], TrainingSample]


@dataclass(frozen=True, eq=False)
class DrawnSample:
    """A sample and where it came from."""

    draw: Draw
    sample: TrainingSample


class SampleStream:
    """Samples in the order of their draws; rows that cannot be used are counted and passed over.

    Args:
        order: which rows. make: rows to samples. skipped: counts those that cannot be used.
        workers: threads that decode ahead; 0 decodes when asked. Decoding and resizing release the interpreter's lock.
    """

    def __init__(
        self, mix: Mix, order: DrawOrder, make: MakeSample, skipped: SkippedSamples, *, workers: int = 0
    ) -> None:
        self._mix = mix
        self._order = order
        self._make = make
        self.skipped = skipped
        self._owed: deque[Draw] = deque()
        self._ahead: deque[tuple[Draw, Future[TrainingSample]]] = deque()
        self._room = 2 * workers
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="row-reader") if workers else None

    def next(self) -> DrawnSample:
        """The next sample. Raises DataError once too many rows could not be used."""
        while True:
            draw, result = self._next_result()
            if isinstance(result, TrainingSample):
                return DrawnSample(draw, result)
            self.skipped.note(result)

    def state(self, waiting: Sequence[Draw] = ()) -> dict[str, Any]:
        """Plain JSON values from which `restore` goes on exactly.

        Args:
            waiting: of samples that were handed out and not used yet; they come again first.
        """
        owed = [*waiting, *(draw for draw, _ in self._ahead), *self._owed]
        return {
            "order": self._order.state(),
            "owed": [[draw.row_set, draw.row] for draw in owed],
            "skipped": dict(self.skipped.counts),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state. Raises DataError if it is of other data."""
        self._order.restore(state["order"])
        self._cancel()
        self._owed = deque(Draw(row_set, row) for row_set, row in state["owed"])
        self.skipped.counts = Counter(state["skipped"])

    def close(self) -> None:
        """Stop the threads."""
        self._cancel()
        if self._executor is not None:
            self._executor.shutdown(wait=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _next_result(self) -> tuple[Draw, TrainingSample | SampleError]:
        if self._executor is None:
            draw = self._next_draw()
            return draw, _result(lambda: self._read(draw))
        while len(self._ahead) < self._room:
            draw = self._next_draw()
            self._ahead.append((draw, self._executor.submit(self._read, draw)))
        draw, future = self._ahead.popleft()
        return draw, _result(future.result)

    def _next_draw(self) -> Draw:
        return self._owed.popleft() if self._owed else self._order.next()

    def _read(self, draw: Draw) -> TrainingSample:
        rows = self._mix.row_sets[draw.row_set]
        return self._make(rows.row(draw.row), rows.root, rows.where(draw.row))

    def _cancel(self) -> None:
        for _, future in self._ahead:
            future.cancel()
        self._ahead.clear()


def _result(read: Callable[[], TrainingSample]) -> TrainingSample | SampleError:
    try:
        return read()
    except SampleError as error:
        return error


@dataclass(frozen=True)
class PackingSettings:
    """How samples become batches.

    Attributes:
        num_sequences: of a batch (B). num_tokens: of a sequence, at most (L).
        window: samples considered for a sequence; more waste less room and hold more pictures in memory.
        pad_id: token id that fills the rest.
    """

    num_sequences: int
    num_tokens: int
    pad_id: int
    window: int = 64


class PackedStream:
    """Batches of packed samples, for ever."""

    def __init__(self, samples: SampleStream, settings: PackingSettings) -> None:
        self._samples = samples
        self._settings = settings
        self._waiting: list[DrawnSample] = []

    def next(self) -> PackedBatch:
        """The next batch. Raises DataError once too many rows could not be used."""
        settings = self._settings
        sequences = []
        for _ in range(settings.num_sequences):
            while len(self._waiting) < settings.window:
                self._waiting.append(self._samples.next())
            taken = take_together(self._waiting, lambda drawn: drawn.sample.num_inputs, settings.num_tokens)
            sequences.append([drawn.sample for drawn in taken])
        return collate(sequences, needed_tokens(sequences, settings.num_tokens), settings.pad_id)

    def state(self) -> dict[str, Any]:
        """Plain JSON values from which `restore` goes on exactly."""
        return self._samples.state([drawn.draw for drawn in self._waiting])

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state. Raises DataError if it is of other data."""
        self._waiting = []
        self._samples.restore(state)
