"""`perceptic caption`: a folder into rows, failures as rows, continued after any end."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from perceptic.cli.main import run

Captured = pytest.CaptureFixture[str]


def rows_of(file: Path) -> dict[str, dict[str, Any]]:
    """Complete rows by file name."""
    lines = file.read_text().splitlines() if file.exists() else []
    rows = [json.loads(line) for line in lines if line.endswith("}")]
    return {Path(row["path"]).name: row for row in rows if "path" in row}


def test_every_file_becomes_a_row(plm: Path, shapes: Path, tmp_path: Path, capsys: Captured) -> None:
    output = tmp_path / "captions.jsonl"
    command = ["caption", str(shapes), "-o", str(output), "--model", str(plm), "--max-tokens", "4"]
    assert run(command) == 0
    captured = capsys.readouterr()
    assert "4 captioned, 0 already there, 1 failed" in captured.out
    assert "torn.png" in captured.err
    rows = rows_of(output)
    assert set(rows) == {"red-circle.png", "blue-square.png", "yellow-star.png", "clip.mp4", "torn.png"}
    assert rows["clip.mp4"]["text"]
    assert len(rows["clip.mp4"]["frame_seconds"]) == 16
    assert rows["torn.png"]["error"]
    assert run([*command, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["captioned"], summary["skipped"], summary["failed"]) == (0, 4, 1)


def test_a_prompt_of_ones_own_begins_another_file(plm: Path, shapes: Path, tmp_path: Path, capsys: Captured) -> None:
    output = tmp_path / "captions.jsonl"
    command = ["caption", str(shapes / "red-circle.png"), "-o", str(output), "--model", str(plm), "--max-tokens", "2"]
    assert run(command) == 0
    assert run([*command, "--prompt", "What colour?"]) == 1
    assert "--restart" in capsys.readouterr().err
    assert run([*command, "--prompt", "What colour?", "--restart"]) == 0


@pytest.mark.parametrize(
    ("output", "paths", "message"),
    [
        ("captions.txt", ["red-circle.png"], "captions.txt"),
        ("captions.jsonl", ["nothing-*.png"], "the pattern matches no file"),
        ("", ["red-circle.png"], "Error"),
    ],
)
def test_what_cannot_be_captioned(
    output: str, paths: list[str], message: str, plm: Path, shapes: Path, tmp_path: Path, capsys: Captured
) -> None:
    given = [str(shapes / path) for path in paths]
    assert run(["caption", *given, "-o", f"{tmp_path}/{output}", "--model", str(plm)]) == 1
    assert message in capsys.readouterr().err


def test_the_output_is_required(capsys: Captured) -> None:
    assert run(["caption", "photos"]) == 2
    assert "--output" in capsys.readouterr().err


def test_killed_it_continues_where_it_was(plm: Path, shapes: Path, tmp_path: Path, capsys: Captured) -> None:
    photos, output = tmp_path / "photos", tmp_path / "captions.jsonl"
    photos.mkdir()
    for number in range(8):
        shutil.copy(shapes / "red-circle.png", photos / f"{number:02d}.png")
    # Rows are written batch by batch: small batches, long answers.
    command = ["caption", str(photos), "-o", str(output), "--model", str(plm), "--max-tokens", "30"]
    command += ["--batch-size", "1", "--tiles", "0"]
    with subprocess.Popen([sys.executable, "-m", "perceptic.cli.main", *command], stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 120
        while not rows_of(output) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.kill()
    done = rows_of(output)
    assert 0 < len(done) < 8
    assert run([*command, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["captioned"], summary["skipped"]) == (8 - len(done), len(done))
    assert len(rows_of(output)) == 8
