"""`perceptic train` through its command line."""

from __future__ import annotations

import json

import pytest

from perceptic.cli.main import run


def test_dry_run_counts_without_training(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["train", "nano-core", "--dry-run", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert 3_000_000 <= figures["parameters"] <= 6_000_000
    assert [phase["name"] for phase in figures["phases"]][-1] == "clips"
    assert run(["train", "nano-core", "--dry-run"]) == 0
    assert f"{figures['parameters']:,}" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_twenty_steps_end_to_end(capsys, recipe_path, data_cache, tmp_path):
    arguments = ["train", str(recipe_path), "--out", str(tmp_path / "run"), "--cache", str(data_cache), "--json"]
    assert run([*arguments, "--workers", "1", "--set", "phases.0.stages.0.steps=14"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["outcome"] == "finished"
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(20))
    assert lines[-1]["samples"] == 17 * 8 + 3 * 4
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nano-cor"], "nano-core"),
        (["nano-core", "--set", "optimiser.name=lamb"], "did you mean 'optimizer'"),
    ],
)
def test_mistakes_are_one_message(capsys, arguments, message):
    assert run(["train", *arguments]) == 1
    assert message in capsys.readouterr().err
