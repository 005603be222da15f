"""Steps per second of `perceptic train` on a processor: one process of N threads, and N processes of one thread.

A small model's products are too small to be shared out among threads, and what lies between them runs on one. Processes
share the sequences of a step instead and average their gradients (Gloo). Both train PLM-Nano with the same recipe on
the same rows, by turns; the first steps of each run, in which layers are compiled, do not count. A ratio is the median
over rounds.

    python benchmarks/train_processes.py                # about 7 minutes on 4 cores
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

WARM_UP, STEPS = 10, 20
MIX = "world_image_drill:4,world_image_names:2,world_region_drill:4,world_image:1,world_video_places:2,world_words:1"
PHASE = {
    "name": "measured",
    "stage": 3,
    "stage_overrides": {
        "freeze_vision": True, "freeze_decoder": False, "layer_scale_init": None, "drop_path": 0.0, "pooling_ratio": 1,
        "vision_input_type": "vanilla", "max_num_tiles": 1, "max_video_frames": 8, "template": "plm_sft",
    },
    "mix": MIX,
    "steps": WARM_UP + STEPS,
    "learning_rate": 1.0e-4,
    "num_sequences": 4,
    "max_tokens": 1024,
    "window": 64,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=4, choices=(2, 4), help="threads, or processes")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    rates: dict[str, list[float]] = {"threads": [], "processes": []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.rounds):
            for name, seen in rates.items():
                seen.append(tokens_per_second(Path(folder), f"{name}-{number}", options.count, name == "processes"))
                print(f"{options.count} {name}: {seen[-1]:,.0f} tokens/s", flush=True)
    ratio = statistics.median(a / b for a, b in zip(rates["processes"], rates["threads"], strict=True))
    print(f"{options.count} processes of one thread are {ratio:.2f} times as fast as one of {options.count} threads")
    print(json.dumps({"count": options.count, "tokens_per_second": rates, "ratio": ratio}))


def tokens_per_second(folder: Path, name: str, count: int, in_processes: bool) -> float:
    """Of a run's steps behind the first."""
    changes = [
        f"phases=[{json.dumps(PHASE)}]",
        "data={world: {images: 400, videos: 60, seed: 1}}",
        "init=PLM-Nano", "vision_init=null", "mimetic_attention=false", "threads=0", "parallel={shard: none}",
    ]  # fmt: skip
    settings = [argument for change in changes for argument in ("--set", change)]
    subprocess.run(
        [
            sys.executable, "-m", "perceptic", "train", "plm-nano", *settings, "--out", str(folder / name),
            "--cache", str(folder / "cache"), "--processes", str(count if in_processes else 1),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1" if in_processes else str(count)},
    )  # fmt: skip
    lines = (folder / name / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [json.loads(line) for line in lines][WARM_UP:]
    return float(sum(step["tokens"] for step in steps) / sum(step["seconds"] for step in steps))


if __name__ == "__main__":
    main()
