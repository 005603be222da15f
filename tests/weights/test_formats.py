"""Each format is a table of names that works in both directions, strictly."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from perceptic.configs import VisionConfig
from perceptic.errors import WeightsError
from perceptic.weights.formats import FORMATS, OPEN_CLIP, ORIGINAL, PERCEPTIC, TIMM, Format, detect
from perceptic.weights.names import StateDict
from perceptic.weights.pretrained import CLIP, VisionTransformer

MakeClip = Callable[[], CLIP]
MakeTower = Callable[[VisionConfig], VisionTransformer]


def clip_state(make_clip: MakeClip) -> StateDict:
    return dict(make_clip().state_dict())


def vision_state(tower: VisionTransformer) -> StateDict:
    return {f"visual.{key}": value for key, value in tower.state_dict().items()}


def assert_same(actual: StateDict, expected: StateDict) -> None:
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(actual[key], value), key


@pytest.mark.parametrize("form", [ORIGINAL, OPEN_CLIP, PERCEPTIC], ids=lambda form: form.name)
def test_clip_round_trip(form: Format, make_clip: MakeClip) -> None:
    state = clip_state(make_clip)
    theirs = form.from_perceptic(state)
    assert detect(theirs.keys()) is form
    assert_same(form.to_perceptic(theirs), state)


@pytest.mark.parametrize("form", [ORIGINAL, TIMM, PERCEPTIC], ids=lambda form: form.name)
@pytest.mark.parametrize("kind", ["core", "lang", "no_cls", "no_table"])
def test_vision_round_trip(
    form: Format, kind: str, make_tower: MakeTower, core_config: VisionConfig, lang_config: VisionConfig
) -> None:
    config = {
        "core": core_config,
        "lang": lang_config,
        "no_cls": core_config.replace(use_cls_token=False),
        "no_table": lang_config.replace(use_abs_posemb=False, use_ln_pre=False),
    }[kind]
    state = vision_state(make_tower(config))
    theirs = form.from_perceptic(state)
    assert_same(form.to_perceptic(theirs), state)


def test_original_names_are_flat(make_clip: MakeClip) -> None:
    keys = ORIGINAL.from_perceptic(clip_state(make_clip)).keys()
    assert {"visual.conv1.weight", "token_embedding.weight", "logit_scale", "text_projection"} <= keys
    assert not any(key.startswith("text.") for key in keys)


def test_timm_tensors_are_changed_as_documented(make_tower: MakeTower, core_config: VisionConfig) -> None:
    tower = make_tower(core_config)
    theirs = TIMM.from_perceptic(vision_state(tower))
    width = core_config.width
    assert theirs["cls_token"].shape == (1, 1, width)
    assert theirs["pos_embed"].shape == (1, 17, width)
    assert torch.equal(theirs["attn_pool.q.weight"], tower.attn_pool.attn.in_proj_weight[:width])
    assert torch.equal(theirs["attn_pool.kv.bias"], tower.attn_pool.attn.in_proj_bias[width:])
    assert torch.equal(theirs["head.weight"], tower.proj.T)
    assert torch.equal(theirs["head.bias"], torch.zeros(12))


def test_a_bare_and_a_prefixed_vision_file_are_the_same(make_tower: MakeTower, lang_config: VisionConfig) -> None:
    bare = dict(make_tower(lang_config).state_dict())
    prefixed = {f"visual.{key}": value for key, value in bare.items()}
    assert detect(bare.keys()) is detect(prefixed.keys()) is ORIGINAL
    assert_same(ORIGINAL.to_perceptic(bare), ORIGINAL.to_perceptic(prefixed))


def test_a_logit_scale_with_an_axis_is_accepted(make_clip: MakeClip) -> None:
    theirs = ORIGINAL.from_perceptic(clip_state(make_clip))
    theirs["logit_scale"] = theirs["logit_scale"].reshape(1)
    assert ORIGINAL.to_perceptic(theirs)["logit_scale"].shape == ()


def test_a_trained_classifier_is_refused(make_tower: MakeTower, core_config: VisionConfig) -> None:
    theirs = TIMM.from_perceptic(vision_state(make_tower(core_config)))
    theirs["head.bias"][3] = 0.5
    with pytest.raises(WeightsError, match=r"head\.bias is not zero: this is a fine-tuned classifier"):
        TIMM.to_perceptic(theirs)


@pytest.mark.parametrize("form", FORMATS.values(), ids=lambda form: form.name)
def test_a_foreign_key_is_named(
    form: Format, make_clip: MakeClip, make_tower: MakeTower, core_config: VisionConfig
) -> None:
    state = vision_state(make_tower(core_config)) if form is TIMM else clip_state(make_clip)
    theirs = form.from_perceptic(state)
    theirs["adapter.down.weight"] = torch.zeros(2)
    with pytest.raises(WeightsError, match=rf"not part of the {form.name} format: adapter\.down\.weight"):
        form.to_perceptic(theirs)


@pytest.mark.parametrize(
    "key", ["blocks.01.norm1.weight", "blocks.-1.norm1.weight", "blocks.x.norm1.weight", "blocks."]
)
def test_odd_block_numbers_are_foreign(key: str, make_tower: MakeTower, core_config: VisionConfig) -> None:
    theirs = TIMM.from_perceptic(vision_state(make_tower(core_config)))
    theirs[key] = torch.zeros(16)
    with pytest.raises(WeightsError, match="not part of the timm format"):
        TIMM.to_perceptic(theirs)


def test_half_a_fused_group_is_named(make_tower: MakeTower, core_config: VisionConfig) -> None:
    theirs = TIMM.from_perceptic(vision_state(make_tower(core_config)))
    del theirs["attn_pool.kv.weight"]
    with pytest.raises(WeightsError, match=r"'attn_pool\.q\.weight' is there but 'attn_pool\.kv\.weight' is not"):
        TIMM.to_perceptic(theirs)


def test_a_group_of_wrong_shapes_is_named(make_tower: MakeTower, core_config: VisionConfig) -> None:
    theirs = TIMM.from_perceptic(vision_state(make_tower(core_config)))
    theirs["attn_pool.kv.weight"] = torch.zeros(16, 16)
    with pytest.raises(WeightsError, match=r"unexpected shape for the timm format: attn_pool\.q\.weight \(16, 16\)"):
        TIMM.to_perceptic(theirs)


def test_timm_holds_no_text_tower(make_clip: MakeClip) -> None:
    with pytest.raises(WeightsError, match=r"the timm format holds vision, not vision \+ text"):
        TIMM.from_perceptic(clip_state(make_clip))


def test_open_clip_holds_no_tower_alone(make_tower: MakeTower, core_config: VisionConfig) -> None:
    with pytest.raises(WeightsError, match=r"the open_clip format holds vision \+ text, not vision"):
        OPEN_CLIP.from_perceptic(vision_state(make_tower(core_config)))


def test_another_library_is_not_mistaken() -> None:
    resnet = {"conv1.weights", "layer1.0.conv1.weight", "layer1.0.bn1.weight", "fc.weight"}
    with pytest.raises(WeightsError, match=r"no Perception Encoder in a known format \(open_clip, timm, original"):
        detect(resnet)


@pytest.mark.parametrize("form", [TIMM, OPEN_CLIP, ORIGINAL], ids=lambda form: form.name)
def test_a_file_without_its_proving_key_is_still_recognised(
    form: Format, make_clip: MakeClip, make_tower: MakeTower, core_config: VisionConfig
) -> None:
    state = vision_state(make_tower(core_config)) if form is TIMM else clip_state(make_clip)
    theirs = form.from_perceptic(state)
    proving = next(key for key in theirs if key.endswith(("patch_embed.proj.weight", "conv1.weight")))
    del theirs[proving]
    assert detect(theirs.keys()) is form
