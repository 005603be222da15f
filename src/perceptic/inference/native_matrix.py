"""A weight matrix as the compiled kernels see it: bfloat16 rows, or the codes of `models.quantized_matrix`, in place.

The structure mirrors `kernels/products.h`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from perceptic.models.quantized_matrix import Int4Matrix, Int8Matrix

Matrix = Tensor | Int8Matrix | Int4Matrix

_KINDS: dict[type, int] = {Tensor: 0, Int8Matrix: 1, Int4Matrix: 2}


class CMatrix(ctypes.Structure):
    """Addresses and sizes; it keeps nothing alive."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("codes", "scales", "codebook")] + [
        (name, ctypes.c_int64) for name in ("kind", "rows", "columns")
    ]


def c_matrix(matrix: Matrix) -> tuple[CMatrix, Sequence[Tensor]]:
    """The structure of a matrix, and the tensors whose memory it names."""
    rows, columns = matrix.shape
    if isinstance(matrix, Tensor):
        weight = matrix.contiguous()
        return CMatrix(weight.data_ptr(), None, None, _KINDS[Tensor], rows, columns), [weight]
    tensors = [matrix.codes.contiguous(), matrix.scales.contiguous()]
    if isinstance(matrix, Int4Matrix):
        tensors.append(matrix.codebook.float().contiguous())
    pointers: list[Any] = [tensor.data_ptr() for tensor in tensors] + [None] * (3 - len(tensors))
    return CMatrix(*pointers, _KINDS[type(matrix)], rows, columns), tensors
