"""Twins in timm: the same weights give the same numbers, in both directions, and the arguments mean the same."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from perceptic.configs import VisionConfig, vision_config
from perceptic.weights.convert import convert
from perceptic.weights.foreign_config import write_timm
from perceptic.weights.pretrained import VisionTransformer

timm = pytest.importorskip("timm")
pytestmark = pytest.mark.parity

# As for features in the README of the goldens: float32 against float64 differ by 7e-6 at values of this size.
TOLERANCE = 5e-5
CORE = VisionConfig(
    patch_size=8,
    width=64,
    layers=4,
    heads=2,
    mlp_ratio=2.0,
    output_dim=24,
    image_size=32,
    use_cls_token=True,
    attn_pooler_heads=8,
)
GIANT = CORE.replace(width=96, heads=1, mlp_ratio=8960 / 1536, use_cls_token=False)
LANG = CORE.replace(output_dim=None, ls_init_value=0.1, pool_type="none", use_ln_post=False)
SPATIAL = LANG.replace(ls_init_value=None)
TWINS = {
    "core": CORE,
    "core_giant": GIANT,
    "lang": LANG,
    "lang_giant": LANG.replace(use_cls_token=False, mlp_ratio=8960 / 1536),
    "spatial": SPATIAL,
}


def perturb(model: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)


def make_tower(config: VisionConfig) -> VisionTransformer:
    torch.manual_seed(0)
    tower = VisionTransformer(config)
    perturb(tower)
    return tower.eval()


def to_timm(tower: VisionTransformer, folder: Path) -> Any:
    """Through the files: our folder, `convert`, and timm's own loader."""
    tower.save_pretrained(folder / "ours")
    convert(folder / "ours", folder / "timm", "timm")
    return timm.create_model(f"local-dir:{folder / 'timm'}", pretrained=True).eval()


def pixels_for(config: VisionConfig, batch: int = 2) -> Tensor:
    size = config.image_size
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(9))


def pooled(tower: VisionTransformer, pixels: Tensor) -> Tensor:
    """What timm's default head makes of the tower: for Lang and Spatial the mean of the patch tokens."""
    if tower.config.pool_type == "attn":
        return tower(pixels)
    return tower.forward_features(pixels, strip_cls_token=True).mean(dim=1)


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("kind", TWINS)
def test_ours_in_timm(kind: str, tmp_path: Path) -> None:
    tower = make_tower(TWINS[kind])
    twin = to_timm(tower, tmp_path)
    pixels = pixels_for(tower.config)
    with torch.inference_mode():
        close(tower.forward_features(pixels, norm=True), twin.forward_features(pixels))
        close(pooled(tower, pixels), twin(pixels))


@pytest.mark.parametrize("kind", TWINS)
def test_timm_in_ours(kind: str, tmp_path: Path) -> None:
    """timm writes, we read: its own `save_for_hf`, with nothing said about the architecture but its config.json."""
    from timm.models import save_for_hf

    fields = write_timm(TWINS[kind])
    arguments = fields["model_args"]
    twin = timm.create_model(
        fields["architecture"],
        num_classes=fields["num_classes"],
        global_pool=fields["global_pool"],
        **arguments,
    ).eval()
    perturb(twin)
    if twin.head.__class__.__name__ == "Linear":
        torch.nn.init.zeros_(twin.head.bias)
    save_for_hf(twin, str(tmp_path / "timm"), model_args=arguments, safe_serialization=True)
    tower = VisionTransformer.from_pretrained(tmp_path / "timm")
    assert tower.config == TWINS[kind]
    pixels = pixels_for(tower.config)
    with torch.inference_mode():
        close(tower.forward_features(pixels, norm=True), twin.forward_features(pixels))
        close(pooled(tower, pixels), twin(pixels))


