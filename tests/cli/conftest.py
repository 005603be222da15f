"""The program as a user runs it, on the bundled model and a few pictures of its world."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from perceptic import world
from perceptic.cli.main import run
from perceptic.world.encoding import mp4_bytes, png_bytes

Program = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def program() -> Program:
    """Run `perceptic ARGUMENTS` in a process of its own."""

    def run(*arguments: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "perceptic.cli.main", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, **options)  # type: ignore[call-overload,no-any-return]

    return run


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A red circle, a blue square, a yellow star, a clip, and a file that only looks like a picture."""
    folder = tmp_path_factory.mktemp("shapes")
    for colour, shape in (("red", "circle"), ("blue", "square"), ("yellow", "star")):
        (folder / f"{colour}-{shape}.png").write_bytes(png_bytes(world.render_pixels(scene(colour, shape), 128)))
    clip = world.sample_clip(3, "validation", num_frames=16)
    (folder / "clip.mp4").write_bytes(mp4_bytes(world.render_clip(clip, 64), clip.frames_per_second))
    (folder / "torn.png").write_bytes(b"not a picture")
    return folder


@pytest.fixture(scope="session")
def plm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PLM-Nano with random weights: every command works on it, and its answers are noise."""
    folder = tmp_path_factory.mktemp("models") / "noise"
    assert run(["init", "PLM-Nano", str(folder)]) == 0
    return folder


def scene(colour: str, shape: str) -> world.Scene:
    item = world.SceneObject(shape, colour, "large", "solid", x=0.5, y=0.5, radius=0.25, depth=0.5)
    return world.Scene((item,), world.Background("plain", "white", "white"))
