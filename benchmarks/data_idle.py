"""How much of a training run is spent waiting for data.

What bounds it. Batches are made by threads while the step before trains, so a step waits only for what making a batch
takes beyond the step's own time, and on one machine without an accelerator both share the cores. The first steps of a
run (and of a phase) find nothing made ahead and are left out.

    python benchmarks/data_idle.py runs/plm-nano                     # a run's metrics.jsonl, of any recipe
    python benchmarks/data_idle.py --recipe nano-core --steps 30     # a short run of its first phase, then the same
    python benchmarks/data_idle.py --stream 'shards/*.tar' --image-size 224   # pairs a second that a stream decodes

Prints one line a phase and JSON last: `idle_share` is the time waited over all time, of the phase's steps.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_SETTLING_STEPS = 3


@dataclass(frozen=True)
class PhaseIdle:
    """Waiting in one phase, the first steps left out."""

    phase: str
    steps: int
    step_seconds: float
    data_seconds: float

    @property
    def idle_share(self) -> float:
        return self.data_seconds / self.step_seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path, help="run folder, or its metrics.jsonl")
    parser.add_argument("--recipe", help="recipe to run for a few steps")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "perceptic" / "data")
    parser.add_argument("--stream", help="tar shards to decode, without a model")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--workers", type=int, default=4)
    options = parser.parse_args()
    if options.stream is not None:
        print(json.dumps(stream_rate(options.stream, options.image_size, options.workers)))
        return
    if options.recipe is not None:
        phases = short_run(options.recipe, options.steps, tuple(options.changes), options.cache)
    elif options.run is not None:
        phases = idle_phases(read_metrics(options.run))
    else:
        parser.error("give a run, --recipe or --stream")
    for phase in phases:
        print(f"{phase.phase}: {phase.steps} steps of {phase.step_seconds / phase.steps:.3f} s, idle "
              f"{phase.idle_share:.1%}")  # fmt: skip
    print(json.dumps({"phases": [{**asdict(phase), "idle_share": phase.idle_share} for phase in phases]}))


def read_metrics(run: Path) -> list[dict[str, Any]]:
    path = run / "metrics.jsonl" if run.is_dir() else run
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def idle_phases(metrics: Sequence[dict[str, Any]]) -> list[PhaseIdle]:
    """Waiting of each phase in order; phases that are not past their first steps are left out."""
    found = []
    for name in dict.fromkeys(line["phase"] for line in metrics):
        steps = [line for line in metrics if line["phase"] == name][_SETTLING_STEPS:]
        if steps:
            seconds, waited = (sum(step[key] for step in steps) for key in ("seconds", "data_seconds"))
            found.append(PhaseIdle(name, len(steps), seconds, waited))
    return found


def short_run(source: str, steps: int, changes: tuple[str, ...], cache: Path) -> list[PhaseIdle]:
    """The recipe's first steps, stopped as Ctrl-C would stop it."""
    import signal

    from perceptic.train.metrics import StepMetrics
    from perceptic.train.recipe import load_recipe
    from perceptic.train.runs import RunCallbacks, train

    def stop_after(metrics: StepMetrics) -> None:
        if metrics.step + 1 == steps:
            signal.raise_signal(signal.SIGINT)

    with tempfile.TemporaryDirectory() as folder:
        train(load_recipe(source, changes), Path(folder), cache, callbacks=RunCallbacks(on_step=stop_after))
        return idle_phases(read_metrics(Path(folder)))


def stream_rate(pattern: str, image_size: int, workers: int, seconds: float = 10.0) -> dict[str, Any]:
    """Pairs a second that a stream gives when nothing else runs."""
    from perceptic import zoo
    from perceptic.data.augmentation import Augmentation
    from perceptic.data.pair_decoder import PairDecoder
    from perceptic.data.stream import StreamBatches, StreamPart, StreamSettings
    from perceptic.data.stream_parts import find_units
    from perceptic.text.clip_tokenizer import ClipTokenizer

    @dataclass(frozen=True)
    class Step:
        image_size: int

    tokenizer = ClipTokenizer.find(zoo.find_card("PE-Core-Nano").folder)
    part = StreamPart("shards", find_units(shards=(pattern,)))
    settings = StreamSettings(batch_size=64, seed=0, workers=workers, skip_limit=None)
    stream = StreamBatches([part], PairDecoder(1, {"short": 1.0}, Augmentation()), tokenizer, settings)

    def timed() -> Iterator[int]:
        stream.batch(Step(image_size))  # fills the buffer
        started = time.perf_counter()
        while time.perf_counter() - started < seconds:
            yield len(stream.batch(Step(image_size)).ids)

    started = time.perf_counter()
    count = sum(timed())
    rate = count / (time.perf_counter() - started)
    stream.close()
    return {"pairs_per_second": round(rate, 1), "workers": workers, "image_size": image_size}


if __name__ == "__main__":
    main()
