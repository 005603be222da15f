"""Where a run reports to: a tiny protocol, JSON lines by default."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from perceptic.files import write_text


@dataclass(frozen=True)
class StepMetrics:
    """One finished step.

    Attributes:
        step: from 0. phase: name of the phase.
        loss, learning_rate, gradient_norm: of this step (the norm before clipping).
        seconds: wall-clock time of the step; data_seconds: the part spent waiting for batches.
        samples: seen in the run so far, this step included.
        extra: what the objective and the data have to say besides, such as `accuracy`, `tokens` or `image_size`.
    """

    step: int
    phase: str
    loss: float
    learning_rate: float
    gradient_norm: float
    seconds: float
    data_seconds: float
    samples: int
    extra: dict[str, float] = field(default_factory=dict)

    def values(self) -> dict[str, Any]:
        """All of it as one flat mapping."""
        values = asdict(self)
        extra: dict[str, float] = values.pop("extra")
        return values | {name: value for name, value in extra.items() if name not in values}


class MetricSink(Protocol):
    """Receives every step of a run."""

    def resume_at(self, step: int) -> None:
        """Forget steps from `step` on: they will be reported again."""

    def write(self, metrics: StepMetrics) -> None:
        """Take one step."""

    def close(self) -> None:
        """The run ends here."""


class JsonLines:
    """Appends one JSON object per step to a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def resume_at(self, step: int) -> None:
        """Keep the lines of earlier steps only; a line cut short by a crash is dropped."""
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines(keepends=True) if self.path.exists() else []:
            if line.endswith("\n") and json.loads(line)["step"] < step:
                kept.append(line)
        write_text(self.path, "".join(kept))

    def write(self, metrics: StepMetrics) -> None:
        """Append and flush."""
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(metrics.values()) + "\n")

    def close(self) -> None:
        """Every line is on disk already."""
