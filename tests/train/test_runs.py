"""Whole runs: the losses of ten steps, exact resume after a stop and after SIGKILL, a model folder at the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml

from perceptic.errors import OutputError, TrainError
from perceptic.tasks.file_lock import exclusive_lock
from perceptic.train.checkpoint import CheckpointFolder
from perceptic.train.recipe import load_recipe
from perceptic.train.runs import RunCallbacks, train
from perceptic.weights.pretrained import load_bundle

GOLDEN_LOSSES = [3.96112, 3.73399, 4.0149, 2.32909, 2.65761, 2.15417, 2.15791, 1.63417, 1.46915, 1.51497]


def losses(out):
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


def final_state(out):
    return CheckpointFolder(out / "checkpoints").newest().state


def assert_same_end(one, two):
    first, second = final_state(one), final_state(two)
    assert first.step == second.step
    assert all(torch.equal(first.model[name], second.model[name]) for name in first.model)
    torch.testing.assert_close(first.optimizer, second.optimizer, rtol=0, atol=0)
    assert torch.equal(first.random_state, second.random_state)
    assert losses(one) == losses(two)


class StopAfter:
    """Sends this process a signal after a step, as a terminal or a scheduler does."""

    def __init__(self, step, number=signal.SIGTERM):
        self.step, self.number = step, number

    def __call__(self, metrics):
        if metrics.step == self.step:
            os.kill(os.getpid(), self.number)


def test_ten_steps_have_their_losses(recipe_path, data_cache, tmp_path):
    train(load_recipe(recipe_path), tmp_path / "run", data_cache)
    assert losses(tmp_path / "run") == pytest.approx(GOLDEN_LOSSES, rel=2e-3)


def test_two_processes_never_train_in_one_folder(recipe_path, data_cache, tmp_path):
    with (
        exclusive_lock(tmp_path / "run" / ".lock", "held by the test"),
        pytest.raises(OutputError, match="another process"),
    ):
        train(load_recipe(recipe_path), tmp_path / "run", data_cache)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_another_seed_has_other_losses(recipe_path, data_cache, tmp_path):
    train(load_recipe(recipe_path, ("seed=1",)), tmp_path / "run", data_cache)
    assert losses(tmp_path / "run") != pytest.approx(GOLDEN_LOSSES, rel=2e-3)


@pytest.mark.parametrize(("step", "number"), [(1, signal.SIGTERM), (4, signal.SIGINT), (7, signal.SIGTERM)])
def test_a_stopped_run_goes_on_to_the_same_bits(recipe_path, data_cache, tmp_path, step, number):
    recipe = load_recipe(recipe_path)
    train(recipe, tmp_path / "whole", data_cache)
    stopped = train(recipe, tmp_path / "parts", data_cache, callbacks=RunCallbacks(on_step=StopAfter(step, number)))
    assert (stopped.outcome, stopped.next_step, stopped.model_folder) == ("interrupted", step + 1, None)
    starts = []
    torch.rand(7)  # whatever happened in between must not matter
    finished = train(recipe, tmp_path / "parts", data_cache, callbacks=RunCallbacks(on_start=starts.append))
    assert starts == [step + 1]
    assert finished.outcome == "finished"
    assert_same_end(tmp_path / "whole", tmp_path / "parts")


def test_a_killed_process_resumes_to_the_same_bits(recipe_path, data_cache, tmp_path):
    train(load_recipe(recipe_path), tmp_path / "whole", data_cache)
    out = tmp_path / "killed"
    arguments = ["train", str(recipe_path), "--out", str(out), "--cache", str(data_cache), "--workers", "1"]
    program = [sys.executable, "-m", "perceptic.cli.main", *arguments]
    process = subprocess.Popen(program, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (out / "metrics.jsonl").exists() or len((out / "metrics.jsonl").read_text().splitlines()) < 5:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.kill()
    process.wait()
    subprocess.run(program, check=True, capture_output=True)
    assert_same_end(tmp_path / "whole", out)


def test_the_model_folder_loads_and_has_the_trained_weights(recipe_path, data_cache, tmp_path):
    result = train(load_recipe(recipe_path), tmp_path / "run", data_cache)
    bundle = load_bundle(str(result.model_folder))
    trained = final_state(tmp_path / "run").model
    for name, value in bundle.model.state_dict().items():
        assert torch.equal(value.to(torch.bfloat16), trained[name].to(torch.bfloat16)), name
    assert bundle.preprocessing.image_size == 64
    assert bundle.tokenizer.vocab_size == 600
    assert bundle.tokenizer(["a red circle"]).shape == (1, 64)


def test_another_recipe_in_the_same_folder_is_refused(recipe_path, data_cache, tmp_path):
    out = tmp_path / "run"
    train(load_recipe(recipe_path, ("phases.1.stages.0.steps=1",)), out, data_cache)
    with pytest.raises(TrainError, match=r"another recipe \(seed, phases differ\)"):
        train(load_recipe(recipe_path, ("seed=3",)), out, data_cache)
    result = train(load_recipe(recipe_path), out, data_cache, fresh=True)
    assert losses(out) == pytest.approx(GOLDEN_LOSSES, rel=2e-3)
    assert result.outcome == "finished"


def test_a_run_of_an_older_version_goes_on(recipe_path, data_cache, tmp_path):
    recipe, out = load_recipe(recipe_path), tmp_path / "run"
    train(recipe, out, data_cache, callbacks=RunCallbacks(on_step=StopAfter(2)))
    values = yaml.safe_load((out / "recipe.yaml").read_text())
    for key in ("accumulate", "validation", "sinks"):  # unknown then
        del values[key]
    (out / "recipe.yaml").write_text(yaml.safe_dump(values))
    assert train(recipe, out, data_cache).outcome == "finished"
    assert losses(out) == pytest.approx(GOLDEN_LOSSES, rel=2e-3)


def test_a_damaged_newest_checkpoint_is_passed_over_and_named(recipe_path, data_cache, tmp_path):
    recipe, out = load_recipe(recipe_path), tmp_path / "run"
    train(recipe, out, data_cache, callbacks=RunCallbacks(on_step=StopAfter(7)))
    newest = CheckpointFolder(out / "checkpoints").paths()[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    result = train(recipe, out, data_cache)
    assert len(result.warnings) == 1
    assert newest.name in result.warnings[0]
    assert losses(out) == pytest.approx(GOLDEN_LOSSES, rel=2e-3)


def test_a_loss_that_is_not_finite_stops_the_run(recipe_path, data_cache, tmp_path):
    broken = load_recipe(recipe_path, ("phases.0.learning_rate=1.0e30", "optimizer.name=adamw"))
    with pytest.raises(TrainError, match="lower the learning rate"):
        train(broken, tmp_path / "run", data_cache)
