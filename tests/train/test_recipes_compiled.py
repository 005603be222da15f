"""Compiled blocks at stage borders: another grid is another shape, and the position table is resized by the model."""

from __future__ import annotations

import json

import pytest
import torch

from perceptic.configs import clip_config
from perceptic.models.clip import CLIP
from perceptic.train.recipe import load_recipe
from perceptic.train.runs import train


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # torch hides it by a filter of its own
@pytest.mark.slow  # compiling takes minutes
def test_rising_resolutions_compiled_are_those_of_plain_torch(tmp_path, data_cache, goldens):
    changes = json.loads((goldens / "train" / "nano-mask.json").read_text())["changes"]
    stages = "phases.0.stages=[{image_size: 16, steps: 2}, {image_size: 24, steps: 2}]"
    found = []
    for compiled in ("false", "true"):
        recipe = load_recipe("nano-mask", (*changes, stages, f"compile={compiled}"))
        train(recipe, tmp_path / compiled, data_cache)
        lines = (tmp_path / compiled / "metrics.jsonl").read_text().splitlines()
        found.append([json.loads(line)["loss"] for line in lines])
    assert len(found[0]) == 4
    assert found[1] == pytest.approx(found[0], rel=1e-4)


@pytest.mark.parametrize("size", [24, 48, 64])
def test_a_stage_takes_its_positions_from_the_table_at_the_final_resolution(size):
    """Bilinear without corner alignment on other grids, itself on its own (training-recipes 1.1); never replaced."""
    torch.manual_seed(0)
    visual = CLIP(clip_config("PE-Core-Nano")).visual
    before = visual.positional_embedding.detach().clone()
    table = visual.position_table(size // 8, size // 8)
    grid = before[1:].T.reshape(1, 192, 8, 8)
    expected = torch.nn.functional.interpolate(grid, (size // 8, size // 8), mode="bilinear", align_corners=False)
    torch.testing.assert_close(table[1:], expected[0].flatten(1).T)
    torch.testing.assert_close(table[0], before[0])
    visual(torch.zeros(1, 3, size, size)).sum().backward()
    assert torch.equal(visual.positional_embedding, before)
    assert visual.positional_embedding.grad.abs().sum() > 0
