"""The CLIP model gives the original's numbers for images, videos, texts and logits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from perceptic.configs import ClipConfig, TextConfig, VisionConfig
from perceptic.models.clip import CLIP

NAMES = ["clip_cls_p16_ctx32", "clip_nocls_p14_ctx72"]
FEATURES, NORMALISED, LOGITS = 5e-5, 1e-5, 1e-4


def build(goldens: Path, name: str) -> CLIP:
    folder = goldens / "pe_clip" / name
    fields = json.loads((folder / "config.json").read_text())
    config = ClipConfig(VisionConfig.from_dict(fields["vision_cfg"]), TextConfig.from_dict(fields["text_cfg"]))
    model = CLIP(config)
    state = {key: value.float() for key, value in load_file(folder / "weights.safetensors").items()}
    own = {k if k.startswith("visual.") or k == "logit_scale" else f"text.{k}": v for k, v in state.items()}
    model.load_state_dict(own)
    return model.eval()


def assert_close(actual: torch.Tensor | None, expected: torch.Tensor, tolerance: float) -> None:
    assert actual is not None
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_embeddings(goldens: Path, name: str) -> None:
    model = build(goldens, name)
    inputs = load_file(goldens / "pe_clip" / name / "inputs.safetensors")
    expected = load_file(goldens / "pe_clip" / name / "expected.safetensors")
    with torch.inference_mode():
        for key in ("image", "image_large", "image_nonsquare"):
            assert_close(model.encode_image(inputs[key]), expected[f"{key}.features"], FEATURES)
            unit = model.encode_image(inputs[key], normalize=True)
            assert_close(unit, expected[f"{key}.features_normalized"], NORMALISED)
        for key in ("text", "text_short"):
            assert_close(model.encode_text(inputs[key]), expected[f"{key}.features"], FEATURES)
        unit = model.encode_text(inputs["text"], normalize=True)
        assert_close(unit, expected["text.features_normalized"], NORMALISED)


@pytest.mark.parametrize("name", NAMES)
def test_video(goldens: Path, name: str) -> None:
    model = build(goldens, name)
    video = load_file(goldens / "pe_clip" / name / "inputs.safetensors")["video"]
    expected = load_file(goldens / "pe_clip" / name / "expected.safetensors")
    with torch.inference_mode():
        assert_close(model.encode_video(video), expected["video.features"], FEATURES)
        originals = model.encode_video(video, normalize="frames")
        assert_close(originals, expected["video.features_normalized"], NORMALISED)
        unit = model.encode_video(video, normalize=True)
    assert_close(unit.norm(dim=-1), torch.ones(len(unit)), 1e-6)
    assert_close((unit * originals).sum(-1), originals.norm(dim=-1), 1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_forward(goldens: Path, name: str) -> None:
    model = build(goldens, name)
    inputs = load_file(goldens / "pe_clip" / name / "inputs.safetensors")
    expected = load_file(goldens / "pe_clip" / name / "expected.safetensors")
    with torch.inference_mode():
        image, text, scale = model(inputs["image"], inputs["text"])
        logits = scale * image @ text.T
    assert_close(image, expected["forward.image_features"], NORMALISED)
    assert_close(text, expected["forward.text_features"], NORMALISED)
    assert_close(scale, expected["forward.logit_scale"].reshape(()), NORMALISED)
    assert_close(logits, expected["forward.logits_per_image"], LOGITS)
    assert_close(logits.softmax(-1), expected["forward.probs"], NORMALISED)
