"""Masked copies: how much is hidden, what is compared, and whose gradients they are."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from perceptic.configs import ClipConfig, TextConfig, VisionConfig
from perceptic.data.batches import Batch
from perceptic.errors import ConfigError
from perceptic.models.clip import CLIP
from perceptic.train.mask_regularisation import MaskRecipe, draw_masks, hide_patches, mask_loss
from perceptic.train.objectives import Contrastive

CONFIG = ClipConfig(
    vision=VisionConfig(
        patch_size=4, width=16, layers=2, heads=2, output_dim=8, image_size=16, use_cls_token=True, attn_pooler_heads=2
    ),
    text=TextConfig(context_length=8, width=16, heads=2, layers=1, output_dim=8, vocab_size=50),
)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return CLIP(CONFIG).double()


@pytest.fixture
def batch():
    torch.manual_seed(1)
    ids = torch.randint(1, 48, (8, 8))
    ids[:, -1] = 49
    return Batch(torch.randn(8, 3, 16, 16, dtype=torch.float64), ids)


@given(st.integers(1, 5), st.integers(1, 40), st.floats(0.01, 1.0))
def test_every_copy_hides_the_same_number_and_keeps_one(count, patches, ratio):
    hidden = draw_masks(count, patches, ratio).sum(dim=1)
    assert (hidden == hidden[0]).all()
    assert 1 <= hidden[0] <= max(1, patches - 1)
    assert abs(hidden[0] - ratio * patches) <= 1


def test_places_are_drawn_evenly():
    torch.manual_seed(0)
    shares = draw_masks(4000, 10, 0.4).float().mean(dim=0)
    torch.testing.assert_close(shares, torch.full((10,), 0.4), rtol=0, atol=0.03)


def test_a_hidden_patch_is_a_zero_embedding(model, batch):
    hidden = draw_masks(8, 16, 0.4)
    visual = model.visual
    seen = F.linear(visual.patches(hide_patches(batch.pixels, hidden, 4)), visual.conv1.weight.flatten(1))
    whole = F.linear(visual.patches(batch.pixels), visual.conv1.weight.flatten(1))
    torch.testing.assert_close(seen, whole.masked_fill(hidden[..., None], 0.0), rtol=0, atol=0)
    assert seen[hidden].abs().max() == 0


def test_edges_beyond_the_last_patch_are_allowed():
    pixels = torch.ones(1, 3, 10, 9)
    assert hide_patches(pixels, torch.ones(1, 4, dtype=torch.bool), 4).sum() == 3 * (90 - 64)


def test_loss_and_gradients_are_those_of_the_formula(model, batch):
    recipe = MaskRecipe(share=0.25, ratio=0.4)
    torch.manual_seed(5)
    mask_loss(model.visual, batch.pixels, recipe).backward()
    ours = {name: p.grad.clone() for name, p in model.visual.named_parameters() if p.grad is not None}
    model.zero_grad()
    torch.manual_seed(5)
    hidden = draw_masks(2, 16, 0.4)
    targets = model.visual.forward_features(batch.pixels[:2], norm=True, strip_cls_token=True).detach()
    outputs = model.visual.forward_features(hide_patches(batch.pixels[:2], hidden, 4), norm=True, strip_cls_token=True)
    terms = [
        1 - outputs[i, j] @ targets[i, j] / (outputs[i, j].norm() * targets[i, j].norm())
        for i, j in hidden.nonzero().tolist()
    ]
    torch.stack(terms).mean().backward()
    naive = {name: p.grad for name, p in model.visual.named_parameters() if p.grad is not None}
    assert ours.keys() == naive.keys()
    for name, gradient in naive.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-9, atol=1e-12)


def test_contrastive_and_mask_gradients_add_up_and_stay_apart(model, batch):
    """The contrastive part is that of a run without masks; pooling and projection get nothing from the masks."""
    recipe = MaskRecipe(share=0.5, weight=3.0)

    def gradients(run):
        model.zero_grad()
        torch.manual_seed(9)
        run().backward()
        return {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}

    both = gradients(lambda: Contrastive(mask=recipe).loss(model, batch)[0])
    alone = gradients(lambda: Contrastive().loss(model, batch)[0])
    masks = gradients(lambda: 3.0 * mask_loss(model.visual, batch.pixels, recipe))
    for name in both:
        torch.testing.assert_close(both[name], alone[name] + masks[name], rtol=1e-8, atol=1e-12)
    untouched = [n for n in masks if n.startswith(("text.", "visual.attn_pool", "visual.proj", "logit_scale"))]
    assert untouched
    assert all(masks[name].abs().max() == 0 for name in untouched)
    assert any(masks[name].abs().max() > 0 for name in masks)


def test_clips_are_not_masked_and_pictures_say_how_close_they_are(model, batch):
    objective = Contrastive(mask=MaskRecipe())
    _, metrics = objective.loss(model, batch)
    assert -1.0 <= metrics["mask_cosine"].item() <= 1.0
    _, metrics = objective.loss(model, Batch(batch.pixels[:, None], batch.ids))
    assert "mask_cosine" not in metrics


@pytest.mark.parametrize(
    ("options", "key"), [({"share": 0.0}, "share"), ({"ratio": 1.5}, "ratio"), ({"weight": -1.0}, "weight")]
)
def test_impossible_recipes_are_named(options, key):
    with pytest.raises(ConfigError, match=rf"mask\.{key}"):
        MaskRecipe(**options)
