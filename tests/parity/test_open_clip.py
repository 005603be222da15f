"""Twins in open_clip: the same weights give the same numbers, in both directions."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from perceptic.configs import ClipConfig, TextConfig, VisionConfig, clip_config
from perceptic.weights.convert import convert
from perceptic.weights.foreign_config import write_open_clip
from perceptic.weights.pretrained import CLIP, VisionTransformer

open_clip = pytest.importorskip("open_clip")
timm = pytest.importorskip("timm")
pytestmark = pytest.mark.parity

TOLERANCE = 2e-5  # float32 against float32, values of 1 to 20
CONFIG = ClipConfig(
    VisionConfig(
        patch_size=8,
        width=64,
        layers=2,
        heads=2,
        mlp_ratio=2.0,
        output_dim=24,
        image_size=32,
        use_cls_token=True,
        attn_pooler_heads=8,
    ),
    TextConfig(context_length=12, width=32, heads=2, layers=2, output_dim=24, vocab_size=80),
)
GIANT = ClipConfig(CONFIG.vision.replace(width=96, heads=1, mlp_ratio=8960 / 1536, use_cls_token=False), CONFIG.text)


def perturb(model: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)


@pytest.fixture(params=["class_token", "giant"])
def config(request: pytest.FixtureRequest) -> ClipConfig:
    return CONFIG if request.param == "class_token" else GIANT


@pytest.fixture
def trunk_name(config: ClipConfig) -> str:
    """open_clip takes its trunk from timm by name: register one of the twin's size, once."""
    from timm.models import register_model

    arguments = write_open_clip(config)["trunk_args"]
    name = f"vit_pe_core_twin{config.vision.width}"

    def build(pretrained: bool = False, **others: Any) -> torch.nn.Module:
        model: torch.nn.Module = timm.create_model("vit_pe_core_base_patch16_224", **{**arguments, **others})
        return model

    if not timm.is_model(name):
        # timm writes the name into the function's module, so that it gets one of its own.
        sys.modules.setdefault("perceptic_twins", types.ModuleType("perceptic_twins"))
        build.__name__, build.__module__ = name, "perceptic_twins"
        register_model(build)
    return name


def load_in_open_clip(folder: Path, trunk_name: str) -> Any:
    fields = json.loads((folder / "open_clip_config.json").read_text())
    fields["model_cfg"]["vision_cfg"]["timm_model_name"] = trunk_name
    del fields["trunk_args"]
    (folder / "open_clip_config.json").write_text(json.dumps(fields))
    return open_clip.create_model(f"local-dir:{folder}").eval()


def inputs(config: ClipConfig) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(9)
    size = config.vision.image_size
    ids = torch.randint(1, config.text.vocab_size - 1, (3, config.text.context_length), generator=generator)
    ids[:, 5], ids[:, 6:] = config.text.vocab_size - 1, 0
    return torch.randn(2, 3, size, size, generator=generator), ids


def compare(ours: CLIP, theirs: Any) -> None:
    pixels, ids = inputs(ours.config)
    with torch.inference_mode():
        for normalize in (False, True):
            for a, b in (
                (ours.encode_image(pixels, normalize), theirs.encode_image(pixels, normalize)),
                (ours.encode_text(ids, normalize), theirs.encode_text(ids, normalize)),
            ):
                torch.testing.assert_close(a, b, atol=TOLERANCE, rtol=0)
        for a, b in zip(ours(pixels, ids), theirs(pixels, ids)[:3], strict=True):
            torch.testing.assert_close(a, b, atol=TOLERANCE, rtol=1e-6)


def test_ours_in_open_clip(config: ClipConfig, trunk_name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = CLIP(config)
    perturb(model)
    model.eval().save_pretrained(tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "oc", "open_clip")
    compare(model, load_in_open_clip(tmp_path / "oc", trunk_name))


@pytest.mark.parametrize("file", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"])
def test_open_clip_in_ours(config: ClipConfig, trunk_name: str, file: str, tmp_path: Path) -> None:
    """open_clip's random model, saved as it is distributed; the config beside it says the architecture."""
    from safetensors.torch import save_file

    fields = write_open_clip(config)
    named = {**fields["model_cfg"], "vision_cfg": {**fields["model_cfg"]["vision_cfg"], "timm_model_name": trunk_name}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({**fields, "model_cfg": named}))
    twin = open_clip.create_model(f"local-dir:{tmp_path}", load_weights=False).eval()
    perturb(twin)
    with torch.no_grad():
        twin.visual.trunk.head.bias.zero_()
    (save_file if file.endswith("safetensors") else torch.save)(twin.state_dict(), str(tmp_path / file))
    model = CLIP.from_pretrained(tmp_path)
    assert model.config == config
    compare(model, twin)
    bare = VisionTransformer.from_pretrained(tmp_path / file)
    assert torch.equal(bare.proj, model.visual.proj)


@pytest.mark.slow
def test_a_released_size_by_its_released_name(tmp_path: Path) -> None:
    """PE-Core-T16-384 with random weights: open_clip's stock configuration loads our folder as it is."""
    torch.manual_seed(0)
    model = CLIP(clip_config("PE-Core-T16-384")).eval()
    model.save_pretrained(tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "oc", "open_clip")
    by_folder = open_clip.create_model(f"local-dir:{tmp_path / 'oc'}").eval()
    compare(model, by_folder)
    by_name = open_clip.create_model(
        "PE-Core-T-16-384", pretrained=str(tmp_path / "oc" / "open_clip_model.safetensors")
    ).eval()
    compare(model, by_name)


@pytest.mark.parametrize("name", [name for name in CLIP.available_configs() if name != "PE-Core-Nano"])
def test_every_released_model_exists_in_open_clip(name: str) -> None:
    """The configuration we write is open_clip's own for that model."""
    from perceptic import zoo

    stock = open_clip.get_model_config(zoo.find_card(name).open_clip_name)
    ours = write_open_clip(clip_config(name))["model_cfg"]
    assert {key: stock[key] for key in ours} == ours
