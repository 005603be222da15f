"""A trace of a few steps, for chrome://tracing or Perfetto."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from perceptic.files import atomic_path
from perceptic.train.run_recipe import ProfileRecipe


class StepProfiler:
    """Records the steps that a recipe names and writes `trace.json` into a folder."""

    def __init__(self, recipe: ProfileRecipe, folder: Path) -> None:
        self._recipe = recipe
        self._path = folder / "trace.json"
        self._profile: profile | None = None

    def before_step(self, step: int) -> None:
        """Begin where the recipe says so."""
        if step == self._recipe.start:
            gpu = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
            self._profile = profile(activities=[ProfilerActivity.CPU, *gpu])
            self._profile.start()

    def after_step(self, step: int) -> None:
        """End where the recipe says so, and write. Raises OutputError."""
        if step + 1 == self._recipe.start + self._recipe.steps:
            self.close()

    def close(self) -> None:
        """Write what was recorded, if anything."""
        if self._profile is None:
            return
        self._profile.stop()
        with atomic_path(self._path) as temporary:
            self._profile.export_chrome_trace(str(temporary))
        self._profile = None
