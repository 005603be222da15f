"""One process of those that tests of whole runs start: `recipes_worker.py JOBS.json`.

The file lists runs, one after the other: `recipe`, `changes`, `out`, `cache`, the `port` where the processes meet for
it and, where something should happen to one of them, `event`: `rank`, `signal`, and when: behind `step`, or while it
writes its part of the checkpoint `writing`. Each run's exit status goes to `OUT/status-RANK.txt`.

Started like this, runs share the time that importing takes; a launcher would start processes once for each. Tests start
them by `run_jobs`, through the fixture `recipes_worker`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from perceptic.cli.main import run
from perceptic.train import mask_regularisation
from perceptic.train.loop import Trainer
from perceptic.train.sharded_checkpoint import _SummingWriter

Job = dict[str, Any]
"""`recipe` (its text), `changes` and perhaps `event` and `out`."""


def run_jobs(folder: Path, cache: Path, jobs: Mapping[str, Job], count: int = 2) -> list[int]:
    """Run jobs in several processes, each into `folder/NAME` unless it has an `out`; returns how the processes ended.

    What they said is in `folder/log-RANK.txt`.
    """
    plan = []
    for name, job in jobs.items():
        recipe = folder / f"{name}.yaml"
        recipe.write_text(job["recipe"])
        here = {"recipe": str(recipe), "out": str(folder / job.get("out", name)), "cache": str(cache)}
        plan.append({**job, **here, "port": _free_port()})
    (folder / "jobs.json").write_text(json.dumps(plan))
    started = []
    for rank in range(count):
        place = {"RANK": rank, "WORLD_SIZE": count, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": count}
        environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in place.items()}}
        with (folder / f"log-{rank}.txt").open("w") as log:
            command = [sys.executable, __file__, str(folder / "jobs.json")]
            started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT))
    try:
        return [process.wait(timeout=800) for process in started]
    finally:
        for process in started:
            process.kill()


def statuses(out: Path) -> list[int]:
    """With what status each process ended a run."""
    return [int(path.read_text()) for path in sorted(out.glob("status-*.txt"))]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def same_masks(count: int, num_patches: int, ratio: float) -> torch.Tensor:
    """As `draw_masks`, the same for every picture: processes draw their own, and here they must not."""
    hidden = torch.arange(num_patches) % 5 < round(5 * ratio)
    return hidden.expand(count, -1)


@contextmanager
def happening(event: dict[str, Any]) -> Iterator[None]:
    """Send this process a signal at a moment of a run."""
    step, write = Trainer._step, _SummingWriter.write_data

    def happens() -> None:
        os.kill(os.getpid(), signal.Signals[event["signal"]])

    def step_then(self: Any, planned: Any) -> Any:
        metrics = step(self, planned)
        if planned.index == event.get("step"):
            happens()
        return metrics

    def write_then(self: Any, *args: Any) -> Any:
        written = write(self, *args)
        if event.get("writing", "no checkpoint") in str(self.path):
            happens()
        return written

    with mock.patch.object(Trainer, "_step", step_then), mock.patch.object(_SummingWriter, "write_data", write_then):
        yield


def main() -> None:
    warnings.simplefilter("error")
    # Of torch's own, while it compiles.
    warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor that is not a leaf")
    mask_regularisation.draw_masks = same_masks
    rank = os.environ["RANK"]
    for job in json.loads(Path(sys.argv[1]).read_text()):
        os.environ["MASTER_PORT"] = str(job["port"])
        sets = [word for change in job["changes"] for word in ("--set", change)]
        command = ["train", job["recipe"], "--out", job["out"], "--cache", job["cache"], "--workers", "1", *sets]
        event = job.get("event")
        with ExitStack() as held:
            if event is not None and str(event["rank"]) == rank:
                held.enter_context(happening(event))
            status = run(command)
        (Path(job["out"]) / f"status-{rank}.txt").write_text(str(status))


if __name__ == "__main__":
    main()
