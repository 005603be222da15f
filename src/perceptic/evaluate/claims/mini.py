"""Small encoders for the claims: a recipe, what an arm of an experiment changes in it, and the trained model.

Runs are ordinary training runs (`perceptic train`), kept under the name of what decides them, so that claims share
their baselines and an interrupted claim goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from perceptic.errors import TrainError
from perceptic.evaluate.request import OnProgress, ignore_progress
from perceptic.files import atomic_path
from perceptic.train.recipe import load_recipe, parse_yaml
from perceptic.train.runs import RunCallbacks, train


@dataclass(frozen=True)
class Arm:
    """One side of an experiment: `changes` are "key=value" as `perceptic train --set` takes them."""

    name: str
    changes: tuple[str, ...] = ()
    recipe: str = "mini"


def mini_recipe(name: str) -> str:
    """The text of a recipe beside this module."""
    return (resources.files("perceptic.evaluate.claims") / f"{name}.yaml").read_text(encoding="utf-8")


def run_name(arm: Arm, seed: int) -> str:
    """A folder name for an arm: its name for people and a digest of everything that decides the weights."""
    facts = json.dumps([parse_yaml(mini_recipe(arm.recipe), arm.recipe), sorted(arm.changes), seed])
    return f"{arm.name}-seed{seed}-{hashlib.sha256(facts.encode()).hexdigest()[:10]}"


def trained(arm: Arm, seed: int, work: Path, on_progress: OnProgress = ignore_progress) -> Path:
    """The model folder of an arm at a seed, trained now unless it is there.

    Args:
        work: folder of runs and decoded data, shared by all claims.

    Raises:
        TrainError: the run was stopped (the same call goes on from its last checkpoint), or diverged.
    """
    out = work / "runs" / run_name(arm, seed)
    if (out / "model" / "config.json").exists():
        return out / "model"
    with atomic_path(work / "recipes" / f"{out.name}.yaml") as path:
        path.write_text(mini_recipe(arm.recipe), encoding="utf-8")
    recipe = load_recipe(work / "recipes" / f"{out.name}.yaml", (*arm.changes, f"seed={seed}"))
    total = recipe.num_steps
    callbacks = RunCallbacks(on_step=lambda step: on_progress(f"{arm.name}, seed {seed}", step.step + 1, total))
    result = train(recipe, out, work / "data", callbacks=callbacks)
    if result.model_folder is None:
        raise TrainError(f"stopped while training {out.name} at step {result.next_step}; run the claim again to go on")
    return result.model_folder
