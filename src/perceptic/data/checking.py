"""Reading everything once in several processes: work cut into pieces, results in order, an interruption kept short."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

import torch

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")

_work: Callable[[Any], Any]


def results(work: Callable[[TaskT], ResultT], tasks: Sequence[TaskT], jobs: int) -> Iterator[ResultT]:
    """What `work` makes of each task, in order.

    Whatever ends it early, Ctrl-C first of all, ends the processes at once, in the midst of their work: a task may be a
    whole shard.

    Args:
        work: pickled once for each process; changes nothing. jobs: processes; 1 works in this one.
    """
    if jobs <= 1 or len(tasks) <= 1:
        yield from map(work, tasks)
        return
    # Spawned, not forked: the parent may already hold torch's threads.
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    executor = ProcessPoolExecutor(min(jobs, len(tasks)), mp_context=context, initializer=_begin, initargs=(work,))
    try:
        with _interrupts_deferred():
            found = executor.map(_run, tasks)
        yield from found
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _interrupts_deferred() -> Iterator[None]:
    """Processes that start in here never see Ctrl-C, which reaches all of a terminal: the parent decides what it means,
    as soon as they have started."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "pthread_sigmask"):
        yield  # only the main thread may change it, and only there does Ctrl-C arrive
        return
    seen: list[int] = []
    # The mask is what processes inherit; the handler is for signals that another thread of this one takes.
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, before)
    if seen:
        raise KeyboardInterrupt


def _begin(work: Callable[[Any], Any]) -> None:
    global _work
    torch.set_num_threads(1)  # the processes share the cores already
    _work = work


def _run(task: Any) -> Any:
    return _work(task)


def spread(count: int, length: int) -> frozenset[int]:
    """`count` numbers below `length`, evenly spread from 0 on; all of them if there are fewer."""
    wanted = min(count, length)
    return frozenset(number * length // wanted for number in range(wanted))
