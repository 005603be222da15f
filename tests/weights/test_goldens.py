"""Files of the original, timm and open_clip give the original's numbers through the public loader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from perceptic.configs import ClipConfig, TextConfig, VisionConfig
from perceptic.weights.formats import FORMATS
from perceptic.weights.pretrained import CLIP, VisionTransformer

# Source of the tolerances: the README of the goldens (float32 against float64 differ by 7e-6).
FEATURES, NORMALISED = 5e-5, 1e-5
CLIPS = ["clip_cls_p16_ctx32", "clip_nocls_p14_ctx72"]
TIMM = {"timm_core_cls_p16_d64": "core_cls_p16_d64", "timm_lang_cls_p14_ls": "lang_cls_p14_ls"}


def read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def vision_config(goldens: Path, name: str) -> VisionConfig:
    return VisionConfig.from_dict(read_json(goldens / "pe_vision" / name / "config.json")["config"])


def clip_config(goldens: Path, name: str) -> ClipConfig:
    fields = read_json(goldens / "pe_clip" / name / "config.json")
    return ClipConfig(VisionConfig.from_dict(fields["vision_cfg"]), TextConfig.from_dict(fields["text_cfg"]))


def assert_close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float = FEATURES) -> None:
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("file", ["weights.pt", "weights.safetensors", "wrapped_weights.pt", "wrapped_two_towers.pt"])
def test_original_vision_files(goldens: Path, file: str) -> None:
    folder = goldens / "pe_vision" / "tokpool_cls_p16"
    config = vision_config(goldens, "tokpool_cls_p16")
    tower = VisionTransformer.from_pretrained(folder / file, config=config, dtype="float32")
    expected = load_file(folder / "expected.safetensors")
    pixels = load_file(goldens / "pe_vision" / "inputs_p16.safetensors")["g4x4"]
    with torch.inference_mode():
        assert_close(tower(pixels), expected["g4x4.forward"])
        assert_close(tower.forward_features(pixels), expected["g4x4.features"])


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("file", ["weights.pt", "weights.safetensors"])
def test_original_clip_files(goldens: Path, name: str, file: str) -> None:
    config = clip_config(goldens, name)
    model = CLIP.from_pretrained(goldens / "pe_clip" / name / file, config=config, dtype="float32")
    check_clip(goldens, name, model)


@pytest.mark.parametrize("name", CLIPS)
def test_open_clip_folders(goldens: Path, name: str) -> None:
    model = CLIP.from_pretrained(goldens / "interop" / f"open_clip_{name}", dtype="float32")
    assert model.config == clip_config(goldens, name)
    check_clip(goldens, name, model)


def check_clip(goldens: Path, name: str, model: CLIP) -> None:
    inputs = load_file(goldens / "pe_clip" / name / "inputs.safetensors")
    expected = load_file(goldens / "pe_clip" / name / "expected.safetensors")
    with torch.inference_mode():
        assert_close(model.encode_image(inputs["image_large"]), expected["image_large.features"])
        image, text, scale = model(inputs["image"], inputs["text"])
        assert image is not None
        assert text is not None
        assert_close(image, expected["forward.image_features"], NORMALISED)
        assert_close(text, expected["forward.text_features"], NORMALISED)
        assert_close((scale * image @ text.T).softmax(-1), expected["forward.probs"], NORMALISED)


@pytest.mark.parametrize("folder", TIMM)
def test_timm_folders(goldens: Path, folder: str) -> None:
    tower = VisionTransformer.from_pretrained(goldens / "interop" / folder, dtype="float32")
    expected = load_file(goldens / "interop" / folder / "expected.safetensors")
    assert tower.config == vision_config(goldens, TIMM[folder])
    pixels = next(value for value in expected.values() if value.ndim == 4)
    with torch.inference_mode():
        # timm's forward_features ends with the final norm where there is one.
        assert_close(tower.forward_features(pixels, norm=True), expected["forward_features"])
        if tower.config.pool_type == "attn":
            assert_close(tower(pixels), expected["forward"])


@pytest.mark.parametrize("folder", [*TIMM, *(f"open_clip_{name}" for name in CLIPS)])
def test_writing_gives_back_their_tensors(goldens: Path, folder: str) -> None:
    """The other direction: our weights under their names are the very tensors of their files."""
    file = "model.safetensors" if folder in TIMM else "open_clip_model.safetensors"
    theirs = load_file(goldens / "interop" / folder / file)
    if folder in TIMM:
        tower = VisionTransformer.from_pretrained(goldens / "interop" / folder)
        written = FORMATS["timm"].from_perceptic({f"visual.{k}": v for k, v in tower.state_dict().items()})
    else:
        written = FORMATS["open_clip"].from_perceptic(CLIP.from_pretrained(goldens / "interop" / folder).state_dict())
    assert written.keys() == theirs.keys()
    assert all(torch.equal(written[key], theirs[key]) for key in theirs)
