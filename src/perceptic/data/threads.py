"""Threads that decode beside a model that trains."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import torch

from perceptic.inference.core_share import torch_threads


def decoding_threads(workers: int, name: str) -> ThreadPoolExecutor:
    """A pool whose threads compute on one core each.

    Torch lets every thread that resizes a picture start a team of its own on all cores; with a dozen of them, teams
    wait for each other more than they work.
    """
    executor = ThreadPoolExecutor(workers, thread_name_prefix=name)
    barrier = threading.Barrier(workers)

    def begin(_: int) -> None:
        torch.get_num_threads()  # a thread's first use of torch settles its number of threads
        barrier.wait()

    with torch_threads(1):
        list(executor.map(begin, range(workers)))
    return executor
