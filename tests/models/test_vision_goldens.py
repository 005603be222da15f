"""The vision tower gives the original's numbers: 8 configurations, 5 grids, single layers, tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from perceptic.configs import VisionConfig
from perceptic.models.rope import rope_angles
from perceptic.models.vision import VisionTransformer

NAMES = [
    "avgpool_noabs_nolnpre",
    "core_cls_p16_d64",
    "core_nocls_p14_d96",
    "lang_cls_p14_ls",
    "lang_nocls_p14_d96_ls",
    "spatial_cls_p16_d64",
    "spatial_nocls_p14_d96_ls",
    "tokpool_cls_p16",
]
CASES = ["g4x4", "g6x6", "g3x5", "g2x8", "ragged4x5"]
# Differences between float32 and float64 are 7e-6; a wrong GELU or norm epsilon moves the outputs by 3e-4 and more.
TOLERANCE = 5e-5
TABLE_TOLERANCE = 1e-5


def build(goldens: Path, name: str) -> VisionTransformer:
    folder = goldens / "pe_vision" / name
    tower = VisionTransformer(VisionConfig.from_dict(json.loads((folder / "config.json").read_text())["config"]))
    tower.load_state_dict({k: v.float() for k, v in load_file(folder / "weights.safetensors").items()})
    return tower.eval()


def inputs(goldens: Path, tower: VisionTransformer) -> dict[str, torch.Tensor]:
    return load_file(goldens / "pe_vision" / f"inputs_p{tower.config.patch_size}.safetensors")


def assert_close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float = TOLERANCE) -> None:
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", CASES)
def test_outputs(goldens: Path, name: str, case: str) -> None:
    tower = build(goldens, name)
    expected = load_file(goldens / "pe_vision" / name / "expected.safetensors")
    pixels = inputs(goldens, tower)[case]
    with torch.inference_mode():
        assert_close(tower.forward_features(pixels), expected[f"{case}.features"])
        assert_close(tower(pixels), expected[f"{case}.forward"])
        if f"{case}.features_norm" in expected:
            assert_close(tower.forward_features(pixels, norm=True), expected[f"{case}.features_norm"])
        if f"{case}.features_strip" in expected:
            assert_close(tower.forward_features(pixels, strip_cls_token=True), expected[f"{case}.features_strip"])


@pytest.mark.parametrize("name", NAMES)
def test_tables(goldens: Path, name: str) -> None:
    tower = build(goldens, name)
    expected = load_file(goldens / "pe_vision" / name / "expected.safetensors")
    grids = {key.split(".")[1] for key in expected if key.startswith("rope_angle.")}
    assert grids
    for grid in grids:
        rows, columns = map(int, grid.split("x"))
        angles = rope_angles(rows, columns, tower.config.head_dim, tower.config.num_prefix_tokens, torch.device("cpu"))
        # The goldens repeat each angle for both channels of its pair.
        assert_close(angles.repeat_interleave(2, dim=-1), expected[f"rope_angle.{grid}"], TABLE_TOLERANCE)
        if f"posemb.{grid}" in expected:
            assert_close(tower.position_table(rows, columns).detach(), expected[f"posemb.{grid}"], TABLE_TOLERANCE)


@pytest.mark.parametrize("name", ["core_cls_p16_d64", "spatial_cls_p16_d64"])
def test_single_layers(goldens: Path, name: str) -> None:
    tower = build(goldens, name)
    expected = load_file(goldens / "pe_vision" / name / "expected.safetensors")
    layer_keys = [key for key in expected if ".layer_idx=" in key]
    assert len(layer_keys) >= 4
    with torch.inference_mode():
        for key in layer_keys:
            case, what = key.split(".layer_idx=")
            index, output = what.split(".")
            pixels = inputs(goldens, tower)[case.removesuffix("[:1]")][:1]
            actual = {
                "features": lambda p, i: tower.forward_features(p, layer_idx=i),
                "features_norm_strip": lambda p, i: tower.forward_features(
                    p, norm=True, layer_idx=i, strip_cls_token=True
                ),
                "forward": lambda p, i: tower(p, layer_idx=i),
            }[output](pixels, int(index))
            assert_close(actual, expected[key])
        square = inputs(goldens, tower)["g4x4"][:1]
        prefix = next(key for key in expected if key.endswith(".forward_strip")).removesuffix(".forward_strip")
        assert_close(tower(square, strip_cls_token=True), expected[f"{prefix}.forward_strip"])
        tower.truncate(1)
        assert tower.config.layers == 2
        assert_close(tower.forward_features(square), expected[f"{prefix}.truncate=1.features"])


def test_a_bfloat16_tower_takes_float32_pixels(goldens: Path) -> None:
    tower = build(goldens, "core_cls_p16_d64").bfloat16()
    pixels = inputs(goldens, tower)["g4x4"]
    with torch.inference_mode():
        features = tower(pixels)
        torch.testing.assert_close(features, tower(pixels.bfloat16()), atol=0, rtol=0)
    assert features.dtype == torch.bfloat16
