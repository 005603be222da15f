"""`perceptic reproduce`: the runs of a plan, what is not done twice, and its command."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from perceptic.cli.main import run as run_command
from perceptic.train import reproduce
from perceptic.train.reproduce import NANO, BundledModel, measure_run, plan_runs, train_run
from perceptic.train.runs import RunCallbacks
from perceptic.train.world_report import Measure


@pytest.fixture
def measured():
    """Folders that were measured."""
    return []


@pytest.fixture
def model(recipe_path, measured):
    def measure(folder, count, seed):
        measured.append(folder)
        return [Measure("shape", 50.0 + count, 6.2, 90.0), Measure("colour", 40.0, 8.3)]

    return BundledModel("Tiny", str(recipe_path), 3, measure)


def test_the_plan_goes_seed_by_seed_and_gives_a_language_model_its_encoder(tmp_path):
    encoder = BundledModel("Encoder", "nano-core", 10, lambda folder, count, seed: [])
    language = BundledModel("Language", "plm-nano", 20, lambda folder, count, seed: [], tower_of="Encoder")
    runs = plan_runs(tmp_path, 2, ("threads=2",), (encoder, language))
    assert [(run.model.name, run.seed, run.out.name) for run in runs] == [
        ("Encoder", 0, "encoder-seed0"),
        ("Language", 0, "language-seed0"),
        ("Encoder", 1, "encoder-seed1"),
        ("Language", 1, "language-seed1"),
    ]
    assert runs[0].changes == ("seed=0", "threads=2")
    assert runs[3].changes == ("seed=1", f"vision_init={tmp_path / 'encoder-seed1' / 'model'}", "threads=2")


def test_bundled_models_have_recipes_of_their_architecture():
    assert NANO[0].name == "PE-Core-Nano"
    for run in plan_runs(Path("runs"), 1):
        assert run.recipe.model == run.model.name
        assert run.recipe.seed == 0


def test_a_run_goes_on_and_a_measured_model_is_not_measured_again(model, measured, tmp_path, data_cache):
    (run,) = plan_runs(tmp_path, 1, (), (model,))

    def stop(metrics):
        if metrics.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    stopped = train_run(run, data_cache, callbacks=RunCallbacks(on_step=stop))
    assert (stopped.model_folder, stopped.next_step) == (None, 5)
    assert train_run(run, data_cache).model_folder == run.folder
    first = measure_run(run, 10, 1)
    assert measure_run(run, 10, 1) == first
    assert len(measured) == 1
    assert train_run(run, data_cache).model_folder == run.folder  # finds it done
    assert measure_run(run, 10, 1) == first
    assert len(measured) == 1
    assert measure_run(run, 20, 1) != first
    assert len(measured) == 2


def test_the_command_trains_and_prints_tables(model, tmp_path, data_cache, monkeypatch, capsys):
    monkeypatch.setattr(reproduce, "NANO", (model,))
    arguments = ["reproduce", "nano", "--seeds", "2", "--out", str(tmp_path), "--cache", str(data_cache)]
    assert run_command([*arguments, "--dry-run"]) == 0
    assert "together about 6 minutes" in capsys.readouterr().out
    assert list(tmp_path.glob("tiny-*")) == []
    assert run_command([*arguments, "--count", "10", "--workers", "1"]) == 0
    out = capsys.readouterr().out
    assert "Tiny" in out
    assert "| percent | seed 0 | seed 1 | mean | guessing | aim |" in out
    assert "| shape | 60.0 | 60.0 | 60.0 | 6.2 | 90 |" in out
    assert run_command([*arguments, "--count", "10", "--workers", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["Tiny"][1]["values"] == [40.0, 40.0]


def test_processes_train_together_and_a_run_that_stops_is_not_measured(
    model, measured, tmp_path, data_cache, monkeypatch, capsys
):
    monkeypatch.setattr(reproduce, "NANO", (model,))
    arguments = ["reproduce", "nano", "--out", str(tmp_path), "--cache", str(data_cache), "--count", "10"]
    assert run_command([*arguments, "--processes", "2", "--workers", "1"]) == 0
    assert "| shape | 60.0 |" in capsys.readouterr().out
    monkeypatch.setattr("perceptic.train.launch.run_together", lambda command, count: 130)
    assert run_command([*arguments, "--processes", "2", "--set", "seed=5", "--out", str(tmp_path / "other")]) == 130
    assert len(measured) == 1


def test_the_dry_run_says_how_long_it_takes(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_command(["reproduce", "nano", "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["core_minutes"] == sum(model.core_minutes for model in NANO)
    assert [row["model"] for row in plan["runs"]] == [model.name for model in NANO]
    assert list(tmp_path.iterdir()) == []
