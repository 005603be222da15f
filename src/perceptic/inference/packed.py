"""The vision tower rearranged for inference on a CPU: the same function, fewer passes over memory, packed weights.

What differs from `models.layers`, each measured (docs/speed.md):

- bfloat16 weights are packed once into the layout that oneDNN wants, instead of on every call; bias and residual sum go
  inside the product. (Where there is AMX and a compiler, `inference.tower_kernels` runs these blocks.)
- float32 products run on the model's own weights (packing gains nothing there); the bias is left to the next kernel,
  which reads the result anyway, and the product accumulates into the residual stream.
- LayerScale is folded into the weights before it.
- Attention, LayerNorm and GELU run in `inference.native` where it can be built.
- The attention pool never forms keys and values: its query is a constant, so that the key projection can be applied to
  the query, and the value projection to the weighted mean of the tokens.

Shapes: B batch, L tokens, D width, H heads, K head size.
"""

from __future__ import annotations

import copy
from typing import Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perceptic.inference.native import Norm
from perceptic.models.layers import AttentionPool, Block, LayerScale
from perceptic.models.rope import RopeTable, apply_rope

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class Kernels(Protocol):
    """What a block computes between its matrix products, as `native.NativeKernels` documents it."""

    def layer_norm(self, x_BLD: Tensor, norm: Norm, shift_D: Tensor | None = None) -> tuple[Tensor, Tensor]: ...

    def gelu(self, x: Tensor, bias: Tensor | None = None) -> Tensor: ...

    def attention(self, qkv_BLD: Tensor, bias: Tensor | None, rope: RopeTable | None, heads: int) -> Tensor: ...


class TorchKernels:
    """The same steps in torch's operators."""

    def layer_norm(self, x_BLD: Tensor, norm: Norm, shift_D: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y_BLD = F.layer_norm(x_BLD, x_BLD.shape[-1:], norm.weight, norm.bias, norm.epsilon)
        return y_BLD, x_BLD if shift_D is None else x_BLD + shift_D

    def gelu(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.gelu(x if bias is None else x.add_(bias))

    def attention(self, qkv_BLD: Tensor, bias: Tensor | None, rope: RopeTable | None, heads: int) -> Tensor:
        if bias is not None:
            qkv_BLD.add_(bias)
        qk_BLHK, v_BLHK = qkv_BLD.unflatten(-1, (3 * heads, -1)).split([2 * heads, heads], dim=2)
        if rope is not None:
            qk_BLHK = apply_rope(qk_BLHK, rope)
        q, k = (part.transpose(1, 2) for part in qk_BLHK.chunk(2, dim=2))
        return F.scaled_dot_product_attention(q, k, v_BLHK.transpose(1, 2)).transpose(1, 2).flatten(2)


class PackedLinear:
    """A bfloat16 product with weights in oneDNN's blocked layout; its bias is added inside."""

    late_bias: Tensor | None = None

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())
        self._bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], None)
        return y

    def added_to(self, x: Tensor, y: Tensor) -> Tensor:
        """x + self(y)."""
        z: Tensor = torch.ops.mkldnn._linear_pointwise.binary(y, x, self._weight, self._bias, "add")
        return z


