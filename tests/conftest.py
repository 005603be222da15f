"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before torch is imported anywhere: the suite runs several workers on few cores, and no test may reach a hub.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="session")
def goldens() -> Path:
    """Numbers of the original implementation for small random models (tests/goldens/README.md)."""
    return Path(__file__).parent / "goldens"
