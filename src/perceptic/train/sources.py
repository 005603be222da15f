"""Where the loop gets its batches from."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from perceptic.data.skipped import SkippedSamples
from perceptic.errors import DataError
from perceptic.train.parallel import Processes
from perceptic.train.plan import PlannedStep

BatchT_co = TypeVar("BatchT_co", covariant=True)
BatchT = TypeVar("BatchT")


class BatchSource(Protocol[BatchT_co]):
    """Batches of one phase, on the device that trains."""

    def batch(self, planned: PlannedStep) -> BatchT_co:
        """The next one; called once per micro-batch, in order."""

    def state(self) -> dict[str, Any]:
        """Plain JSON values from which `restore` goes on exactly; {} where batches are functions of the step."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state. Raises DataError if it is of other data."""

    @property
    def skipped(self) -> SkippedSamples | None:
        """What this process could not use so far; None where everything can be."""

    def figures(self, planned: PlannedStep) -> dict[str, float]:
        """What else a step's report should say of the data."""

    def close(self) -> None:
        """Stop what runs in the background."""


def require_few_skipped(skipped: SkippedSamples | None, total: int, processes: Processes) -> None:
    """That all processes together have not passed over more samples than the limit. All must ask.

    Args:
        skipped: of this process. total: of all of them, the same in each.

    Raises:
        DataError: they have; the same in every process, with everyone's reasons.
    """
    if skipped is None or not skipped.is_over(total):
        return
    everyone = SkippedSamples(skipped.limit)
    for counts in processes.gather(skipped.counts):
        everyone.counts.update(counts)
    raise DataError(f"{everyone.describe()} ({processes.count} processes)")


class Stream(Protocol[BatchT_co]):
    """An endless sequence of batches with a position."""

    def next(self) -> BatchT_co: ...

    def state(self) -> dict[str, Any]: ...

    def restore(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class _Made(Generic[BatchT]):
    """A batch, and the stream's position behind it."""

    batch: BatchT
    state: dict[str, Any]


class AheadOfTime(Generic[BatchT]):
    """Makes the next `depth` batches of a stream in a thread while a step trains.

    The position it reports is that behind the last batch handed out, so what was made ahead is made again on resume.
    """

    def __init__(self, stream: Stream[BatchT], depth: int = 1) -> None:
        self._stream = stream
        self._depth = depth
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="batch-maker")
        self._ahead: deque[Future[_Made[BatchT]]] = deque()
        self._state = stream.state()

    def next(self) -> BatchT:
        """The next batch. Raises what the stream raises."""
        self._fill(max(1, self._depth))
        made = self._ahead.popleft().result()
        self._state = made.state
        self._fill(self._depth)
        return made.batch

    def state(self) -> dict[str, Any]:
        return self._state

    def restore(self, state: dict[str, Any]) -> None:
        self._cancel()
        self._stream.restore(state)
        self._state = state

    def close(self) -> None:
        """Stop the thread; the batch being made is waited for."""
        self._cancel()
        self._executor.shutdown(wait=True)

    def _fill(self, depth: int) -> None:
        while len(self._ahead) < depth:
            self._ahead.append(self._executor.submit(self._make))

    def _make(self) -> _Made[BatchT]:
        batch = self._stream.next()
        return _Made(batch, self._stream.state())

    def _cancel(self) -> None:
        for future in self._ahead:
            future.cancel()
        wait(future for future in self._ahead if not future.cancelled())
        self._ahead.clear()
