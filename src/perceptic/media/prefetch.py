"""Decode files in threads ahead of whoever uses them, so that decoding and the model work at the same time.

Physics: decoding and resizing release the interpreter's lock, so threads run on several cores without copying pictures
between processes. What is decoded but not yet used is bounded: a slow model does not fill the memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Generic, TypeVar

from perceptic.errors import ConfigError, MediaError
from perceptic.media.collection import MediaFile
from perceptic.media.cores import usable_cores

ValueT = TypeVar("ValueT")


@dataclass(frozen=True)
class Decoded(Generic[ValueT]):
    """A file and what it was decoded to."""

    file: MediaFile
    value: ValueT


@dataclass(frozen=True)
class Failure:
    """A file that could not be read, and why. A value, so that one bad file does not end a long run."""

    file: MediaFile
    error: MediaError


def decode_stream(
    files: Iterable[MediaFile],
    decode: Callable[[MediaFile], ValueT],
    *,
    workers: int | None = None,
    ahead: int | None = None,
    ordered: bool = True,
) -> Generator[Decoded[ValueT] | Failure, None, None]:
    """Apply `decode` to every file in `workers` threads.

    Args:
        files: taken one by one as room becomes free, so it may be endless.
        decode: runs in a thread; a `MediaError` it raises becomes a `Failure`, any other exception ends the stream.
        workers: threads; the number of usable cores unless given.
        ahead: how many files may be decoded or in work and not yet taken; four per worker unless given.
        ordered: results in the order of `files`; otherwise as they are ready, which keeps a video that takes long
            from holding up the pictures behind it.

    Yields:
        One `Decoded` or `Failure` for each file. Closing the generator drops what has not begun.

    Raises:
        ConfigError: fewer than one worker, or room for fewer files than workers.
    """
    threads = workers if workers is not None else usable_cores()
    room = ahead if ahead is not None else 4 * threads
    if threads < 1 or room < threads:
        raise ConfigError(f"workers={threads} must be at least 1 and ahead={room} at least as many")
    return _stream(iter(files), decode, threads, room, ordered)


def _stream(
    files: Iterator[MediaFile], decode: Callable[[MediaFile], ValueT], workers: int, room: int, ordered: bool
) -> Generator[Decoded[ValueT] | Failure, None, None]:
    def work(file: MediaFile) -> Decoded[ValueT] | Failure:
        try:
            return Decoded(file, decode(file))
        except MediaError as error:
            return Failure(file, error)

    executor = ThreadPoolExecutor(workers, thread_name_prefix="media-decoder")
    pending: deque[Future[Decoded[ValueT] | Failure]] = deque()
    try:
        for file in files:
            pending.append(executor.submit(work, file))
            if len(pending) >= room:
                yield _next_result(pending, ordered)
        while pending:
            yield _next_result(pending, ordered)
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _next_result(pending: deque[Future[ValueT]], ordered: bool) -> ValueT:
    if not ordered:
        wait(pending, return_when=FIRST_COMPLETED)
        ready = next(position for position, future in enumerate(pending) if future.done())
        pending.rotate(-ready)
        first = pending.popleft()
        pending.rotate(ready)
        return first.result()
    return pending.popleft().result()
