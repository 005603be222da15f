"""The pieces that the vision and the text tower share. Parameter names are the original checkpoints'.

Shapes: B batch, L tokens, D width, H heads, K head size (D = H*K).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from perceptic.models.attention import attend
from perceptic.models.rope import RopeTable, apply_rope

LAYER_NORM_EPS = 1e-5


class SelfAttention(nn.Module):
    """Multi-head self-attention with one fused projection, rows ordered q, k, v (spec 2.4)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier over the fused matrix, zero biases (spec 2.9)."""
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.in_proj_bias)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x_BLD: Tensor, rope: RopeTable | None = None, is_causal: bool = False) -> Tensor:
        """(B, L, D) to (B, L, D). `rope` rotates queries and keys; `is_causal` hides later tokens."""
        qkv_BLHK = F.linear(x_BLD, self.in_proj_weight, self.in_proj_bias).unflatten(-1, (3 * self.heads, -1))
        if rope is None:
            q, k, v = qkv_BLHK.chunk(3, dim=2)
        else:
            # Queries and keys turn by the same angles: one pass over both.
            q, k = apply_rope(qkv_BLHK[:, :, : 2 * self.heads], rope).chunk(2, dim=2)
            v = qkv_BLHK[:, :, 2 * self.heads :]
        y_BHLK = attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal)
        y_BLD: Tensor = self.out_proj(y_BHLK.transpose(1, 2).flatten(2))
        return y_BLD


class Mlp(nn.Module):
    """Linear, exact GELU, Linear."""

    def __init__(self, width: int, hidden_width: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, hidden_width)
        self.c_proj = nn.Linear(hidden_width, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.c_proj(F.gelu(self.c_fc(x)))
        return y


class LayerScale(nn.Module):
    """Multiplication by a learned vector."""

    def __init__(self, width: int, init_value: float) -> None:
        super().__init__()
        self.init_value = init_value
        self.gamma = nn.Parameter(torch.empty(width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.constant_(self.gamma, self.init_value)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x * self.gamma
        return y


class DropPath(nn.Module):
    """Stochastic depth: drops the branch of whole samples while training and rescales the others."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
        return x * mask / keep


class Block(nn.Module):
    """Pre-norm transformer block: x + ls(attn(ln(x))), then x + ls(mlp(ln(x)))."""

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_width: int,
        layer_scale_init: float | None = None,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.attn = SelfAttention(width, heads)
        self.ln_1 = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.ln_2 = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.mlp = Mlp(width, mlp_width)
        self.ls_1 = nn.Identity() if layer_scale_init is None else LayerScale(width, layer_scale_init)
        self.ls_2 = nn.Identity() if layer_scale_init is None else LayerScale(width, layer_scale_init)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, x_BLD: Tensor, rope: RopeTable | None = None, is_causal: bool = False) -> Tensor:
        x_BLD = x_BLD + self.drop_path(self.ls_1(self.attn(self.ln_1(x_BLD), rope, is_causal)))
        y_BLD: Tensor = x_BLD + self.drop_path(self.ls_2(self.mlp(self.ln_2(x_BLD))))
        return y_BLD


class Transformer(nn.Module):
    """A stack of blocks under the original's name `resblocks`."""

    def __init__(self, blocks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(blocks)
        self.grad_checkpointing = False

    def run_block(self, index: int, x_BLD: Tensor, rope: RopeTable | None = None, is_causal: bool = False) -> Tensor:
        """Apply block `index`; with activation checkpointing on, its inner activations are recomputed in backward."""
        block = self.resblocks[index]
        if self.grad_checkpointing and self.training and torch.is_grad_enabled():
            y = checkpoint(block, x_BLD, rope, is_causal, use_reentrant=False)
        else:
            y = block(x_BLD, rope, is_causal)
        assert isinstance(y, Tensor)
        return y


class AttentionPool(nn.Module):
    """A learned query attends over all tokens; then y + MLP(LN(y)), no residual from the query (spec 2.5)."""

    def __init__(self, width: int, heads: int, mlp_ratio: int = 4) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.empty(1, 1, width))
        self.attn = SelfAttention(width, heads)
        self.layernorm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.mlp = Mlp(width, mlp_ratio * width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.probe)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """(B, L, D) to (B, D)."""
        width = x_BLD.shape[-1]
        weight, bias = self.attn.in_proj_weight, self.attn.in_proj_bias
        q_BLD = F.linear(self.probe, weight[:width], bias[:width]).expand(x_BLD.shape[0], -1, -1)
        kv_BLD = F.linear(x_BLD, weight[width:], bias[width:])
        heads = (self.attn.heads, -1)
        q = q_BLD.unflatten(-1, heads).transpose(1, 2)
        k, v = (part.unflatten(-1, heads).transpose(1, 2) for part in kv_BLD.chunk(2, dim=-1))
        y_BLD = self.attn.out_proj(attend(q, k, v).transpose(1, 2).flatten(2))
        y_BLD = y_BLD + self.mlp(self.layernorm(y_BLD))
        y_BD: Tensor = y_BLD.squeeze(1)
        return y_BD
