"""One process of those that tests of whole runs start: `recipes_worker.py JOBS.json`.

The file lists runs, one after the other: `recipe`, `changes`, `out`, `cache`, and the `port` where the processes meet
for it. Started like this they share the time that importing takes; a launcher would start them once for each.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path

import torch

from perceptic.train import mask_regularisation, runs
from perceptic.train.recipe import load_recipe


def same_masks(count: int, num_patches: int, ratio: float) -> torch.Tensor:
    """As `draw_masks`, the same for every picture: processes draw their own, and here they must not."""
    hidden = torch.arange(num_patches) % 5 < round(5 * ratio)
    return hidden.expand(count, -1)


def main() -> None:
    warnings.simplefilter("error")
    # Of torch's own, while it compiles.
    warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor that is not a leaf")
    mask_regularisation.draw_masks = same_masks
    for job in json.loads(Path(sys.argv[1]).read_text()):
        os.environ["MASTER_PORT"] = str(job["port"])
        runs.train(load_recipe(job["recipe"], tuple(job["changes"])), Path(job["out"]), Path(job["cache"]))


if __name__ == "__main__":
    main()