@pytest.mark.parametrize("kind", TWINS)
def test_forward_intermediates(kind: str, tmp_path: Path) -> None:
    tower = make_tower(TWINS[kind])
    twin = to_timm(tower, tmp_path)
    pixels = pixels_for(tower.config)
    every_indices: list[Any] = [None, 2, [0, 2], [-1], [-2, 1], (3,)]
    for indices, norm, output_fmt, stop_early in itertools.product(
        every_indices, (False, True), ("NCHW", "NLC"), (False, True)
    ):
        arguments = {"indices": indices, "norm": norm, "output_fmt": output_fmt, "stop_early": stop_early}
        with torch.inference_mode():
            last, ours = tower.forward_intermediates(pixels, **arguments)
            their_last, theirs = twin.forward_intermediates(pixels, **arguments)
            alone = tower.forward_intermediates(pixels, intermediates_only=True, **arguments)
        close(last, their_last)
        assert len(ours) == len(theirs) == len(alone)
        for a, b, c in zip(ours, theirs, alone, strict=True):
            close(a, b)
            assert torch.equal(a, c)


@pytest.mark.parametrize("kind", ["core", "lang"])
def test_prefix_tokens(kind: str, tmp_path: Path) -> None:
    tower = make_tower(TWINS[kind])
    twin = to_timm(tower, tmp_path)
    pixels = pixels_for(tower.config)
    with torch.inference_mode():
        ours = tower.forward_intermediates(pixels, indices=[1, 3], return_prefix_tokens=True, intermediates_only=True)
        theirs = twin.forward_intermediates(pixels, indices=[1, 3], return_prefix_tokens=True, intermediates_only=True)
    for (patches, prefix), (their_patches, their_prefix) in zip(ours, theirs, strict=True):
        close(patches, their_patches)
        close(prefix, their_prefix)


@pytest.mark.parametrize("kind", TWINS)
def test_other_sizes_differ_only_in_the_two_documented_ways(kind: str, tmp_path: Path) -> None:
    """A timm model built for the other grid, with our bilinear table and unscaled rotary positions, agrees exactly."""
    tower = make_tower(TWINS[kind])
    rows, columns = 3, 6
    fields = write_timm(tower.config)
    size = (rows * tower.config.patch_size, columns * tower.config.patch_size)
    arguments = {**fields["model_args"], "img_size": size, "ref_feat_shape": (rows, columns)}
    twin = timm.create_model(
        fields["architecture"], num_classes=fields["num_classes"], global_pool=fields["global_pool"], **arguments
    ).eval()
    state = to_timm(tower, tmp_path).state_dict()
    state["pos_embed"] = tower.position_table(rows, columns)[None]
    twin.load_state_dict(state)
    pixels = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        close(tower.forward_features(pixels, norm=True), twin.forward_features(pixels))
        close(pooled(tower, pixels), twin(pixels))


@pytest.mark.parametrize("name", ["PE-Core-T16-384", "PE-Spatial-T16-512"])
def test_a_released_size_by_its_released_name(name: str, tmp_path: Path) -> None:
    """The whole way of a released model: no arguments in the config, timm's architecture says it all."""
    tower = VisionTransformer(vision_config(name)).eval()
    twin = to_timm(tower, tmp_path)
    assert not (tmp_path / "timm" / "config.json").read_text().count("model_args")
    pixels = pixels_for(tower.config, batch=1)
    with torch.inference_mode():
        close(tower.forward_features(pixels, norm=True), twin.forward_features(pixels))
        close(pooled(tower, pixels), twin(pixels))


@pytest.mark.parametrize("name", VisionTransformer.available_configs())
def test_every_released_architecture_exists_in_timm(name: str) -> None:
    config = vision_config(name)
    fields = write_timm(config)
    if "model_args" in fields:
        assert name == "PE-Core-Nano"
        return
    with torch.device("meta"):
        twin = timm.create_model(
            fields["architecture"], num_classes=fields["num_classes"], global_pool=fields["global_pool"]
        )
    from perceptic.weights.formats import FORMATS
    from perceptic.weights.loading import build_empty

    ours = {f"visual.{key}": value for key, value in build_empty(VisionTransformer, config).state_dict().items()}
    theirs = FORMATS["timm"].from_perceptic(ours)
    assert {k: v.shape for k, v in theirs.items()} == {k: v.shape for k, v in twin.state_dict().items()}
