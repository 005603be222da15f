"""Small encoders for the claims: a recipe, what an arm of an experiment changes in it, and the trained model.

Runs are ordinary training runs (`perceptic train`), kept under the name of what decides them, so that claims share
their baselines and an interrupted claim goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from perceptic.errors import TrainError
from perceptic.evaluate.claims.claim import Setting
from perceptic.files import atomic_path
from perceptic.train.recipe import load_recipe, parse_yaml
from perceptic.train.runs import RunCallbacks, train
from perceptic.weights.folder import WEIGHTS_FILE
from perceptic.weights.plm_sources import find_plm_folder


@dataclass(frozen=True)
class Arm:
    """One side of an experiment.

    Attributes:
        changes: "key=value" as `perceptic train --set` takes them. recipe: a YAML file beside this module.
        stages: (pixels a side, steps) one after the other; () for those of the recipe.
        prepare: writes data below the work folder where they are missing, and returns the changes that name them.
        origin: what else decides the weights, asked for when the arm is trained.
    """

    name: str
    changes: tuple[str, ...] = ()
    stages: tuple[tuple[int, int], ...] = ()
    recipe: str = "mini"
    prepare: Callable[[Path], tuple[str, ...]] = lambda work: ()
    origin: Callable[[], str] = lambda: ""

    def scaled(self, scale: float) -> Arm:
        """The arm with `scale` times the steps."""
        if scale == 1:
            return self
        phase = parse_yaml(mini_recipe(self.recipe), self.recipe)["phases"][0]
        if "stages" not in phase:
            steps = max(1, round(phase["steps"] * scale))
            return replace(self, changes=(*self.changes, f"phases.0.steps={steps}"))
        stages = self.stages or tuple((stage["image_size"], stage["steps"]) for stage in phase["stages"])
        return replace(self, stages=tuple((size, max(1, round(steps * scale))) for size, steps in stages))

    @property
    def all_changes(self) -> tuple[str, ...]:
        """With the stages as a change."""
        if not self.stages:
            return self.changes
        listed = ", ".join(f"{{image_size: {size}, steps: {steps}}}" for size, steps in self.stages)
        return (*self.changes, f"phases.0.stages=[{listed}]")


def mini_recipe(name: str) -> str:
    """The text of a recipe beside this module."""
    return (resources.files("perceptic.evaluate.claims") / f"{name}.yaml").read_text(encoding="utf-8")


def weights_of(model: str) -> str:
    """A digest of a bundled language model's weights: what was found with others does not hold for it."""
    return hashlib.sha256((find_plm_folder(model) / WEIGHTS_FILE).read_bytes()).hexdigest()[:16]


def run_name(arm: Arm, seed: int) -> str:
    """A folder name for an arm: its name for people and a digest of everything that decides the weights."""
    origin = arm.origin()
    known = [parse_yaml(mini_recipe(arm.recipe), arm.recipe), sorted(arm.all_changes), seed]
    facts = json.dumps([*known, origin] if origin else known)
    return f"{arm.name}-seed{seed}-{hashlib.sha256(facts.encode()).hexdigest()[:10]}"


def trained(arm: Arm, seed: int, setting: Setting) -> Path:
    """The model folder of an arm at a seed, trained now unless it is there.

    It lies in the setting's `work`, which all claims share.

    Raises:
        TrainError: the run was stopped (the same call goes on from its last checkpoint), or diverged.
    """
    arm = arm.scaled(setting.scale)
    work = setting.work
    out = work / "runs" / run_name(arm, seed)
    if (out / "model" / "config.json").exists():
        return out / "model"
    with atomic_path(work / "recipes" / f"{out.name}.yaml") as path:
        path.write_text(mini_recipe(arm.recipe), encoding="utf-8")
    recipe = load_recipe(
        work / "recipes" / f"{out.name}.yaml", (*arm.all_changes, *arm.prepare(work.resolve()), f"seed={seed}")
    )
    total = recipe.num_steps
    callbacks = RunCallbacks(on_step=lambda step: setting.on_progress(f"{arm.name}, seed {seed}", step.step + 1, total))
    result = train(recipe, out, work / "data", callbacks=callbacks)
    if result.model_folder is None:
        raise TrainError(f"stopped while training {out.name} at step {result.next_step}; run the claim again to go on")
    return result.model_folder
