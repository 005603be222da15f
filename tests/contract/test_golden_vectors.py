"""The golden vectors of spec section 10: weights from a formula, so that no file is needed."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from perceptic.configs import ClipConfig, TextConfig, VisionConfig
from perceptic.weights.formats import FORMATS
from perceptic.weights.pretrained import CLIP, VisionTransformer

TOLERANCE = 5e-5
A = VisionConfig(
    patch_size=4,
    width=32,
    layers=2,
    heads=2,
    mlp_ratio=2.0,
    image_size=16,
    output_dim=8,
    use_cls_token=True,
    attn_pooler_heads=4,
)
B = A.replace(output_dim=None, use_cls_token=False, pool_type="none", use_ln_post=False, ls_init_value=0.1)
TEXT = TextConfig(context_length=6, width=16, heads=2, layers=2, mlp_ratio=4.0, vocab_size=50, output_dim=8)


def uniform(count: int, seed: float) -> Tensor:
    """u_k(s) = frac(sin(12.9898 k + 78.233 s) * 43758.5453), in float64."""
    k = torch.arange(count, dtype=torch.float64)
    z = torch.sin(12.9898 * k + 78.233 * seed) * 43758.5453
    return z - z.floor()


def value_of(name: str, shape: torch.Size) -> Tensor:
    if name == "logit_scale":
        return torch.tensor(math.log(1 / 0.07))
    centred = uniform(math.prod(shape), sum(name.encode()) % 97) - 0.5
    if ("ln_" in name or "layernorm" in name) and name.endswith("weight"):
        values = 1 + 0.4 * centred
    elif name.endswith("gamma"):
        values = 0.5 + 0.4 * centred
    else:
        values = 0.8 * centred
    return values.float().reshape(shape)


def fill(model: nn.Module, names: dict[str, str]) -> None:
    """Give each parameter its formula's value. `names` maps our keys to the original's."""
    model.load_state_dict({key: value_of(names[key], value.shape) for key, value in model.state_dict().items()})
    model.eval()


def tower(config: VisionConfig) -> VisionTransformer:
    model = VisionTransformer(config)
    fill(model, {key: key for key in model.state_dict()})
    return model


def clip() -> CLIP:
    model = CLIP(ClipConfig(vision=A, text=TEXT))
    # In a CLIP file the vision names begin with `visual.` and the text names with nothing.
    original = {id(value): key for key, value in FORMATS["original"].from_perceptic(model.state_dict()).items()}
    keys = [key.removeprefix("text.") for key in model.state_dict()]
    assert sorted(keys) == sorted(original.values())
    fill(model, {key: key.removeprefix("text.") for key in model.state_dict()})
    return model


def image(batch: int = 1, height: int = 16, width: int = 16) -> Tensor:
    return (4 * uniform(batch * 3 * height * width, 5) - 2).float().reshape(batch, 3, height, width)


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def check(actual: Tensor, expected: str) -> None:
    torch.testing.assert_close(
        actual.flatten()[:6], torch.tensor([float(x) for x in expected.split()]), atol=TOLERANCE, rtol=0
    )


def test_tower_with_class_token() -> None:
    model = tower(A)
    check(model(image()), "-1.14471 -0.41964 -0.97989 -1.55956 -4.71522 1.74699")
    features = model.forward_features(image())
    check(features[0, 0], "-0.53497 -1.36318 3.32383 -1.30023 -4.73609 0.62488")
    check(features[0, -1], "3.01310 -3.61209 1.47347 -0.64092 -1.88444 0.57472")
    first = model.forward_features(image(), norm=True, layer_idx=0, strip_cls_token=True)
    check(first[0, 0], "-1.40922 -1.28781 0.58379 -1.73670 -0.45915 1.22341")
    check(model(image(height=12, width=24)), "-0.33021 0.65028 -0.51428 -1.59858 -7.21831 1.92202")


def test_tower_without_class_token() -> None:
    model = tower(B)
    check(model(image())[0, -1], "2.20076 -4.22519 0.10229 -1.31220 -0.19111 1.61076")
    check(model(image(height=24, width=12))[0, -1], "3.04685 -2.86544 -1.67050 1.95276 0.53098 -0.19064")


def test_text_tower() -> None:
    model = clip()
    first, second = torch.tensor([[48, 3, 7, 49, 0, 0]]), torch.tensor([[48, 5, 49, 0, 0, 0]])
    check(model.encode_text(first), "-0.93748 0.11744 -0.83589 -1.84233 -0.23759 0.16914")
    check(model.encode_text(second), "0.46573 -0.77772 -0.62770 -0.61958 -0.49880 1.11266")


def test_clip_logits() -> None:
    ids = torch.tensor([[48, 3, 7, 49, 0, 0], [48, 5, 49, 0, 0, 0]])
    features, texts, scale = clip()(image(batch=2), ids)
    logits = scale * features @ texts.T
    torch.testing.assert_close(
        logits.flatten(), torch.tensor([-6.31871, -6.88816, -5.93589, -5.57679]), atol=TOLERANCE, rtol=0
    )


def test_video() -> None:
    frames = image(batch=4)[None]
    originals = clip().encode_video(frames, normalize="frames")
    check(originals, "0.14052 -0.44662 0.28730 0.32987 0.17632 -0.53484")
    assert originals.norm().item() == pytest.approx(0.98854, abs=TOLERANCE)
    check(clip().encode_video(frames), "2.12591 -6.61052 4.28952 4.94642 2.71563 -7.97422")
