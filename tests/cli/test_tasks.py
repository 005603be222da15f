"""The commands over the tasks, end to end, on the bundled model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from perceptic.cli.main import run


def read_json(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    """Standard output must be one JSON object and nothing else."""
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def test_embed_in_a_process_of_its_own(program, shapes: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    output = tmp_path / "out.parquet"
    first = program("embed", shapes, "-o", output)
    assert first.returncode == 0, first.stderr
    assert "4 embedded (192 numbers each), 0 already there, 1 failed" in first.stdout
    assert "torn.png: " in first.stderr
    rows = pq.read_table(output).to_pylist()
    assert len(rows) == 5
    for row in rows:
        assert (row["embedding"] is None) == (row["error"] is not None) == row["path"].endswith("torn.png")
        if row["embedding"] is not None:
            assert np.linalg.norm(row["embedding"]) == pytest.approx(1, abs=1e-5)
    again = program("embed", shapes, "-o", output, "--json")
    summary = json.loads(again.stdout)
    assert (summary["embedded"], summary["skipped"], summary["failed"]) == (0, 4, 1)


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_embed_to_numpy(shapes: Path, tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / f"out{suffix}"
    assert run(["embed", str(shapes / "*.png"), "-o", str(output), "--json"]) == 0
    assert read_json(capsys)["files"] == 4
    loaded = np.load(output)
    vectors = loaded["embeddings"] if suffix == ".npz" else loaded
    assert vectors.shape == (4, 192)


def test_embed_reads_paths_from_standard_input(program, shapes: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    listed = "".join(f"{shapes / name}\n" for name in ("red-circle.png", "clip.mp4"))
    result = program("embed", "-", "-o", tmp_path / "out.parquet", "--json", input=listed)
    assert json.loads(result.stdout)["embedded"] == 2
    empty = program("embed", "-", "-o", tmp_path / "none.parquet", input="")
    assert empty.returncode == 1
    assert empty.stderr.startswith("Error: no image or video")


def test_classify(shapes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = "red circle,blue square,yellow star"
    assert run(["classify", str(shapes), "--labels", labels, "--top-k", "1", "--json"]) == 0
    results = read_json(capsys)["results"]
    assert isinstance(results, list)
    best = {Path(row["path"]).stem: row["labels"][0]["label"] for row in results if row["labels"]}
    assert {name: best[name] for name in ("red-circle", "blue-square", "yellow-star")} == {
        "red-circle": "red circle",
        "blue-square": "blue square",
        "yellow-star": "yellow star",
    }


def test_classify_from_a_file_with_templates(shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("circle\n\nsquare\nstar\n")
    arguments = ["classify", str(shapes / "blue-square.png"), "--labels-file", str(labels)]
    assert run([*arguments, "--template", "a {}", "--template", "an image of a {}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(shapes / "blue-square.png")
    assert {line.split()[1] for line in lines[1:]} == {"circle", "square", "star"}
    assert sum(float(line.split("%")[0]) for line in lines[1:]) == pytest.approx(100, abs=0.05)


def test_classify_mistakes(shapes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["classify", str(shapes)]) == 2
    assert "either --labels or --labels-file" in capsys.readouterr().err
    assert run(["classify", str(shapes / "torn.png"), "--labels", "a,b"]) == 1
    assert "torn.png: " in capsys.readouterr().err
    assert run(["classify", str(shapes), "--labels", "a,b", "--template", "no place"]) == 1
    assert "no place for the label" in capsys.readouterr().err


def test_similar_by_text_and_by_picture(shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["similar", "a yellow star", str(shapes), "--json"]) == 0
    ranking = read_json(capsys)
    assert Path(ranking["matches"][0]["path"]).name == "yellow-star.png"  # type: ignore[index]
    index = tmp_path / "index.parquet"
    assert run(["embed", str(shapes), "-o", str(index)]) == 0
    capsys.readouterr()
    assert run(["similar", str(shapes / "red-circle.png"), str(index), "--top-k", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].endswith("red-circle.png")
    assert float(lines[0].split()[0]) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    "extra", [[], ["--point", "0.5,0.5"], ["--point", "64,64", "--layer", "3"], ["--text", "star"]]
)
def test_show(shapes: Path, tmp_path: Path, extra: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out.png"
    assert run(["show", str(shapes / "yellow-star.png"), "-o", str(output), *extra, "--json"]) == 0
    assert read_json(capsys)["rows"] == 8
    with Image.open(output) as drawing:
        assert drawing.size == (2 * 384 + 12, 384)


def test_show_mistakes(shapes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", str(shapes / "yellow-star.png"), "--point", "here"]) == 2
    assert "not two numbers" in capsys.readouterr().err
    assert run(["show", str(shapes / "absent.png")]) == 1
    assert "absent.png" in capsys.readouterr().err


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--json"]) == 0
    report = read_json(capsys)
    assert report["healthy"] is True
    topics = {finding["topic"]: finding["state"] for finding in report["findings"]}  # type: ignore[attr-defined]
    assert {name: topics[name] for name in ("bundled model", "self-test", "video (PyAV)")} == {
        "bundled model": "ok",
        "self-test": "ok",
        "video (PyAV)": "ok",
    }
