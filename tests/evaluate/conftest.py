"""A small export of the world in the formats of real data sets, the bundled encoder, and an untrained one."""

from __future__ import annotations

from pathlib import Path

import pytest

from perceptic.evaluate.request import ModelUnderTest
from perceptic.tasks.fresh_model import write_fresh_model
from perceptic.world.export import export_world
from perceptic.world.export_chunks import WorldSettings


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `perceptic world --split validation` writes: 32 pictures, 8 clips, 64 labelled pictures a set."""
    folder = tmp_path_factory.mktemp("exported") / "world"
    export_world(folder, WorldSettings(32, 8, seed=3, size=64, split="validation", num_zero_shot=64, num_frames=16))
    return folder


@pytest.fixture(scope="session")
def nano() -> ModelUnderTest:
    return ModelUnderTest("PE-Core-Nano", device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> ModelUnderTest:
    folder = tmp_path_factory.mktemp("models") / "untrained"
    write_fresh_model("PE-Core-Nano", folder, seed=1)
    return ModelUnderTest(str(folder), device="cpu", dtype="float32")
