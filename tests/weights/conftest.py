"""Small models of every kind, with no weight left at a trivial value."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from perceptic.configs import ClipConfig, TextConfig, VisionConfig
from perceptic.weights.pretrained import CLIP, VisionTransformer

CORE = VisionConfig(
    patch_size=4,
    width=16,
    layers=2,
    heads=2,
    mlp_ratio=2.0,
    output_dim=12,
    image_size=16,
    use_cls_token=True,
    attn_pooler_heads=4,
)
LANG = CORE.replace(output_dim=None, ls_init_value=0.1, pool_type="none", use_ln_post=False)
TEXT = TextConfig(context_length=6, width=16, heads=2, layers=2, output_dim=12, vocab_size=50)
CLIP_CONFIG = ClipConfig(vision=CORE, text=TEXT)


@pytest.fixture(scope="session")
def core_config() -> VisionConfig:
    return CORE


@pytest.fixture(scope="session")
def lang_config() -> VisionConfig:
    return LANG


@pytest.fixture(scope="session")
def clip_config() -> ClipConfig:
    return CLIP_CONFIG


def perturb(model: nn.Module) -> None:
    """Zeros and ones hide swapped tensors: every weight gets its own value."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)


@pytest.fixture
def make_clip() -> Callable[[], CLIP]:
    def make() -> CLIP:
        model = CLIP(CLIP_CONFIG)
        perturb(model)
        return model.eval()

    return make


@pytest.fixture
def make_tower() -> Callable[[VisionConfig], VisionTransformer]:
    def make(config: VisionConfig) -> VisionTransformer:
        model = VisionTransformer(config)
        perturb(model)
        return model.eval()

    return make
