"""Two-dimensional rotary position embedding as a pure function of the patch grid (spec 2.3).

Nothing is cached and nothing is a buffer: the table costs microseconds, and a function of (rows, columns) cannot go
stale between two image sizes, survives meta-device construction and is safe for concurrent forwards.

Shapes: L tokens, H heads, K head size, P = K/2 rotated pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

ROPE_BASE = 10000.0


@dataclass(frozen=True)
class RopeTable:
    """Cosine and sine of every token's angles, fp32 whatever the model's dtype. Both (L, P), or (B, L, P)."""

    cos_LP: Tensor
    sin_LP: Tensor


def rope_angles(rows: int, columns: int, head_dim: int, num_prefix_tokens: int, device: torch.device) -> Tensor:
    """Rotary angles in radians, (prefix + rows*columns, head_dim/2), fp32.

    The first half of a token's angles turns with its column, the second half with its row. Prefix tokens (the class
    token) have angle 0, and with them patch positions count from 1 instead of 0. Positions are never rescaled with
    resolution.
    """
    # Tensor arithmetic on purpose: a Python-float version differs from the released models in the last bit.
    exponents = torch.arange(0, head_dim // 2, 2, dtype=torch.float32, device=device) / (head_dim // 2)
    frequencies = 1.0 / ROPE_BASE**exponents
    offset = 1 if num_prefix_tokens else 0
    x = torch.arange(columns, dtype=torch.float32, device=device) + offset
    y = torch.arange(rows, dtype=torch.float32, device=device) + offset
    x_angles = (x[:, None] * frequencies)[None, :, :].expand(rows, columns, -1)
    y_angles = (y[:, None] * frequencies)[:, None, :].expand(rows, columns, -1)
    patches = torch.cat([x_angles, y_angles], dim=-1).reshape(rows * columns, head_dim // 2)
    prefix = torch.zeros(num_prefix_tokens, head_dim // 2, dtype=torch.float32, device=device)
    return torch.cat([prefix, patches])


def rope_table(rows: int, columns: int, head_dim: int, num_prefix_tokens: int, device: torch.device) -> RopeTable:
    """The table that `apply_rope` takes, for a grid of `rows` x `columns` patches."""
    angles = rope_angles(rows, columns, head_dim, num_prefix_tokens, device)
    return RopeTable(cos_LP=angles.cos(), sin_LP=angles.sin())


def apply_rope(x_BLHK: Tensor, table: RopeTable) -> Tensor:
    """Rotate neighbouring channel pairs (2j, 2j+1) by angle j. Computed in fp32, returned in the input's dtype."""
    pairs = x_BLHK.float().unflatten(-1, (-1, 2))
    cos, sin = table.cos_LP.unsqueeze(-2), table.sin_LP.unsqueeze(-2)
    if torch.compiler.is_compiling():
        # Compilers have no complex numbers; they fuse the real form into one pass.
        even, odd = pairs.unbind(-1)
        rotated = torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1)
    else:
        # A pair is a complex number and the rotation one multiplication: one pass over memory instead of seven.
        numbers, turn = torch.view_as_complex(pairs), torch.complex(cos, sin)
        # A cast has made a copy of its own, which may be overwritten (autograd would copy it back and forth).
        overwrite = x_BLHK.dtype != torch.float32 and not numbers.requires_grad
        rotated = torch.view_as_real(numbers.mul_(turn) if overwrite else numbers * turn)
    return rotated.flatten(-2).to(x_BLHK.dtype)
