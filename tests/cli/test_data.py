"""`perceptic data`: what is reported, with which exit status, and what the page shows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from perceptic.cli.main import run
from perceptic.data.plm_rows import PlmRow
from perceptic.data.plm_samples import SampleMaker, TrainingSample
from perceptic.world import WorldSettings, export_world

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def world_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("a world")
    export_world(folder, WorldSettings(num_images=6, num_videos=2, seed=3, num_zero_shot=0))
    return folder


def test_a_mix_of_rows(world_folder: Path, tmp_path: Path, capsys: Captured) -> None:
    page = tmp_path / "page.html"
    mix = ["world_image:2,world_rdcap:1,world_text:1", "--registry", str(world_folder / "plm" / "datasets.yaml")]
    command = ["data", "check", *mix, "--jobs", "1", "--page", str(page), "--show", "1", "--set", "max_num_tiles=4"]
    assert run(command) == 0
    printed = capsys.readouterr().out
    for expected in ("world_image", "50.0%", "all", "packed sequences of 11,520 tokens", str(page)):
        assert expected in printed
    content = page.read_text(encoding="utf-8")
    assert content.count("<section>") == 3
    assert "Frame [" in content
    assert "red rectangles" in content
    assert run([*command, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["kind"], report["is_complete"], report["num_skipped"]) == ("rows", True, 0)
    assert [item["name"] for item in report["row_sets"]] == ["world_image", "world_rdcap", "world_text"]
    assert report["row_sets"][0]["num_chunks"] <= 5 * report["row_sets"][0]["num_usable"]


def test_stages_look_differently(world_folder: Path, capsys: Captured) -> None:
    path = str(world_folder / "plm" / "image.jsonl")
    found = {}
    (world_folder / "datasets.yaml").write_text(f"a: {{annotation: '{path}', root_dir: '{world_folder}'}}\n")
    for stage in ("1", "2"):
        mix = ["a:1", "--registry", str(world_folder / "datasets.yaml")]
        assert run(["data", "check", *mix, "--stage", stage, "--jobs", "1", "--json"]) == 0
        found[stage] = json.loads(capsys.readouterr().out)["row_sets"][0]
    assert found["1"]["num_chunks"] == found["1"]["num_usable"], "stage 1 has no tiles"
    assert found["2"]["num_chunks"] > found["2"]["num_usable"]


def test_a_recipe_says_how_its_phases_look(world_folder: Path, tmp_path: Path, capsys: Captured) -> None:
    registry = world_folder / "plm" / "datasets.yaml"
    phases = [
        {"name": "one", "stage": 1, "mix": "world_image:1", "steps": 1, "learning_rate": 0.1},
        {"name": "two", "stage": 3, "mix": "world_video:1", "steps": 1, "learning_rate": 0.1, "max_tokens": 900,
         "stage_overrides": {"max_video_frames": 4}},
    ]  # fmt: skip
    recipe = {"name": "mine", "objective": "plm", "model": "PLM-Nano", "data": {"registry": str(registry)},
              "phases": phases}  # fmt: skip
    (tmp_path / "mine.yaml").write_text(json.dumps(recipe))
    command = ["data", "check", "-", "--recipe", str(tmp_path / "mine.yaml"), "--jobs", "1", "--json"]
    found = []
    for phase in ([], ["--phase", "one"]):
        assert run([*command, *phase]) == 0
        (data_set,) = json.loads(capsys.readouterr().out)["row_sets"]
        found.append((data_set["name"], data_set["num_chunks"] / data_set["num_usable"]))
    assert found == [("world_video", 4), ("world_image", 1)]
    rows = ["--set", "data.registry=null", "--set", f"data.rows={registry.parent / 'text.jsonl'}"]
    assert run([*command, *rows, "--set", "phases.1.mix=rows:1"]) == 0
    assert json.loads(capsys.readouterr().out)["row_sets"][0]["media_types"].keys() == {"text"}
    assert run([*command, "--phase", "three"]) == 1
    assert "the recipe has one, two" in capsys.readouterr().err
    assert run([*command, "--set", "phases.1.learn=patches"]) == 1
    assert "--phase two: learns words of patches" in capsys.readouterr().err


def test_bad_rows_decide_the_exit_status(tmp_path: Path, capsys: Captured) -> None:
    good = {"conversations": [{"from": "human", "value": "What?"}, {"from": "assistant", "value": "That."}]}
    rows = [good, {"image": "gone.png", **good}, {"conversations": good["conversations"][:1]}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    command = ["data", "check", str(tmp_path / "rows.jsonl"), "--jobs", "1"]
    assert run(command) == 1
    printed = capsys.readouterr().out
    assert "no such file: 1" in printed
    assert f"{tmp_path / 'rows.jsonl'}:2" in printed.replace("\n", "")
    assert "bad conversation: 1" in printed
    assert run([*command, "--skip-limit", "2"]) == 0


def test_pairs(world_folder: Path, tmp_path: Path, capsys: Captured) -> None:
    page = tmp_path / "page.html"
    shards = str(world_folder / "contrastive" / "train" / "*.tar")
    assert run(["data", "check", shards, "--page", str(page), "--show", "2"]) == 0
    assert "sides" in capsys.readouterr().out
    assert page.read_text(encoding="utf-8").count("data:image/jpeg") == 2
    assert run(["data", "check", str(world_folder / "images"), "--pairs", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["data_sets"][0]["skipped"] == {"no caption": 6}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "no such file or folder"),
        (["a:1", "--registry", "gone.yaml"], "gone.yaml: cannot be read"),
        (["rows.jsonl", "--set", "tiles=3"], "did you mean 'max_num_tiles'"),
        (["rows.jsonl", "--model", "PLM-Nan"], "did you mean 'PLM-Nano'"),
        (["-", "--recipe", "nano-core"], "of no language model"),
    ],
)
def test_what_cannot_work_is_said(arguments: list[str], message: str, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "rows.jsonl").write_text("{}")
    arguments = [str(tmp_path / item) if item == "rows.jsonl" else item for item in arguments]
    assert run(["data", "check", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_convert_and_check_what_came_of_it(tmp_path: Path, capsys: Captured) -> None:
    records = [{"question": "What?", "answer": "That.", "metadata": {"source_video_id": "abc"}}]
    (tmp_path / "fgqa").mkdir()
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "fgqa" / "a.parquet")
    output = tmp_path / "fgqa.jsonl"
    assert run(["data", "convert", str(tmp_path / "fgqa"), str(output), "--video-suffix", ".webm"]) == 0
    assert "1 rows" in capsys.readouterr().out
    assert json.loads(output.read_text())["video"] == "abc.webm"
    assert run(["data", "check", str(output), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["row_sets"][0]["skipped"] == {"no such file": 1}


def test_convert_regions(tmp_path: Path, capsys: Captured) -> None:
    event = {"video": "a.mp4", "masklet_id": 1, "total_frames": 32, "caption": "It.", "start_frame": 0, "end_frame": 9}
    table = tmp_path / "table.parquet"
    pq.write_table(pa.Table.from_pylist([event]), table)
    command = ["data", "convert", str(table), str(tmp_path / "rows.jsonl")]
    assert run(command) == 1
    assert "say which with --kind" in capsys.readouterr().err
    assert run([*command, "--kind", "rtloc"]) == 1
    assert "--without-boxes" in capsys.readouterr().err
    assert run([*command, "--kind", "rtloc", "--without-boxes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_rows"] == 1
    assert run([*command, "--kind", "rdcap", "--without-boxes"]) == 1
    assert "lacks dense_captions" in capsys.readouterr().err
    assert run(["data", "convert", str(tmp_path / "gone"), "out.jsonl"]) == 1


@pytest.mark.timeout(300)
def test_ctrl_c_ends_several_processes_at_once(tmp_path: Path) -> None:
    """Shards that never come to an end keep both processes busy when Ctrl-C reaches all of them."""
    for name in ("a.tar", "b.tar"):
        os.mkfifo(tmp_path / name)
    command = [sys.executable, "-m", "perceptic", "data", "check", str(tmp_path / "*.tar"), "--jobs", "2", "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        pipes = [_opened_by_a_reader(tmp_path / name, process) for name in ("a.tar", "b.tar")]
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=200)
    assert (process.returncode, err) == (130, "")
    assert not json.loads(out)["is_complete"]
    for pipe in pipes:
        with pytest.raises(BrokenPipeError):  # nobody is left who reads
            os.write(pipe, b"x")
        os.close(pipe)


def _opened_by_a_reader(pipe: Path, process: subprocess.Popen[str]) -> int:
    """The writing end of a pipe, once someone has opened the other."""
    while True:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)


def test_ctrl_c_reports_what_was_read(tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    row = json.dumps({"conversations": [{"from": "human", "value": "What?"}, {"from": "assistant", "value": "That."}]})
    (tmp_path / "rows.jsonl").write_text("\n".join([row] * 200))
    make, seen = SampleMaker.__call__, iter(range(200))

    def interrupted(self: SampleMaker, row: PlmRow, root: Path, where: str) -> TrainingSample:
        if next(seen) == 150:
            signal.raise_signal(signal.SIGINT)
        return make(self, row, root, where)

    monkeypatch.setattr(SampleMaker, "__call__", interrupted)
    assert run(["data", "check", str(tmp_path / "rows.jsonl"), "--jobs", "1", "--json"]) == 130
    report = json.loads(capsys.readouterr().out)
    assert not report["is_complete"]
    assert report["row_sets"][0]["num_read"] == 128, "whole pieces of 64 rows"
