"""One of several processes is told to stop, or dies: all stop at the same step or none hangs, and nothing is lost."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from perceptic.train import runs
from perceptic.train.recipe import load_recipe

pytestmark = pytest.mark.timeout(900)

RECIPE = """
name: stopped
model: PE-Core-Nano
model_overrides:
  vision: {width: 32, layers: 1, heads: 2, output_dim: 16, attn_pooler_heads: 2}
  text: {width: 32, layers: 1, heads: 2, output_dim: 16, vocab_size: 600}
threads: 1
mask: {share: 0.5}
data:
  images: {source: world-images, count: 40, seed: 5}
tokenizer: {data: images, num_samples: 40}
optimizer: {name: adamw, weight_decay: 0.05, clip_norm: 1.0}
average: {decay: 0.9}
checkpoint: {every_steps: 2, keep: 2}
phases:
  - {name: images, data: images, batch_size: 8, learning_rate: 0.003, warmup_steps: 1,
     stages: [{image_size: 16, steps: 6}]}
"""

SIGNALS = ("SIGTERM", "SIGUSR1", "SIGINT")


def job(**more: object) -> dict[str, object]:
    return {"recipe": RECIPE, "changes": (), **more}


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


def names(out: Path) -> list[str]:
    return sorted(path.name for path in (out / "checkpoints").iterdir())


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory, data_cache: Path, recipes_worker: ModuleType) -> Path:
    """A whole run; and for each signal one that the second of two processes was sent, behind its third step."""
    folder = tmp_path_factory.mktemp("stopped")
    events = {name: {"rank": 1, "signal": name, "step": 2} for name in SIGNALS}
    jobs = {"whole": job(), **{name: job(event=event) for name, event in events.items()}}
    assert recipes_worker.run_jobs(folder, data_cache, jobs) == [0, 0], (folder / "log-0.txt").read_text()[-3000:]
    return folder


@pytest.fixture(scope="module")
def first_log(stopped: Path) -> str:
    """What the first process said of these runs."""
    return (stopped / "log-0.txt").read_text()


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_to_one_process_stops_all_behind_the_same_step(
    stopped: Path, first_log: str, recipes_worker: ModuleType, name: str
) -> None:
    assert recipes_worker.statuses(stopped / name) == [130, 130]
    assert losses(stopped / name) == losses(stopped / "whole")[:3]
    assert names(stopped / name) == ["step-0000002", "step-0000003"]
    assert not (stopped / name / "model").exists()
    assert f"Stopped by {name} at step 3, saved." in first_log


def test_stopped_runs_go_on_to_the_bit(stopped: Path, data_cache: Path, recipes_worker: ModuleType) -> None:
    """Masks are random: generators go on where they were too."""
    jobs = {f"{name} again": job(out=name) for name in SIGNALS}
    assert recipes_worker.run_jobs(stopped, data_cache, jobs) == [0, 0], (stopped / "log-0.txt").read_text()[-3000:]
    wanted = (stopped / "whole" / "model" / "model.safetensors").read_bytes()
    for name in SIGNALS:
        assert recipes_worker.statuses(stopped / name) == [0, 0]
        assert losses(stopped / name) == losses(stopped / "whole")
        assert (stopped / name / "model" / "model.safetensors").read_bytes() == wanted


@pytest.mark.parametrize(
    "event",
    [
        {"rank": 1, "signal": "SIGKILL", "writing": "step-0000004"},
        pytest.param({"rank": 0, "signal": "SIGKILL", "writing": "step-0000004"}, marks=pytest.mark.slow),
        pytest.param({"rank": 1, "signal": "SIGKILL", "step": 4}, marks=pytest.mark.slow),
        pytest.param({"rank": 0, "signal": "SIGKILL", "step": 4}, marks=pytest.mark.slow),
    ],
)
def test_a_process_that_dies_ends_the_others_and_leaves_whole_checkpoints(
    data_cache: Path, tmp_path: Path, recipes_worker: ModuleType, event: dict[str, object]
) -> None:
    """Nobody waits for it, and the run goes on from the newest checkpoint that all have written: the last one may have
    been on its way to disk."""
    ends = recipes_worker.run_jobs(tmp_path, data_cache, {"run": job(event=event)})
    assert ends == [0 if rank != event["rank"] else -9 for rank in range(2)]
    assert recipes_worker.statuses(tmp_path / "run") == [1]
    said = re.sub(r"\s+", " ", "".join((tmp_path / f"log-{rank}.txt").read_text() for rank in range(2)))
    assert "another process has ended or cannot be reached" in said
    whole = [name for name in names(tmp_path / "run") if not name.startswith(".")]
    assert whole == ["step-0000002"] or (whole == ["step-0000002", "step-0000004"] and "step" in event)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    before = losses(tmp_path / "run")
    runs.train(
        load_recipe(tmp_path / "recipe.yaml"), tmp_path / "run", data_cache
    )  # one process, with masks of its own
    after = losses(tmp_path / "run")
    step = int(whole[-1].removeprefix("step-"))
    assert after[:step] == before[:step]
    assert len(after) == 6
    assert not [name for name in names(tmp_path / "run") if name.startswith(".")]
