"""The contrastive objective against its formula, in chunks and over clips."""

import math

import pytest
import torch
import torch.nn.functional as F

from perceptic.configs import ClipConfig, TextConfig, VisionConfig
from perceptic.data.batches import Batch
from perceptic.models.clip import CLIP
from perceptic.train.global_loss import info_nce
from perceptic.train.objectives import Contrastive, add_logit_bias

CONFIG = ClipConfig(
    vision=VisionConfig(
        patch_size=8, width=16, layers=1, heads=2, output_dim=8, image_size=16, use_cls_token=True, attn_pooler_heads=2
    ),
    text=TextConfig(context_length=24, width=16, heads=2, layers=1, output_dim=8, vocab_size=50),
)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return CLIP(CONFIG)


def make_ids(lengths, columns=24):
    ids = torch.zeros(len(lengths), columns, dtype=torch.int64)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(1, 48, (length,), generator=torch.Generator().manual_seed(row))
        ids[row, length - 1] = 49
    return ids


def naive_info_nce(media, text, scale):
    """Mean over pairs and directions of -log(exp(own) / sum(exp(all))), in Python numbers."""
    logits = [[scale * sum(a * b for a, b in zip(m, t, strict=False)) for t in text] for m in media]
    total = 0.0
    for rows in (logits, list(zip(*logits, strict=False))):
        for own, row in enumerate(rows):
            total -= row[own] - math.log(sum(math.exp(value) for value in row))
    return total / (2 * len(media))


def test_info_nce_equals_the_naive_formula():
    torch.manual_seed(1)
    media, text = (F.normalize(torch.randn(5, 3, dtype=torch.float64), dim=-1) for _ in range(2))
    loss = info_nce(media, text, torch.tensor(7.0, dtype=torch.float64)).loss
    assert loss.item() == pytest.approx(naive_info_nce(media.tolist(), text.tolist(), 7.0), rel=1e-9)


def test_images_and_texts_of_the_model_enter_the_formula(model):
    batch = Batch(torch.randn(4, 3, 16, 16), make_ids([3, 24, 7, 9]))
    loss, metrics = Contrastive().loss(model, batch)
    media = model.encode_image(batch.pixels, normalize=True)
    text = model.encode_text(batch.ids, normalize=True)
    assert loss.item() == pytest.approx(naive_info_nce(media.tolist(), text.tolist(), 1 / 0.07), rel=1e-4)
    assert metrics["logit_scale"].item() == pytest.approx(1 / 0.07)
    assert 0.0 <= metrics["accuracy"].item() <= 1.0


def test_a_clip_is_the_mean_of_its_raw_frame_embeddings(model):
    frames, ids = torch.randn(3, 2, 3, 16, 16), make_ids([4, 5, 6])
    loss, _ = Contrastive().loss(model, Batch(frames, ids))
    video = F.normalize(model.encode_video(frames), dim=-1)
    expected = info_nce(video, model.encode_text(ids, normalize=True), model.logit_scale.exp()).loss
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("shape", [(7, 3, 16, 16), (7, 2, 3, 16, 16)])
def test_chunks_change_neither_loss_nor_gradients(model, shape):
    torch.manual_seed(2)
    batch = Batch(torch.randn(shape), make_ids([3, 24, 7, 9, 17, 3, 8]))
    results = []
    for chunk_size in (0, 3):
        model.zero_grad()
        loss, _ = Contrastive(chunk_size=chunk_size).loss(model, batch)
        loss.backward()
        results.append((loss.detach(), [p.grad.clone() for p in model.parameters()]))
    torch.testing.assert_close(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-4, atol=1e-5)


def test_the_logit_scale_is_capped_after_a_step(model):
    with torch.no_grad():
        model.logit_scale.fill_(9.0)
    Contrastive(max_logit_scale=100.0).after_step(model)
    assert model.logit_scale.exp().item() == pytest.approx(100.0)


def naive_siglip(media, text, scale, bias):
    total = 0.0
    for i, m in enumerate(media):
        for j, t in enumerate(text):
            z = scale * sum(a * b for a, b in zip(m, t, strict=True)) + bias
            total += math.log1p(math.exp(-z if i == j else z))
    return total / len(media)


def test_siglip_equals_the_naive_formula_and_learns_its_bias(model):
    model.double()
    add_logit_bias(model)
    batch = Batch(torch.randn(4, 3, 16, 16, dtype=torch.float64), make_ids([3, 24, 7, 9]))
    loss, metrics = Contrastive(pair_loss="siglip").loss(model, batch)
    media = model.encode_image(batch.pixels, normalize=True)
    text = model.encode_text(batch.ids, normalize=True)
    assert loss.item() == pytest.approx(naive_siglip(media.tolist(), text.tolist(), 10.0, -10.0), rel=1e-6)
    loss.backward()
    assert model.logit_bias.grad.item() != 0.0
    assert model.logit_scale.grad.item() != 0.0
    assert set(metrics) == {"accuracy", "logit_scale"}


def test_siglip_gradients_in_chunks_are_those_of_the_whole(model):
    model.double()
    add_logit_bias(model)
    batch = Batch(torch.randn(5, 3, 16, 16, dtype=torch.float64), make_ids([3, 24, 7, 9, 5]))
    gradients = []
    for chunk_size in (0, 2):
        model.zero_grad()
        Contrastive(pair_loss="siglip", chunk_size=chunk_size).loss(model, batch)[0].backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-8, atol=1e-12)
