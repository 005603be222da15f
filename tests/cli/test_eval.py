"""`perceptic eval` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from perceptic.cli.main import run
from perceptic.evaluate.run import RunPlan
from perceptic.world.export import export_world
from perceptic.world.export_chunks import WorldSettings


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "made"
    export_world(folder, WorldSettings(0, 0, seed=1, size=64, split="validation", num_zero_shot=32))
    return folder / "zero_shot" / "colour-seen"


def test_own_data_into_a_folder(labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["eval", "zero-shot", "--data", str(labelled), "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert run(command) == 0
    printed = capsys.readouterr().out
    assert "| Your labelled media, zero-shot | PE-Core-Nano | acc1 |" in printed
    assert "paper" not in printed
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"results.json", "table.md", "report.html"}
    assert run([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["failures"] == {}
    assert found["results"][0]["metrics"]["acc1"]["value"] > 50
    assert found["results"][0]["settings"]["facts"]["layout"] == "webdataset"


def test_a_named_benchmark_takes_a_part_only_on_purpose(labelled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["eval", "food101", "--data", str(labelled), "--set", "templates={c}", "--limit", "8"]
    assert run(command) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "/test: not the set that food101 names: expected 101 classes, found 12; " in said
    assert "expected 25,250 items, found 32. " in said
    assert "--allow-subset" in said
    assert run([*command, "--allow-subset"]) == 0
    printed = capsys.readouterr().out
    assert "Food-101" in printed
    assert "subset: 12 of 101 classes and 32 of 25,250 items, limit 8, templates={c}" in printed
    assert "paper" not in printed


def test_what_exists_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["eval", "--list"]) == 0
    printed = capsys.readouterr().out
    for name in ("imagenet1k", "mscoco-captions", "k400", "plm-rtloc", "davis2017", "world-shape"):
        assert name in printed
    assert run(["eval", "msrvtt", "--list"]) == 0
    assert "video_id,sentence" in capsys.readouterr().out
    assert run(["eval", "video-retrieval", "--list", "--json"]) == 0
    names = [one["name"] for one in json.loads(capsys.readouterr().out)["benchmarks"]]
    assert "pvd" in names


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["imagenet-1k"], "did you mean imagenet1k"),
        (["imagenet1k"], "needs --data DIR"),
        (["imagenet1k", "--data", "/nowhere"], "looked for"),
        (["zero-shot", "--data", "/nowhere", "--set", "template={c}"], "did you mean 'templates'"),
        (["coco-detection"], "does not run it"),
        (["plm-fgqa"], "measures a language model"),
    ],
)
def test_what_cannot_work_is_said(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["eval", *arguments]) == 1
    assert said in capsys.readouterr().err


def test_an_option_without_a_value_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["eval", "zero-shot", "--data", ".", "--set", "templates"]) == 2
    assert "KEY=VALUE" in capsys.readouterr().err


def test_an_interruption_says_how_to_go_on(
    labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(plan: RunPlan, callbacks: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("perceptic.evaluate.run.run_benchmarks", interrupted)
    assert run(["eval", "zero-shot", "--data", str(labelled), "--out", str(tmp_path)]) == 130
    assert "Run the same command again" in capsys.readouterr().err
