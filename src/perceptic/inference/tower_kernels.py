"""A vision tower's blocks in compiled kernels, on AMX: one call a block, weights where and as they lie.

Products, norms, biases, GELU, LayerScale and residual sums run in `kernels/tower_block.c`, with sums in float32 and one
rounding of what is written; nothing is packed beforehand, so that mapped weights are not held twice.

Shapes: B batch, L tokens, D width.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor, nn

from perceptic.inference.native import NativeLibrary
from perceptic.inference.native_matrix import CMatrix, c_matrix
from perceptic.models.layers import Block, LayerScale
from perceptic.models.rope import RopeTable

_COLUMN_STEP = 32


class _CTerms(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("bias", "factor")]


class _CNorm(ctypes.Structure):
    _fields_ = [("weight", ctypes.c_void_p), ("bias", ctypes.c_void_p), ("epsilon", ctypes.c_float)]


class _CBlock(ctypes.Structure):
    _fields_ = [
        *((name, CMatrix) for name in ("in_proj", "out_proj", "c_fc", "c_proj")),
        *((name, _CTerms) for name in ("in_terms", "out_terms", "fc_terms", "proj_terms")),
        *((name, _CNorm) for name in ("ln_1", "ln_2")),
        ("heads", ctypes.c_int64),
    ]


def fits_tower(width: int, mlp_width: int, head_size: int) -> bool:
    """Whether `TowerBlock` can run blocks of these sizes."""
    return all(size % _COLUMN_STEP == 0 for size in (width, mlp_width, head_size))


class TowerBlock(nn.Module):
    """`models.layers.Block` for inference in bfloat16. It shares the block's weights if they have that type."""

    def __init__(self, block: Block, library: NativeLibrary) -> None:
        super().__init__()
        self._library = library
        self._kept: list[Tensor] = []
        attention, mlp = block.attn, block.mlp
        weights = (attention.in_proj_weight, attention.out_proj.weight, mlp.c_fc.weight, mlp.c_proj.weight)
        self._block = _CBlock(
            *map(self._matrix, weights),
            self._terms(attention.in_proj_bias),
            self._terms(attention.out_proj.bias, block.ls_1),
            self._terms(mlp.c_fc.bias),
            self._terms(mlp.c_proj.bias, block.ls_2),
            self._norm(block.ln_1),
            self._norm(block.ln_2),
            attention.heads,
        )

    def forward(self, x_BLD: Tensor, rope: RopeTable | None = None, is_causal: bool = False) -> Tensor:
        """(B, L, D) to (B, L, D); the input is not changed."""
        assert not is_causal
        assert x_BLD.dtype == torch.bfloat16
        x_BLD = x_BLD.contiguous()
        y_BLD = torch.empty_like(x_BLD)
        cosine, sine = (None, None) if rope is None else (rope.cos_LP.contiguous(), rope.sin_LP.contiguous())
        if x_BLD.numel():
            self._library.run(
                "tower_block_bf16", ctypes.byref(self._block), x_BLD, cosine, sine, y_BLD, *x_BLD.shape[:2]
            )
        return y_BLD

    def _matrix(self, weight: Tensor) -> CMatrix:
        seen, tensors = c_matrix(weight.detach().to(torch.bfloat16))
        self._kept += tensors
        return seen

    def _terms(self, bias: Tensor, scale: nn.Module | None = None) -> _CTerms:
        factor = self._floats(scale.gamma) if isinstance(scale, LayerScale) else None
        return _CTerms(self._floats(bias), factor)

    def _norm(self, norm: nn.LayerNorm) -> _CNorm:
        return _CNorm(self._floats(norm.weight), self._floats(norm.bias), norm.eps)

    def _floats(self, values: Tensor) -> int:
        kept = values.detach().float().contiguous()
        self._kept.append(kept)
        return kept.data_ptr()
