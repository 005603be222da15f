"""Plain products are the fused attention, values and gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from perceptic.models import attention
from perceptic.models.packed_attention import Packing


def heads(count: int, length: int, seed: int) -> Tensor:
    return torch.randn(3, count, length, 16, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("groups", "is_causal"), [(4, False), (4, True), (2, True), (1, True)])
def test_half_precision_training_is_close_to_fp32(groups: int, is_causal: bool) -> None:
    exact = [heads(4, 21, 0), heads(groups, 21, 1), heads(groups, 21, 2)]
    weights = heads(4, 21, 3)
    for tensor in exact:
        tensor.requires_grad_()
    wanted = F.scaled_dot_product_attention(*exact, is_causal=is_causal, enable_gqa=groups < 4)
    wanted_gradients = torch.autograd.grad((wanted * weights).sum(), exact)
    rounded = [tensor.detach().bfloat16().requires_grad_() for tensor in exact]
    actual = attention.attend(rounded[0], rounded[1], rounded[2], is_causal)
    assert actual.dtype == torch.bfloat16
    torch.testing.assert_close(actual.float(), wanted, atol=0.03, rtol=0.03)
    for ours, theirs in zip(torch.autograd.grad((actual * weights).sum(), rounded), wanted_gradients, strict=True):
        torch.testing.assert_close(ours.float(), theirs, atol=0.08, rtol=0.05)


def test_products_are_for_short_half_precision_training_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> Tensor:
        raise AssertionError("fused")

    monkeypatch.setattr(F, "scaled_dot_product_attention", refuse)
    short = heads(2, 8, 0).bfloat16().requires_grad_()
    attention.attend(short, short, short)
    for other in (
        short.detach(),
        short.detach().float().requires_grad_(),
        short.detach().double().requires_grad_(),
        heads(2, 900, 0).bfloat16().requires_grad_(),
    ):
        with pytest.raises(AssertionError, match="fused"):
            attention.attend(other, other, other)


def test_samples_of_about_one_length_go_together() -> None:
    packing = Packing(((10, 40, 12, 10), (100, 37)), 160)
    groups = {length: [packing.spans[number] for number in group] for length, group in packing.alike.items()}
    assert groups == {10: [10, 10], 40: [40, 37], 12: [12], 112: [100]}


def test_lengths_are_few_and_little_too_long() -> None:
    rounded = {length: next(iter(Packing(((length,),), length).alike)) for length in range(1, 1025)}
    assert all(length <= padded <= 1.25 * length for length, padded in rounded.items())
    assert len(set(rounded.values())) < 45
