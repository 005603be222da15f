"""Memory and time of the contrastive loss over the batch of several processes: gathered features, and rounds.

What bounds it. With B pairs in each of P processes, every process scores B x PB pairs. Kept whole, as the naive loss
keeps them (and their softmax and gradient), that is three or more matrices of 4PB^2 bytes: at B = 4,096 and P = 8,
512 MiB each, where the features of a process are 4 to 32 MiB. `train.global_loss` makes a few rows of scores at a time,
and texts come to each process in rounds of a quarter of its own, so that what is left is the features' own size:
gradients of both sides (once the features), the texts of a round and their gradient (a quarter), and some MiB of
scores. It pays by computing scores twice, in the forward and in the backward pass.

Processes are simulated: one process plays rank 0, and the texts of the others are random numbers made where the
exchange would write them, so memory is what a process of eight has. Memory is the peak of the resident set of a fresh
process over that before; the C library is told to give back what is freed, so that what counts is what is in use.

"So many times the features" can be read in four ways, and all are printed, as multiples:
    all         features, their gradients and the loss's own, of this process's features. The first two are 2.0 already
    loss        all but the features, which were there before: their gradients and the loss's own
    own         the loss's own: what is there for a moment only
    gathered    all, of the features of all processes, as a loss that gathers them would keep

    python benchmarks/contrastive_memory.py                      # a minute or two on one core
    python benchmarks/contrastive_memory.py --naive              # the naive loss too: 2 GiB
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import time
from multiprocessing.connection import Connection
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor

from perceptic.train import global_loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4096, help="of a process")
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--width", type=int, default=1024, help="of an embedding")
    parser.add_argument("--naive", action="store_true", help="also keep all scores, as autograd does")
    options = parser.parse_args()
    size = (options.batch, options.processes, options.width)
    features = 2 * options.batch * options.width * 4
    rows = {"info_nce": measure("info_nce", *size), "sigmoid_pairs": measure("sigmoid_pairs", *size)}
    if options.naive:
        rows["naive"] = measure("naive", *size)
    print(f"{'loss':15}{'peak MiB':>10}{'all':>8}{'loss':>8}{'own':>8}{'gathered':>10}{'seconds':>9}")
    for name, row in rows.items():
        times = row["peak_bytes"] / features
        readings = {"all": times, "loss": times - 1, "own": times - 2, "gathered": times / options.processes}
        row.update(readings)
        figures = "".join(f"{readings[key]:8.2f}" for key in ("all", "loss", "own"))
        print(
            f"{name:15}{row['peak_bytes'] / 2**20:10.0f}{figures}{times / options.processes:10.2f}{row['seconds']:9.1f}"
        )
    summary = {"batch": options.batch, "processes": options.processes, "width": options.width}
    print(json.dumps({**summary, "feature_bytes": features, "threads": torch.get_num_threads(), "losses": rows}))


def measure(name: str, batch: int, processes: int, width: int) -> dict[str, float]:
    """One loss, forward and backward, in a process of its own."""
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"  # read by glibc as the process starts
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(name, batch, processes, width, torch.get_num_threads(), sender))
    process.start()
    found: dict[str, float] = receiver.recv()
    process.join()
    return found


def _run(name: str, batch: int, processes: int, width: int, threads: int, sender: Connection) -> None:
    torch.set_num_threads(threads)
    _loss(name, 8, processes, width)  # what libraries allocate once
    before = _peak()
    started = time.perf_counter()
    _loss(name, batch, processes, width)
    sender.send({"peak_bytes": _peak() - before, "seconds": time.perf_counter() - started})


def _loss(name: str, batch: int, processes: int, width: int) -> None:
    media, texts = (_features(batch, width) for _ in range(2))
    scale, bias = torch.tensor(10.0, requires_grad=True), torch.tensor(-10.0, requires_grad=True)
    with mock.patch.multiple(
        global_loss,
        _count=lambda group: processes,
        _rank=lambda group: 0,
        _all_gather=lambda x, group: _gathered(x, processes),
        _reduce_scatter=lambda x, group: x[: len(x) // processes].clone(),
        _all_mean=lambda value, group: value,
        _all_logsumexp=lambda x, group: x,
    ):
        if name == "naive":
            logits = scale * media @ _gathered(texts, processes).T
            own = torch.arange(batch)
            # Rows, and the columns of this process's texts against the media of all.
            others = scale * texts @ _gathered(media, processes).T
            loss = (F.cross_entropy(logits, own) + F.cross_entropy(others, own)) / 2
        elif name == "info_nce":
            loss = global_loss.info_nce(media, texts, scale).loss
        else:
            loss = global_loss.sigmoid_pairs(media, texts, scale, bias).loss
    with mock.patch.multiple(
        global_loss,
        _count=lambda group: processes,
        _rank=lambda group: 0,
        _all_gather=lambda x, group: _gathered(x, processes),
        _reduce_scatter=lambda x, group: x[: len(x) // processes].clone(),
    ):
        loss.backward()


def _features(batch: int, width: int) -> Tensor:
    x = torch.randn(batch, width)
    return x.div_(x.norm(dim=1, keepdim=True)).requires_grad_()


def _gathered(x: Tensor, processes: int) -> Tensor:
    """This process's rows, and made-up ones of the others."""
    everything = torch.empty(processes * len(x), *x.shape[1:])
    everything[len(x) :].normal_(std=x.shape[1] ** -0.5)
    everything[: len(x)] = x.detach()
    return everything


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
