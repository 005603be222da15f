"""The rotation has two forms, one for eager execution and one that compilers fuse: the same numbers and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from perceptic.models.rope import apply_rope, rope_table


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_both_forms(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    table = rope_table(3, 4, head_dim=16, num_prefix_tokens=1, device=torch.device("cpu"))
    torch.manual_seed(0)
    x = torch.randn(2, 13, 3, 16).to(dtype)
    slope = torch.randn_like(x)

    def value_and_gradient() -> tuple[Tensor, Tensor, Tensor]:
        leaf = x.clone().requires_grad_()
        apply_rope(leaf, table).backward(slope)
        assert leaf.grad is not None
        return apply_rope(x, table), apply_rope(leaf, table).detach(), leaf.grad

    before = x.clone()
    eager = value_and_gradient()
    assert torch.equal(x, before)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    for ours, theirs in zip(eager, value_and_gradient(), strict=True):
        torch.testing.assert_close(ours, theirs)
