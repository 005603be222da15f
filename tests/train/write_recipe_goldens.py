"""Writes the losses of tests/goldens/train/*.json anew: python tests/train/write_recipe_goldens.py [RECIPE ...]

Each file names a recipe and the changes (`perceptic train RECIPE --set CHANGE ...`) that shrink it to ten steps of
seconds: few scenes, a small model, the recipe's own objective, optimiser, phases and augmentation.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from perceptic.train.recipe import load_recipe
from perceptic.train.runs import train

FOLDER = Path(__file__).parents[1] / "goldens" / "train"


def losses(recipe: str, changes: list[str], out: Path, cache: Path) -> list[float]:
    """Of every step of a short run."""
    train(load_recipe(recipe, tuple(changes)), out, cache)
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


def main(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        for path in sorted(FOLDER.glob("*.json")):
            golden = json.loads(path.read_text())
            if names and golden["recipe"] not in names:
                continue
            found = losses(golden["recipe"], golden["changes"], Path(temporary) / path.stem, Path(temporary) / "cache")
            golden["losses"] = [round(loss, 6) for loss in found]
            path.write_text(json.dumps(golden, indent=1) + "\n")
            print(golden["recipe"], golden["losses"])


if __name__ == "__main__":
    main(sys.argv[1:])
