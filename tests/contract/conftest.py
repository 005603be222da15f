"""Every zoo entry at a size that runs in milliseconds: the same flags and patch size, fewer and thinner blocks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from perceptic import zoo
from perceptic.configs import ClipConfig, TextConfig, VisionConfig
from perceptic.weights.pretrained import CLIP, VisionTransformer


def shrink_vision(config: VisionConfig) -> VisionConfig:
    # Head sizes keep the ratio of 64 to 96, both multiples of 4.
    head_dim = config.head_dim // 8
    return config.replace(
        width=2 * head_dim,
        heads=2,
        layers=3,
        image_size=3 * config.patch_size,
        output_dim=None if config.output_dim is None else 12,
        attn_pooler_heads=4,
    )


def shrink(config: ClipConfig | VisionConfig) -> ClipConfig | VisionConfig:
    if isinstance(config, VisionConfig):
        return shrink_vision(config)
    text = config.text.replace(width=16, heads=2, layers=2, vocab_size=64, output_dim=12)
    return ClipConfig(vision=shrink_vision(config.vision), text=text)


def perturb(model: nn.Module) -> None:
    """No weight at a trivial value."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)


def build(name: str) -> CLIP | VisionTransformer:
    torch.manual_seed(0)
    config = shrink(zoo.find_card(name).config)
    model = CLIP(config) if isinstance(config, ClipConfig) else VisionTransformer(config)
    perturb(model)
    return model.eval()


def build_tower(name: str) -> VisionTransformer:
    model = build(name)
    return model.visual if isinstance(model, CLIP) else model


@pytest.fixture
def make_model() -> Callable[[str], CLIP | VisionTransformer]:
    return build


@pytest.fixture
def make_tower() -> Callable[[str], VisionTransformer]:
    return build_tower


@pytest.fixture
def text_config() -> TextConfig:
    config = shrink(zoo.find_card("PE-Core-B16-224").config)
    assert isinstance(config, ClipConfig)
    return config.text
