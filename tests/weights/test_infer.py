"""The architecture is read off the shapes; what they cannot say comes from the zoo or from the user."""

from __future__ import annotations

import pytest
import torch

from perceptic import zoo
from perceptic.configs import ClipConfig, VisionConfig, clip_config, vision_config
from perceptic.errors import WeightsError
from perceptic.weights.infer import describe_fit, infer_config, infer_text, infer_vision, mlp_ratio
from perceptic.weights.loading import build_empty
from perceptic.weights.names import StateDict
from perceptic.weights.pretrained import CLIP, VisionTransformer


def shapes_of(config: VisionConfig | ClipConfig) -> StateDict:
    model = build_empty(CLIP if isinstance(config, ClipConfig) else VisionTransformer, config)
    prefix = "" if isinstance(config, ClipConfig) else "visual."
    return {prefix + key: value for key, value in model.state_dict().items()}


@pytest.mark.parametrize("name", zoo.names())
def test_every_zoo_model_is_recognised(name: str) -> None:
    card = zoo.find_card(name)
    state = shapes_of(card.config)
    inferred = infer_config(state)
    # The ratio may differ in its last bit; what counts is the width it makes.
    assert inferred == card.config
    assert name in describe_fit(state)


def test_twins_are_both_named() -> None:
    state = shapes_of(vision_config("PE-Lang-L14-448"))
    assert describe_fit(state) == " These weights fit PE-Lang-L14-448 or PE-Lang-L14-448-Tiling."


@pytest.mark.parametrize(
    "changes",
    [
        {"image_size": 448},
        {"layers": 20},
        {"output_dim": None},
        {"output_dim": 640},
        {"output_dim": None, "pool_type": "none", "use_ln_post": False},
        {"ls_init_value": 0.1},
        {"use_abs_posemb": False, "image_size": 336},
    ],
)
def test_relatives_of_a_zoo_model(changes: dict[str, object]) -> None:
    config = vision_config("PE-Core-L14-336").replace(**changes)
    assert infer_config(shapes_of(config)) == config


def test_a_clip_model_of_another_depth() -> None:
    base = clip_config("PE-Core-S16-384")
    config = ClipConfig(base.vision.replace(layers=3), base.text.replace(layers=2, vocab_size=1000, context_length=64))
    assert infer_config(shapes_of(config)) == config


def test_an_unknown_width_asks_for_the_architecture() -> None:
    config = vision_config("PE-Core-B16-224").replace(width=320, heads=5, layers=2)
    with pytest.raises(WeightsError, match=r"no model of the zoo has width 320.*give the architecture \(config="):
        infer_config(shapes_of(config))


def test_an_unknown_pooling_asks_for_the_architecture() -> None:
    config = vision_config("PE-Core-B16-224").replace(pool_type="tok", layers=2)
    with pytest.raises(WeightsError, match="do not say how the tokens are pooled; give the architecture"):
        infer_config(shapes_of(config))


def test_an_unknown_text_width_asks_for_the_architecture() -> None:
    base = clip_config("PE-Core-S16-384")
    config = ClipConfig(base.vision, base.text.replace(width=640, heads=10, layers=1))
    with pytest.raises(WeightsError, match="no text tower of the zoo has width 640"):
        infer_config(shapes_of(config))


def test_no_tower_at_all() -> None:
    with pytest.raises(WeightsError, match="neither a vision nor a text tower"):
        infer_config({"logit_scale": torch.zeros(())})


@pytest.mark.parametrize(
    ("key", "replacement", "message"),
    [
        ("conv1.weight", None, "the weight 'conv1.weight' is missing"),
        ("conv1.weight", torch.zeros(3, 3), r"'conv1.weight' has shape \(3, 3\); expected 4 axes"),
        ("conv1.weight", torch.zeros(0, 3, 16, 16), r"has shape \(0, 3, 16, 16\)"),
        ("positional_embedding", torch.zeros(9, 192), "has 8 patch rows, which is not a square grid"),
        ("positional_embedding", torch.zeros(1, 192), "has 0 patch rows"),
        ("transformer.resblocks.0.mlp.c_fc.weight", None, "resblocks.0.mlp.c_fc.weight' is missing"),
    ],
)
def test_broken_vision_shapes(key: str, replacement: torch.Tensor | None, message: str) -> None:
    state = {k.removeprefix("visual."): v for k, v in shapes_of(vision_config("PE-Spatial-T16-512")).items()}
    del state[key]
    if replacement is not None:
        state[key] = replacement
    with pytest.raises(WeightsError, match=message):
        infer_vision(state)


def test_broken_text_shapes() -> None:
    with pytest.raises(WeightsError, match=r"the weight 'token_embedding\.weight' is missing"):
        infer_text({})


def test_towers_that_do_not_fit() -> None:
    vision = shapes_of(vision_config("PE-Core-T16-384"))
    text = {k: v for k, v in shapes_of(clip_config("PE-Core-B16-224")).items() if k.startswith("text.")}
    with pytest.raises(WeightsError, match=r"the two towers do not fit together: .*vision 512, text 1024"):
        infer_config({**vision, **text})


def test_a_hole_in_the_blocks_counts_to_the_hole() -> None:
    state = shapes_of(vision_config("PE-Spatial-T16-512"))
    state = {key: value for key, value in state.items() if ".resblocks.5." not in key}
    config = infer_config(state)
    assert isinstance(config, VisionConfig)
    assert config.layers == 5


def test_ratio_gives_back_every_width() -> None:
    for width in (16, 192, 384, 1536, 1280):
        for hidden in range(width, 6 * width, 7):
            assert int(width * mlp_ratio(hidden, width)) == hidden