class PlainLinear:
    """A float32 product on ordinary weights. Whoever reads the result adds `late_bias` to it."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self._weight = weight
        self.late_bias: Tensor | None = bias

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self._weight)

    def added_to(self, x: Tensor, y: Tensor) -> Tensor:
        """x + self(y), written over x, which has `late_bias` in it already."""
        x.flatten(0, 1).addmm_(y.flatten(0, 1), self._weight.T)
        return x


class PackedBlock(nn.Module):
    """`models.layers.Block` for inference."""

    def __init__(self, block: Block, kernels: Kernels, dtype: torch.dtype) -> None:
        super().__init__()
        linear = PlainLinear if dtype == torch.float32 else PackedLinear
        self._kernels = kernels
        self._heads = block.attn.heads
        self._ln_1, self._ln_2 = packed_norm(block.ln_1), packed_norm(block.ln_2)
        self._in_proj = linear(*_cast(block.attn.in_proj_weight, block.attn.in_proj_bias, dtype))
        self._out_proj = linear(*_cast(*_scaled(block.attn.out_proj, block.ls_1), dtype))
        self._c_fc = linear(*_cast(block.mlp.c_fc.weight, block.mlp.c_fc.bias, dtype))
        self._c_proj = linear(*_cast(*_scaled(block.mlp.c_proj, block.ls_2), dtype))

    def forward(self, x_BLD: Tensor, rope: RopeTable | None = None, is_causal: bool = False) -> Tensor:
        """(B, L, D) to (B, L, D); the input is not changed."""
        assert not is_causal
        y_BLD, x_BLD = self._kernels.layer_norm(x_BLD, self._ln_1, self._out_proj.late_bias)
        y_BLD = self._kernels.attention(self._in_proj(y_BLD), self._in_proj.late_bias, rope, self._heads)
        x_BLD = self._out_proj.added_to(x_BLD, y_BLD)
        y_BLD, x_BLD = self._kernels.layer_norm(x_BLD, self._ln_2, self._c_proj.late_bias)
        y_BLD = self._kernels.gelu(self._c_fc(y_BLD), self._c_fc.late_bias)
        return self._c_proj.added_to(x_BLD, y_BLD)


class PackedNorm(nn.Module):
    """A LayerNorm through the kernels."""

    def __init__(self, norm: nn.LayerNorm, kernels: Kernels) -> None:
        super().__init__()
        self._norm, self._kernels = packed_norm(norm), kernels

    def forward(self, x_BLD: Tensor) -> Tensor:
        return self._kernels.layer_norm(x_BLD.contiguous(), self._norm)[0]


class PackedAttentionPool(nn.Module):
    """`models.layers.AttentionPool` without keys and values: about 1 % of the tower's work less."""

    def __init__(self, pool: AttentionPool, dtype: torch.dtype) -> None:
        super().__init__()
        heads = pool.attn.heads
        weight_q, weight_k, weight_v = pool.attn.in_proj_weight.detach().float().chunk(3)
        bias_q, _, bias_v = pool.attn.in_proj_bias.detach().float().chunk(3)
        query_HK = F.linear(pool.probe.detach().float().flatten(), weight_q, bias_q).unflatten(0, (heads, -1))
        # A score is (Wk x + bk) . q = x . (Wk^T q) + a constant, which softmax ignores.
        query_HD = torch.einsum("hk,hkd->hd", query_HK * query_HK.shape[-1] ** -0.5, weight_k.unflatten(0, (heads, -1)))
        self._query_HD = query_HD.to(dtype)
        self._weight_v_HDK = weight_v.unflatten(0, (heads, -1)).mT.to(dtype).contiguous()
        self._bias_v = bias_v.to(dtype)
        self.out_proj = cast_module(pool.attn.out_proj, dtype)
        self.layernorm = cast_module(pool.layernorm, dtype)
        self.mlp = cast_module(pool.mlp, dtype)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """(B, L, D) to (B, D)."""
        scores_BHL = F.linear(x_BLD, self._query_HD).transpose(1, 2)
        mean_HBD = (scores_BHL.float().softmax(dim=-1).to(x_BLD.dtype) @ x_BLD).transpose(0, 1)
        values_BD = torch.bmm(mean_HBD, self._weight_v_HDK).transpose(0, 1).flatten(1) + self._bias_v
        y_BD: Tensor = self.out_proj(values_BD)
        residual_BD: Tensor = self.mlp(self.layernorm(y_BD))
        return y_BD + residual_BD


def packed_norm(norm: nn.LayerNorm) -> Norm:
    """A LayerNorm's numbers, contiguous and in float32."""
    return Norm(norm.weight.detach().float().contiguous(), norm.bias.detach().float().contiguous(), norm.eps)


def cast_module(module: ModuleT, dtype: torch.dtype) -> ModuleT:
    """The module itself if all of it has this type, else a copy that has."""
    if all(parameter.dtype == dtype for parameter in module.parameters()):
        return module
    return copy.deepcopy(module).to(dtype)


def _scaled(linear: nn.Linear, scale: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight and bias with the LayerScale behind them, if there is one, folded in."""
    if not isinstance(scale, LayerScale):
        return linear.weight, linear.bias
    gamma = scale.gamma.float()
    return linear.weight.float() * gamma[:, None], linear.bias.float() * gamma


def _cast(weight: Tensor, bias: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return weight.detach().to(dtype), bias.detach().to(dtype)
