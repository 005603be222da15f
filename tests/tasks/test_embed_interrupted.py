"""`perceptic embed` in a process of its own, stopped in every rude way: every file is there exactly once in the end."""

from __future__ import annotations

import json
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from perceptic.tasks.embed import embed
from perceptic.tasks.embeddings_file import read_embeddings, sidecar
from perceptic.tasks.journal import parts_folder

NUM_FILES = 240


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough pictures for about a second of work, and two that cannot be read."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for number in range(NUM_FILES - 2):
        pixels = rng.integers(0, 256, (200, 200, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03d}.png", compress_level=1)
    for number in (10, 200):
        (folder / f"torn-{number}.png").write_bytes(b"torn")
    return folder


@pytest.fixture(scope="module")
def expected(tiny_clip: Path, pictures: Path) -> dict[str, np.ndarray]:
    found = embed(pictures, model=tiny_clip)
    return dict(zip(found.paths, found.vectors, strict=True))


def start(model: Path, pictures: Path, output: Path, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "perceptic.cli.main", "embed", str(pictures), "-o", str(output)]
    command += ["--model", str(model), "--batch-size", "8", "--save-every-seconds", "0.02", "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload,no-any-return]


def wait_for_work(process: subprocess.Popen[str], output: Path) -> None:
    """Until the process has opened its output (before that a kill is no test), or is through."""
    while process.poll() is None and not (parts_folder(output) / "settings.json").exists():
        time.sleep(0.002)


def resume(model: Path, pictures: Path, output: Path) -> dict[str, object]:
    with start(model, pictures, output) as process:
        return finish(process)


def finish(process: subprocess.Popen[str]) -> dict[str, object]:
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    summary = json.loads(out)
    assert isinstance(summary, dict)
    return summary


def assert_complete(output: Path, expected: dict[str, np.ndarray]) -> None:
    stored = read_embeddings(output)
    assert len(stored.paths) == len(set(stored.paths)) == NUM_FILES, "every file exactly once"
    good = {
        path: vector
        for path, vector, error in zip(stored.paths, stored.vectors, stored.errors, strict=True)
        if error is None
    }
    assert good.keys() == expected.keys()
    for path, vector in good.items():
        np.testing.assert_allclose(vector, expected[path], atol=2e-6)
    assert not parts_folder(output).exists()
    left = [path.name for path in output.parent.iterdir() if path not in (output, sidecar(output))]
    assert not left, f"left lying about: {left}"


def kill_and_resume(model: Path, pictures: Path, output: Path, num_kills: int, seed: int, truth: dict) -> None:  # type: ignore[type-arg]
    rng = random.Random(seed)
    started = time.monotonic()
    with start(model, pictures, output) as process:
        wait_for_work(process, output)
        opened = time.monotonic()
        finish(process)
    working_seconds = time.monotonic() - opened
    assert_complete(output, truth)
    output.unlink()
    kills = 0
    while kills < num_kills:
        with start(model, pictures, output) as process:
            wait_for_work(process, output)
            time.sleep(rng.uniform(0, working_seconds))
            if process.poll() is None:
                process.kill()
                kills += 1
                continue
            finish(process)
        assert_complete(output, truth)
        output.unlink()
        assert time.monotonic() - started < 1200, "the work ends before it can be killed"
    resume(model, pictures, output)
    assert_complete(output, truth)


def test_three_kills(tiny_clip: Path, pictures: Path, tmp_path: Path, expected: dict[str, np.ndarray]) -> None:
    kill_and_resume(tiny_clip, pictures, tmp_path / "out.parquet", num_kills=3, seed=0, truth=expected)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("suffix", [".parquet", ".npz", ".npy"])
def test_twenty_kills(
    tiny_clip: Path, pictures: Path, tmp_path: Path, expected: dict[str, np.ndarray], suffix: str
) -> None:
    output = tmp_path / f"out{suffix}"
    kill_and_resume(tiny_clip, pictures, output, num_kills=20, seed=1, truth=expected)


def test_ctrl_c(tiny_clip: Path, pictures: Path, tmp_path: Path, expected: dict[str, np.ndarray]) -> None:
    output = tmp_path / "out.parquet"
    with start(tiny_clip, pictures, output) as process:
        while process.poll() is None and not any(parts_folder(output).glob("part-*.parquet")):
            time.sleep(0.002)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "run the same command again to continue" in err
    assert "Traceback" not in err
    summary = resume(tiny_clip, pictures, output)
    assert summary["skipped"] > 0  # type: ignore[operator]
    assert_complete(output, expected)


def test_no_space_left(tiny_clip: Path, pictures: Path, tmp_path: Path, expected: dict[str, np.ndarray]) -> None:
    """A limit on the size of files stands in for a full disk: the same writes fail."""
    output = tmp_path / "out.parquet"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, 8_000))

    with start(tiny_clip, pictures, output, preexec_fn=limit) as process:
        _, err = process.communicate(timeout=200)
    assert process.returncode == 1
    assert err.startswith("Error: ")
    assert "cannot be written" in err
    assert "File too large" in err
    resume(tiny_clip, pictures, output)
    assert_complete(output, expected)
