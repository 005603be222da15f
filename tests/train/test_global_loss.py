"""Losses over all pairs, made a slice at a time, against the whole matrix; several processes are in test_parallel."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from perceptic.train.global_loss import PairLoss, first_row, gather_rows, info_nce, sigmoid_pairs

BATCH, WIDTH = 13, 7


def inputs(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    common = torch.randn(BATCH, WIDTH, generator=random, dtype=torch.float64)
    sides = [common + torch.randn(BATCH, WIDTH, generator=random, dtype=torch.float64) for _ in range(2)]
    media, texts = (F.normalize(side, dim=-1).to(dtype).requires_grad_() for side in sides)
    scale, bias = (torch.tensor(value, dtype=dtype, requires_grad=True) for value in (9.0, -3.0))
    return media, texts, scale, bias


def naive_info_nce(media: Tensor, texts: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    logits, own = scale * media @ texts.T, torch.arange(BATCH)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2 + 0 * bias


def naive_sigmoid(media: Tensor, texts: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """SigLIP's pseudo-code: labels are 1 on the diagonal and -1 elsewhere."""
    labels = 2 * torch.eye(BATCH, dtype=media.dtype) - 1
    return -F.logsigmoid(labels * (scale * media @ texts.T + bias)).sum() / BATCH


def ours(name: str, x: tuple[Tensor, Tensor, Tensor, Tensor], max_scores: int = 1 << 20) -> PairLoss:
    if name == "info_nce":
        return info_nce(*x[:3], max_scores=max_scores)
    return sigmoid_pairs(*x, max_scores=max_scores)


@pytest.mark.parametrize("max_scores", [1, 30, 1 << 20])
@pytest.mark.parametrize(("name", "naive"), [("info_nce", naive_info_nce), ("sigmoid_pairs", naive_sigmoid)])
def test_value_and_gradients_are_those_of_the_whole_matrix(name, naive, max_scores) -> None:
    x, y = inputs(), inputs()
    loss, wanted = ours(name, x, max_scores).loss, naive(*y)
    torch.testing.assert_close(loss, wanted, rtol=0, atol=1e-12)
    (3 * loss).backward()
    (3 * wanted).backward()
    for mine, theirs in zip(x, y, strict=True):
        wanted_gradient = torch.zeros_like(theirs) if theirs.grad is None else theirs.grad
        gradient = torch.zeros_like(mine) if mine.grad is None else mine.grad
        torch.testing.assert_close(gradient, wanted_gradient, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["info_nce", "sigmoid_pairs"])
def test_gradients_are_those_of_differences(name) -> None:
    x = inputs()
    used = x[:3] if name == "info_nce" else x
    assert torch.autograd.gradcheck(lambda *values: ours(name, (*values, x[3])[:4], 30).loss, used)


@pytest.mark.parametrize("name", ["info_nce", "sigmoid_pairs"])
def test_accuracy_is_the_share_whose_own_text_is_nearest(name) -> None:
    media, texts, scale, bias = inputs()
    nearest = (media @ texts.T).argmax(dim=1)
    wanted = (nearest == torch.arange(BATCH)).double().mean().item()
    assert 0 < wanted < 1
    accuracy = ours(name, (media, texts, scale, bias), 30).accuracy
    assert accuracy.item() == pytest.approx(wanted)
    assert not accuracy.requires_grad


@pytest.mark.parametrize("name", ["info_nce", "sigmoid_pairs"])
def test_autocast_does_not_make_scores_coarse(name) -> None:
    wanted = ours(name, inputs(torch.float32)).loss
    with torch.autocast("cpu", torch.bfloat16):
        found = ours(name, inputs(torch.float32)).loss
    assert found.dtype == torch.float32
    assert found.item() == wanted.item()


def test_large_scales_do_not_overflow() -> None:
    media, texts, _, bias = inputs(torch.float32)
    scale = torch.tensor(100.0, requires_grad=True)
    for loss in (info_nce(media, -texts, scale).loss, sigmoid_pairs(media, -texts, scale, bias).loss):
        loss.backward()
        assert torch.isfinite(loss)
        assert scale.grad is not None
        assert torch.isfinite(scale.grad)


def test_one_process_gathers_its_own_rows() -> None:
    media, *_ = inputs()
    gathered = gather_rows(media)
    assert torch.equal(gathered, media)
    assert first_row(media) == 0
    (2 * gathered).sum().backward()
    assert torch.equal(media.grad, torch.full_like(media, 2))
