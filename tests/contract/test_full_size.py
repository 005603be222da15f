"""Every released architecture at its full size, on the meta device: parameters and keys as published (spec 1.3)."""

from __future__ import annotations

import pytest

from perceptic import zoo
from perceptic.configs import clip_config, vision_config
from perceptic.weights.formats import FORMATS
from perceptic.weights.loading import build_empty
from perceptic.weights.pretrained import CLIP, VisionTransformer

VISION = {
    "PE-Core-T16-384": (6_140_544, 163),
    "PE-Core-S16-384": (23_782_656, 163),
    "PE-Core-B16-224": (93_672_960, 163),
    "PE-Core-L14-336": (317_151_232, 307),
    "PE-Core-G14-448": (1_882_032_640, 618),
    "PE-Lang-L14-448": (291_415_040, 327),
    "PE-Lang-L14-448-Tiling": (291_415_040, 327),
    "PE-Lang-G14-448": (1_740_922_624, 662),
    "PE-Lang-G14-448-Tiling": (1_740_922_624, 662),
    "PE-Spatial-T16-512": (5_683_200, 149),
    "PE-Spatial-S16-512": (21_983_232, 149),
    "PE-Spatial-B16-512": (86_433_792, 149),
    "PE-Spatial-L14-448": (303_964_160, 293),
    "PE-Spatial-G14-448": (1_851_887_104, 704),
}
WHOLE = {
    "PE-Core-T16-384": (69_545_601, 313),
    "PE-Core-S16-384": (87_187_713, 313),
    "PE-Core-B16-224": (447_659_521, 457),
    "PE-Core-L14-336": (671_137_793, 601),
    "PE-Core-G14-448": (2_419_266_561, 912),
}
# Spec 1.3, parameters of the attention pool and of the projection.
HEADS = {
    "PE-Core-T16-384": (444_672, 98_304),
    "PE-Core-S16-384": (1_774_080, 196_608),
    "PE-Core-B16-224": (7_087_104, 786_432),
    "PE-Core-L14-336": (12_595_200, 1_048_576),
    "PE-Core-G14-448": (28_329_984, 1_966_080),
}


@pytest.mark.parametrize("name", VISION)
def test_vision(name: str) -> None:
    tower = build_empty(VisionTransformer, vision_config(name))
    count = sum(parameter.numel() for parameter in tower.parameters())
    assert (count, len(tower.state_dict())) == VISION[name]
    if name in HEADS:
        pool = sum(parameter.numel() for parameter in tower.attn_pool.parameters())
        assert (pool, tower.proj.numel()) == HEADS[name]


@pytest.mark.parametrize("name", WHOLE)
def test_whole_models(name: str) -> None:
    model = build_empty(CLIP, clip_config(name))
    count = sum(parameter.numel() for parameter in model.parameters())
    assert (count, len(model.state_dict())) == WHOLE[name]
    flat = FORMATS["original"].from_perceptic(model.state_dict())
    assert len(flat) == len(model.state_dict())


@pytest.mark.parametrize("card", zoo.cards(), ids=lambda card: card.name)
def test_the_card_counts_what_is_built(card: zoo.ModelCard) -> None:
    model = build_empty(CLIP if card.is_clip else VisionTransformer, card.config)
    assert sum(parameter.numel() for parameter in model.parameters()) == card.parameters


def test_key_names_and_shapes_of_core_l() -> None:
    """Spec 3.3, name by name."""
    state = FORMATS["original"].from_perceptic(build_empty(CLIP, clip_config("PE-Core-L14-336")).state_dict())
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    block = {
        "attn.in_proj_weight": (3072, 1024),
        "attn.in_proj_bias": (3072,),
        "attn.out_proj.weight": (1024, 1024),
        "attn.out_proj.bias": (1024,),
        "ln_1.weight": (1024,),
        "ln_1.bias": (1024,),
        "ln_2.weight": (1024,),
        "ln_2.bias": (1024,),
        "mlp.c_fc.weight": (4096, 1024),
        "mlp.c_fc.bias": (4096,),
        "mlp.c_proj.weight": (1024, 4096),
        "mlp.c_proj.bias": (1024,),
    }
    expected: dict[str, tuple[int, ...]] = {
        "visual.class_embedding": (1024,),
        "visual.positional_embedding": (577, 1024),
        "visual.proj": (1024, 1024),
        "visual.conv1.weight": (1024, 3, 14, 14),
        "visual.attn_pool.probe": (1, 1, 1024),
        "token_embedding.weight": (49408, 1024),
        "positional_embedding": (32, 1024),
        "text_projection": (1024, 1024),
        "logit_scale": (),
    }
    for norm in ("visual.ln_pre", "visual.ln_post", "visual.attn_pool.layernorm", "ln_final"):
        expected[f"{norm}.weight"] = expected[f"{norm}.bias"] = (1024,)
    for key, shape in block.items():
        if not key.startswith("ln_"):
            expected[f"visual.attn_pool.{key}"] = shape
        for index in range(24):
            expected[f"visual.transformer.resblocks.{index}.{key}"] = shape
            expected[f"transformer.resblocks.{index}.{key}"] = shape
    assert shapes == expected
    assert len(shapes) == 601
