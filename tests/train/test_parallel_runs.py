"""`perceptic train` under torchrun: the losses of one process, resumed after SIGKILL, on two machines that are one."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from perceptic.train import runs
from perceptic.train.recipe import load_recipe

pytestmark = pytest.mark.timeout(1200)

PLM_RECIPE = """
name: tiny-plm
objective: plm
model: PLM-Nano
model_overrides: {decoder: {dim: 32, n_layers: 1, multiple_of: 32}, vision: {width: 48, layers: 1}}
threads: 1
data: {world: {images: 12, videos: 2, seed: 0}}
optimizer: {name: adamw, betas: [0.9, 0.95], eps: 1.0e-8, weight_decay: 0.05, clip_norm: 1.0}
checkpoint: {every_steps: 2, keep: 2}
phases:
  - {name: align, stage: 1, mix: "world_image:1", steps: 3, learning_rate: 1.0e-3, warmup_steps: 1,
     max_tokens: 256, num_sequences: 2, window: 4, workers: 0}
  - {name: all, stage: 2, mix: "world_image:1,world_text:1", steps: 3, learning_rate: 1.0e-3, warmup_steps: 1,
     max_tokens: 256, num_sequences: 2, window: 4, workers: 0,
     stage_overrides: {vision_input_type: vanilla, max_num_tiles: 1, drop_path: 0.0}}
"""


def train(
    recipe: Path, out: Path, cache: Path, processes: int = 2, *changes: str, launcher: tuple[str, ...] = ()
) -> subprocess.Popen[str]:
    """`perceptic train` by itself or under torchrun, in a session of its own so that all of it can be killed."""
    sets = [word for change in changes for word in ("--set", change)]
    command = ["-m", "perceptic", "train", str(recipe), "--out", str(out), "--cache", str(cache), "--workers=1", *sets]
    if processes > 1:
        place = launcher or ("--standalone",)
        command = ["-m", "torch.distributed.run", *place, f"--nproc-per-node={processes}", *command]
    return subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for the end of a run that must not fail; returns what it said."""
    try:
        output, _ = process.communicate(timeout=550)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, output[-4000:]
    return output


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


def kill_after(process: subprocess.Popen[str], out: Path, step: str) -> None:
    """SIGKILL to the launcher and all its processes as soon as a checkpoint is there."""
    deadline = time.monotonic() + 400
    while not (out / "checkpoints" / step).exists():
        assert process.poll() is None, process.communicate()[0][-4000:]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    # torchrun gives its workers sessions of their own.
    children = _descendants(process.pid)
    for pid in (process.pid, *children):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.communicate()


def _descendants(pid: int) -> list[int]:
    """Processes below one, from /proc."""
    parents: dict[int, int] = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            found = re.search(r"^PPid:\s+(\d+)", status.read_text(), re.MULTILINE)
            if found:
                parents[int(status.parent.name)] = int(found[1])
    below = [child for child, parent in parents.items() if parent == pid]
    return [*below, *(deeper for child in below for deeper in _descendants(child))]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="finds processes through /proc")
def test_two_processes_killed_and_resumed_have_the_losses_of_one(
    recipe_path: Path, data_cache: Path, tmp_path: Path
) -> None:
    """Also: one process goes on with what two have written, and says what is approximate."""
    killed, alone = tmp_path / "killed", tmp_path / "alone"
    kill_after(train(recipe_path, killed, data_cache), killed, "step-0000003")
    finish(train(recipe_path, killed, data_cache))
    runs.train(load_recipe(recipe_path), alone, data_cache)
    assert losses(killed) == pytest.approx(losses(alone), abs=1e-4)
    assert (killed / "model" / "model.safetensors").exists()
    again = runs.train(load_recipe(recipe_path), killed, data_cache)
    assert "saved by 2 processes and resumed by 1" in again.warnings[0]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="finds processes through /proc")
def test_a_language_model_killed_and_resumed_goes_on_to_the_bit(tmp_path: Path) -> None:
    """Two phases, two processes; batches come from streams whose position each process saves."""
    recipe, cache = tmp_path / "plm.yaml", tmp_path / "cache"
    recipe.write_text(PLM_RECIPE)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(train(recipe, whole, cache))
    kill_after(train(recipe, killed, cache), killed, "step-0000002")
    finish(train(recipe, killed, cache))
    assert losses(killed) == losses(whole)
    assert len(losses(whole)) == 6
    assert (killed / "model" / "config.json").exists()


@pytest.mark.slow
def test_two_machines_of_two_processes(recipe_path: Path, data_cache: Path, tmp_path: Path) -> None:
    """Two torchrun agents that meet at one endpoint, each for a machine: model whole on each, split within."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{listener.getsockname()[1]}"
    both, alone = tmp_path / "both", tmp_path / "alone"
    agents = [
        train(
            recipe_path, both, data_cache, 2,
            launcher=("--nnodes=2", f"--node-rank={node}", "--rdzv-backend=c10d", f"--rdzv-endpoint={endpoint}",
                      "--rdzv-id=two", "--local-addr=127.0.0.1"),
        )
        for node in range(2)
    ]  # fmt: skip
    for agent in agents:
        finish(agent)
    runs.train(load_recipe(recipe_path), alone, data_cache)
    assert losses(both) == pytest.approx(losses(alone), abs=1e-4)


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_at_the_same_step(
    recipe_path: Path, data_cache: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    process = train(recipe_path, out, data_cache, 2, "phases.0.stages.1.steps=2000")
    deadline = time.monotonic() + 400
    while not (out / "metrics.jsonl").exists() or len(losses(out)) < 2:
        assert process.poll() is None, process.communicate()[0][-4000:]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    workers = [pid for pid in _descendants(process.pid) if b"train" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(max(workers), signal.SIGUSR1)
    output, _ = process.communicate(timeout=400)
    assert "Stopped by SIGUSR1" in output  # torchrun itself ends with 1, whatever its processes ended with
    assert process.returncode == 1
    step = len(losses(out))
    assert (out / "checkpoints" / f"step-{step:07d}" / "run.json").exists()
