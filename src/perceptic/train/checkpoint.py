"""Checkpoints that are complete or absent, and the newest one that can be read.

One file per checkpoint, written under a temporary name and renamed: model, optimiser, random
state, data position and step.
"""

from __future__ import annotations

import pickle
import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

import torch

from perceptic.errors import OutputError, TrainError
from perceptic.files import atomic_path

_NAME: Final = re.compile(r"step-(\d{7})\.pt")
_BEST: Final = "best.pt"
_KEYS: Final = {"step", "model", "optimizer", "random_state"}
_LATER_KEYS: Final = {"data", "samples", "device_random_state", "average", "best"}


@dataclass(frozen=True)
class TrainState:
    """Everything a run needs to go on.

    Attributes:
        step: finished steps. samples: seen in them.
        random_state: of the CPU's generator; device_random_state: of the device's, where that is another.
        average: of the weights (`MovingAverage.state`). best: measurement of the best checkpoint.
        data: position of each phase's data (`BatchSource.state`).
    """

    step: int
    model: dict[str, Any]
    optimizer: dict[str, Any]
    random_state: torch.Tensor
    data: dict[str, Any] = field(default_factory=dict)
    samples: int = 0
    device_random_state: torch.Tensor | None = None
    average: dict[str, Any] | None = None
    best: float | None = None


@dataclass(frozen=True)
class Found:
    """The newest readable checkpoint, and one line for each newer one that had to be passed over."""

    state: TrainState | None
    warnings: tuple[str, ...]


class CheckpointFolder:
    """The checkpoints of one run; keeps the newest `keep`."""

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder = folder
        self.keep = max(1, keep)

    def save(self, state: TrainState) -> Path:
        """Write one checkpoint, then remove those beyond `keep`. Raises OutputError (disk full, no permission)."""
        path = self._write(state, f"step-{state.step:07d}.pt")
        for old in self.paths()[: -self.keep]:
            old.unlink(missing_ok=True)
        return path

    def save_best(self, state: TrainState) -> Path:
        """Write the best so far beside the others, in the place of the one before. Raises OutputError."""
        return self._write(state, _BEST)

    def best(self) -> TrainState:
        """The best. Raises TrainError if there is none or it is damaged."""
        return read_state(self.folder / _BEST)

    def _write(self, state: TrainState, name: str) -> Path:
        path = self.folder / name
        content = {item.name: getattr(state, item.name) for item in fields(state)}
        with atomic_path(path) as temporary:
            try:
                torch.save(content, temporary)
            except RuntimeError as error:  # torch reports a full disk so
                raise OutputError(f"{path}: cannot be written: {error}") from error
        return path

    def paths(self) -> list[Path]:
        """Checkpoint files, oldest first."""
        return sorted(path for path in self.folder.glob("step-*.pt") if _NAME.fullmatch(path.name))

    def newest(self) -> Found:
        """The newest checkpoint that can be read, falling back to older ones; none at all is a fresh start.

        Raises:
            TrainError: there are checkpoints and none can be read.
        """
        warnings: list[str] = []
        for path in reversed(self.paths()):
            try:
                return Found(read_state(path), tuple(warnings))
            except TrainError as error:
                warnings.append(str(error))
        if warnings:
            raise TrainError(f"no checkpoint can be read; start again with --fresh. {'; '.join(warnings)}")
        return Found(None, ())

    def clear(self) -> None:
        """Remove every checkpoint."""
        for path in [*self.paths(), self.folder / _BEST]:
            path.unlink(missing_ok=True)


def read_state(path: Path) -> TrainState:
    """One checkpoint. Raises TrainError if it is damaged or none of ours."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise TrainError(f"{path}: is damaged ({type(error).__name__})") from error
    if not isinstance(content, dict) or not _KEYS <= set(content) <= _KEYS | _LATER_KEYS:
        raise TrainError(f"{path}: is not a perceptic training checkpoint")
    return TrainState(**content)
