"""The compatibility module: the two names, with the original's meaning."""

from __future__ import annotations

import json
import subprocess
import sys
from enum import Enum
from pathlib import Path

import pytest
import torch
from PIL import Image

import perceptic.transforms as transforms
from perceptic.errors import ConfigError, TextError
from perceptic.text.vocabulary import installed_clip_merges


def _gradient() -> Image.Image:
    """The picture of the specification's preprocessing vectors: 70 wide, 50 high, (7x + 13y + 31c) mod 256."""
    pixels = [((7 * x + 13 * y + 31 * c) % 256) for y in range(50) for x in range(70) for c in range(3)]
    return Image.frombytes("RGB", (70, 50), bytes(pixels))


@pytest.mark.parametrize(
    ("center_crop", "first", "mean"),
    [
        (False, [-0.913725, -0.811765, -0.686275, -0.568627, -0.443137, -0.325490], 0.002773),
        (True, [-0.419608, -0.333333, -0.247059, -0.152941, -0.074510, 0.019608], 0.013021),
    ],
)
def test_image_transform_equals_the_specification(center_crop: bool, first: list[float], mean: float) -> None:
    pixels = transforms.get_image_transform(32, center_crop=center_crop)(_gradient())
    assert (pixels.shape, pixels.dtype) == ((3, 32, 32), torch.float32)
    torch.testing.assert_close(pixels[0, 0, :6], torch.tensor(first), atol=1e-6, rtol=0)
    assert pixels.mean().item() == pytest.approx(mean, abs=1e-6)


def test_interpolation_by_name_and_by_enum() -> None:
    class InterpolationMode(Enum):
        BICUBIC = "bicubic"

    bilinear = transforms.get_image_transform(32)(_gradient())
    bicubic = transforms.get_image_transform(32, interpolation="bicubic")(_gradient())
    assert not bicubic.equal(bilinear)
    assert transforms.get_image_transform(32, interpolation=InterpolationMode.BICUBIC)(_gradient()).equal(bicubic)
    with pytest.raises(ConfigError, match="bilinear or bicubic"):
        transforms.get_image_transform(32, interpolation="nearest")


def test_text_tokenizer_has_clips_vocabulary(goldens: Path) -> None:
    if installed_clip_merges() is None:
        pytest.skip("CLIP's vocabulary is not installed (open_clip_torch)")
    golden = json.loads((goldens / "clip_tokenizer" / "texts.json").read_text(encoding="utf-8"))
    tokenizer = transforms.get_text_tokenizer(72)
    assert tokenizer(["a diagram", "a dog", "a cat"]).shape == (3, 72)
    assert tokenizer.encode(golden["texts"][50]) == golden["tokens"][50]
    with pytest.raises(TextError, match="at least 2"):
        transforms.get_text_tokenizer(1)


def test_importing_the_module_does_not_import_torch() -> None:
    program = "import sys, perceptic.transforms; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
