"""The bundled models made again from nothing: trained by their recipes, measured by their reports, run after run.

Every run is one of `perceptic train`, so what was interrupted goes on where it was; a measured model is not measured
again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from perceptic.files import write_text
from perceptic.train.plm_nano_report import plm_report
from perceptic.train.recipe import AnyRecipe, load_recipe
from perceptic.train.runs import RunCallbacks, RunResult, train
from perceptic.train.world_report import Measure, load_clip, report

_REPORT = "report.json"


@dataclass(frozen=True)
class BundledModel:
    """A model of the package, and how to make and measure it.

    Attributes:
        core_minutes: of one core that training took where it was measured (docs/nano.md, docs/plm-nano.md). A
            machine without fast bfloat16 takes several times as long.
        measure: a model folder, the number of held-out scenes and their seed to measures.
        tower_of: the bundled encoder that its vision tower comes from.
    """

    name: str
    recipe: str
    core_minutes: int
    measure: Callable[[Path, int, int], list[Measure]]
    tower_of: str | None = None


@dataclass(frozen=True)
class PlannedRun:
    """One model from one seed. `changes` as for `perceptic train --set`; the run lives in `out`."""

    model: BundledModel
    seed: int
    out: Path
    changes: tuple[str, ...]

    @property
    def recipe(self) -> AnyRecipe:
        return load_recipe(self.model.recipe, self.changes)

    @property
    def folder(self) -> Path:
        """Where the trained model will be."""
        return self.out / "model"


def measure_encoder(folder: Path, count: int, seed: int) -> list[Measure]:
    """What `perceptic report` says of an encoder."""
    return report(*load_clip(str(folder)), count=count, seed=seed)


def measure_language_model(folder: Path, count: int, seed: int) -> list[Measure]:
    """What `perceptic report` says of a language model; an answer takes ten times as long as an embedding."""
    return plm_report(folder, count=max(10, count // 10), seed=seed).measures


NANO = (
    BundledModel("PE-Core-Nano", "nano-core", 65, measure_encoder),
    BundledModel("PLM-Nano", "plm-nano", 347, measure_language_model, tower_of="PE-Core-Nano"),
)
"""In the order of training: a language model's tower comes from the encoder before it."""


def plan_runs(
    out: Path, num_seeds: int, changes: tuple[str, ...] = (), models: tuple[BundledModel, ...] | None = None
) -> tuple[PlannedRun, ...]:
    """Every run below `out`, seed by seed. `changes` are for all recipes; `models` are those of the package."""
    runs: list[PlannedRun] = []
    for seed in range(num_seeds):
        folders: dict[str, Path] = {}
        for model in models or NANO:
            own = [f"seed={seed}"]
            if model.tower_of is not None:
                own.append(f"vision_init={folders[model.tower_of]}")
            run = PlannedRun(model, seed, out / f"{model.name.lower()}-seed{seed}", (*own, *changes))
            folders[model.name] = run.folder
            runs.append(run)
    return tuple(runs)


def train_run(run: PlannedRun, cache: Path, *, workers: int = 1, callbacks: RunCallbacks | None = None) -> RunResult:
    """Train, or go on training, or find it done; raises what `train` raises."""
    return train(run.recipe, run.out, cache, workers=workers, callbacks=callbacks)


def measure_run(run: PlannedRun, count: int, seed: int) -> list[Measure]:
    """The report of a finished run, kept in its folder for the same weights and scenes."""
    path = run.out / _REPORT
    settings = {"weights": _digest(run.folder), "count": count, "seed": seed}
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if kept.get("settings") == settings:
        return [Measure(**row) for row in kept["measures"]]
    measures = run.model.measure(run.folder, count, seed)
    rows = [dataclasses.asdict(measure) for measure in measures]
    write_text(path, json.dumps({"settings": settings, "measures": rows}, indent=1) + "\n")
    return measures


def _digest(folder: Path) -> str:
    """Of a model's files."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
