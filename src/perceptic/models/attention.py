"""Scaled dot-product attention by fused kernels, or by plain products where those train faster.

Shapes: B batch, L tokens, H heads, G key-value heads, K head size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_SHORT = 800
"""Tokens below which plain products train faster on a CPU than PyTorch's fused attention, in bf16: 16 samples of 128
tokens take 6 ms against 21, three of 600 take 14 against 33, two of 1,024 take 41 against 26."""


def attend(q_BHLK: Tensor, k_BGLK: Tensor, v_BGLK: Tensor, is_causal: bool = False) -> Tensor:
    """(B, H, L, K) of the type of the queries; H / G queries share a key."""
    shared = q_BHLK.shape[1] // k_BGLK.shape[1]
    if not _trains_faster_in_products(q_BHLK):
        return F.scaled_dot_product_attention(q_BHLK, k_BGLK, v_BGLK, is_causal=is_causal, enable_gqa=shared > 1)
    length, size = q_BHLK.shape[2:]
    # The queries that share a key stand one after the other: one product for all of them.
    q_BGMK = q_BHLK.reshape(-1, k_BGLK.shape[1], shared * length, size) * size**-0.5
    # The softmax of half-precision numbers is worked out in fp32; scores in fp32 would be another pass over the memory.
    scores_BGML = q_BGMK @ k_BGLK.transpose(-1, -2)
    if is_causal:
        later_LL = torch.full((length, length), -torch.inf, dtype=scores_BGML.dtype).triu(1)
        scores_BGML = scores_BGML + later_LL.repeat(shared, 1)
    y_BGMK: Tensor = scores_BGML.softmax(dim=-1) @ v_BGLK
    return y_BGMK.reshape(q_BHLK.shape)


def _trains_faster_in_products(q_BHLK: Tensor) -> bool:
    is_half_on_cpu = q_BHLK.device.type == "cpu" and q_BHLK.dtype in (torch.bfloat16, torch.float16)
    return is_half_on_cpu and q_BHLK.requires_grad and q_BHLK.shape[2] < _SHORT
