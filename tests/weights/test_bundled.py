"""The bundled model lies in the package, is what its card says, and needs no network."""

from __future__ import annotations

import pytest
import torch

from perceptic import zoo
from perceptic.weights.pretrained import CLIP, VisionTransformer, load_bundle

CARD = zoo.find_card(zoo.BUNDLED_NAME)
MAX_BYTES = 15_000_000


def test_the_bundle_loads_offline() -> None:
    bundle = load_bundle(zoo.BUNDLED_NAME)
    assert isinstance(bundle.model, CLIP)
    assert bundle.card is CARD
    assert bundle.name == zoo.BUNDLED_NAME
    assert bundle.model.config == CARD.config
    assert sum(parameter.numel() for parameter in bundle.model.parameters()) == CARD.parameters
    assert bundle.preprocessing == CARD.preprocessing
    assert bundle.tokenizer is not None
    ids = bundle.tokenizer(["a red circle", "a blue square"])
    with torch.inference_mode():
        texts = bundle.model.encode_text(ids, normalize=True).float()
    assert texts.isfinite().all()
    assert (texts[0] @ texts[1]).item() < 0.999


def test_the_bundle_is_small() -> None:
    assert CARD.folder is not None
    assert sum(file.stat().st_size for file in CARD.folder.iterdir()) <= MAX_BYTES


@pytest.mark.parametrize("spelling", ["pe-core-nano", "PE_Core_Nano"])
def test_the_bundle_feeds_a_bare_tower(spelling: str) -> None:
    tower = VisionTransformer.from_pretrained(spelling)
    assert tower.config == CARD.vision
    assert tower.card is CARD
