"""How many cores a model should take while other threads decode for it on the same processor.

Physics: a parallel matrix product ends when its slowest part ends. With decoders on every core, one of its threads is
always waiting for a time slice, and the others spin: on 4 cores beside 4 decoders, embedding with PE-Core-Nano on 4
threads cost 125 ms of processor time a picture, decoding included; on one thread it cost 38 ms and was three times as
fast. A small model keeps up with the decoders on one core. A large one does not: then the decoders wait, their cores
are free, and taking them pays.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

_BATCHES_PER_TRIAL = 3  # the first still sees what the last number of threads left behind
_WORTH_IT = 1.05
_KEEPS_UP = 0.1


class CoreShare:
    """Finds the number of threads by doubling it as long as that brings more pictures a second.

    Attributes:
        threads: how many to use for the next batch.
    """

    def __init__(self, cores: int, start: int = 1) -> None:
        self.threads = min(start, cores)
        self._cores = cores
        self._settled = self.threads == cores
        self._best_rate = 0.0
        self._begin_trial()

    def record(self, num_pictures: int, waited_seconds: float, computed_seconds: float) -> None:
        """Take note of a batch: how long the model waited for it, and how long it computed."""
        if self._settled:
            return
        self._batches += 1
        if self._batches == 1:
            return
        self._pictures += num_pictures
        self._waited += waited_seconds
        self._computed += computed_seconds
        if self._batches == _BATCHES_PER_TRIAL:
            self._judge()

    def _judge(self) -> None:
        rate = self._pictures / max(self._waited + self._computed, 1e-9)
        if rate < _WORTH_IT * self._best_rate:
            self.threads = max(1, self.threads // 2)
            self._settled = True
        elif self._waited > _KEEPS_UP * self._computed or self.threads == self._cores:
            self._settled = True  # decoding is the slower half, or there is nothing left to take
        else:
            self._best_rate = rate
            self.threads = min(2 * self.threads, self._cores)
            self._begin_trial()

    def _begin_trial(self) -> None:
        self._batches = 0
        self._pictures = 0
        self._waited = 0.0
        self._computed = 0.0


@contextlib.contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Let torch use this many threads in here. Threads that first use torch meanwhile take the number over."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
