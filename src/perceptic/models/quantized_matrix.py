"""Matrices in 8 and 4 bits: how they are stored, made and turned back. Weights only; what is computed stays in floats.

int8: one scale per row, codes -127 to 127. int4: one scale per 32 inputs of a row, codes are places in a table of 16
levels, 4.5 bits a weight in all. Everything is plain torch and runs on any device.

Shapes: N outputs, K inputs, P inputs padded to a multiple of 128, G groups of I = 32 inputs, W rows of a
slice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from perceptic.errors import ConfigError

Kind = Literal["int8", "int4"]

GROUP = 32
BLOCK = 128
LEVELS = (-127, -97, -75, -58, -43, -30, -19, -8, 2, 11, 21, 32, 45, 60, 79, 104)
"""The 16 levels of int4. Fitted to the least squared error over groups of normal and of Student-t (5) values: 5.5 and
6.6 thousandths of their energy, where evenly spaced levels lose 6.6 and 10.6 (`benchmarks/quantization.py --levels`).
The two ends differ, and a scale may be negative: the largest weight of a group takes the end that suits the rest."""

_SHRINKING = (1.0, 0.9)  # first scales that are tried: losing a little of the largest weight can help the rest
_TABLE_STEPS = 256  # of one half, to either side
_LARGEST_EXPONENT = 120
_SLICE_WEIGHTS = 2**22  # at once: in float32 they stay below 16 MiB


@dataclass(frozen=True, eq=False)
class Int8Matrix:
    """W[n, k] = scales[n] * codes[n, k].

    Attributes:
        codes: int8 (N, K). scales: float32 (N,).
    """

    codes: Tensor
    scales: Tensor

    @property
    def shape(self) -> torch.Size:
        """(N, K)."""
        return self.codes.shape

    @property
    def nbytes(self) -> int:
        return self.codes.nbytes + self.scales.nbytes

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The weights (N, K)."""
        return (self.codes * self.scales[:, None]).to(dtype)

    def rows(self, ids: Tensor) -> Tensor:
        """Rows of any int64 ids (...) as float32 (..., K)."""
        return self.codes[ids] * self.scales[ids][..., None]

    def part(self, start: int, stop: int) -> Int8Matrix:
        """The matrix of some rows, sharing memory."""
        return Int8Matrix(self.codes[start:stop], self.scales[start:stop])


@dataclass(frozen=True, eq=False)
class Int4Matrix:
    """W[n, k] = scales[n, k // 32] * LEVELS[code of n, k].

    A block of 128 inputs is 32 little-endian words of 16 bits; bits 4i to 4i + 3 of word j are the code of input
    32i + j, so that one shift gives the codes of 32 neighbours.

    Attributes:
        codes: uint8 (N, P/2). scales: bfloat16 (N, P/32), of any sign; 0 where a whole group is padding.
        columns: K.
    """

    codes: Tensor
    scales: Tensor
    columns: int

    @property
    def shape(self) -> torch.Size:
        """(N, K)."""
        return torch.Size((self.codes.shape[0], self.columns))

    @property
    def nbytes(self) -> int:
        return self.codes.nbytes + self.scales.nbytes

    @property
    def codebook(self) -> Tensor:
        """The levels, float32 (16,)."""
        return torch.tensor(LEVELS, dtype=torch.float32, device=self.codes.device)

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The weights (N, K)."""
        return _from_levels(self.codes, self.scales, self.columns).to(dtype)

    def rows(self, ids: Tensor) -> Tensor:
        """Rows of any int64 ids (...) as float32 (..., K)."""
        flat = ids.flatten()
        return _from_levels(self.codes[flat], self.scales[flat], self.columns).view(*ids.shape, self.columns)

    def part(self, start: int, stop: int) -> Int4Matrix:
        """The matrix of some rows, sharing memory."""
        return Int4Matrix(self.codes[start:stop], self.scales[start:stop], self.columns)


QuantizedMatrix: TypeAlias = Int8Matrix | Int4Matrix


def quantize_matrix(weight: Tensor, kind: Kind) -> QuantizedMatrix:
    """The nearest matrix of a kind to float weights (N, K), on their device.

    Raises:
        ConfigError: no matrix, weights that are not finite, or an unknown kind.
    """
    if kind == "int8":
        return quantize_int8(weight)
    if kind == "int4":
        return quantize_int4(weight)
    raise ConfigError(f"no quantised matrix is named {kind!r}; choose int8 or int4")


@torch.no_grad()
def quantize_int8(weight: Tensor) -> Int8Matrix:
    """Each row's largest weight becomes 127. Raises ConfigError as `quantize_matrix`."""
    _check_shape(weight)
    codes = torch.empty(weight.shape, dtype=torch.int8, device=weight.device)
    scales = torch.empty(weight.shape[0], dtype=torch.float32, device=weight.device)
    for start, part_WK in _slices(weight):
        stop = start + len(part_WK)
        scales[start:stop] = part_WK.abs().amax(1) / 127
        codes[start:stop] = (part_WK / _divisor(scales[start:stop, None])).round().to(torch.int8)
    return Int8Matrix(codes, scales)


@torch.no_grad()
def quantize_int4(weight: Tensor) -> Int4Matrix:
    """Scales and codes of the least squared error among a few tried. Raises ConfigError as `quantize_matrix`."""
    _check_shape(weight)
    rows, columns = weight.shape
    padded = _padded(columns)
    codes = torch.empty(rows, padded // 2, dtype=torch.uint8, device=weight.device)
    scales = torch.empty(rows, padded // GROUP, dtype=torch.bfloat16, device=weight.device)
    table = _NearestLevel(weight.device)
    for start, part_WK in _slices(weight):
        groups_GI = F.pad(part_WK, (0, padded - columns)).view(-1, GROUP)
        scales_G = _fitted_scales(groups_GI, table)
        stop = start + len(part_WK)
        scales[start:stop] = scales_G.view(-1, padded // GROUP).to(torch.bfloat16)
        codes[start:stop] = _pack(table.codes(groups_GI, scales_G).view(-1, padded))
    return Int4Matrix(codes, scales, columns)


def empty_matrix(shape: tuple[int, ...], kind: Kind, device: torch.device | str | None = None) -> QuantizedMatrix:
    """A matrix (N, K) with memory but no values."""
    rows, columns = shape
    if kind == "int8":
        codes = torch.empty(rows, columns, dtype=torch.int8, device=device)
        return Int8Matrix(codes, torch.empty(rows, dtype=torch.float32, device=device))
    padded = _padded(columns)
    codes = torch.empty(rows, padded // 2, dtype=torch.uint8, device=device)
    return Int4Matrix(codes, torch.empty(rows, padded // GROUP, dtype=torch.bfloat16, device=device), columns)


def multiply(x: Tensor, matrix: QuantizedMatrix) -> Tensor:
    """x @ W.T, (..., K) to (..., N), in the type of x. A slice of the weights is turned back at a time."""
    rows, columns = matrix.shape
    step = max(1, 4 * _SLICE_WEIGHTS // columns)
    parts = [F.linear(x, matrix.part(row, row + step).dequantize(x.dtype)) for row in range(0, rows, step)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


def _fitted_scales(groups_GI: Tensor, table: _NearestLevel) -> Tensor:
    """The bfloat16 scale of least squared error for each group, among a few: (G,), float32.

    The largest weight on either end of the levels, and for the levels that follow the scale that suits them best.
    """
    largest_G = groups_GI.gather(1, groups_GI.abs().argmax(1, keepdim=True))[:, 0]
    # Near 1, where squares neither overflow nor vanish. Powers of two change no digit.
    exponents_G = torch.frexp(largest_G).exponent.clamp(-_LARGEST_EXPONENT, _LARGEST_EXPONENT)
    groups_GI, largest_G = torch.ldexp(groups_GI, -exponents_G[:, None]), torch.ldexp(largest_G, -exponents_G)
    best_G, least_G = largest_G, torch.full_like(largest_G, torch.inf)
    for end in (LEVELS[0], LEVELS[-1]):
        for factor in _SHRINKING:
            scales_G = _rounded(largest_G * (factor / end))
            for _ in range(2):
                levels_GI = table.levels(groups_GI, scales_G)
                product_G = torch.einsum("gi,gi->g", groups_GI, levels_GI)
                energy_G = torch.einsum("gi,gi->g", levels_GI, levels_GI)
                error_G = scales_G * (scales_G * energy_G - 2 * product_G)  # less the same sum for all
                best_G = torch.where(error_G < least_G, scales_G, best_G)
                least_G = torch.minimum(error_G, least_G)
                scales_G = _rounded(product_G / energy_G)
    return torch.ldexp(best_G, exponents_G)


def _rounded(scales: Tensor) -> Tensor:
    """As they are stored. Codes are chosen for rounded scales: then the rounding costs nothing."""
    return scales.to(torch.bfloat16).float()


class _NearestLevel:
    """The level nearest to a number, by a table of steps of one half: no border between levels lies inside a step.

    A look-up takes a tenth of the time of `torch.bucketize`.
    """

    def __init__(self, device: torch.device) -> None:
        middles = torch.arange(-_TABLE_STEPS, _TABLE_STEPS, device=device) / 2 + 0.25
        levels = torch.tensor(LEVELS, dtype=torch.float32, device=device)
        codes = (middles[:, None] - levels).abs().argmin(1)
        self._codes = codes.to(torch.uint8)
        self._levels = levels[codes]

    def levels(self, groups_GI: Tensor, scales_G: Tensor) -> Tensor:
        """Float32 (G, I)."""
        return self._levels.index_select(0, self._steps(groups_GI, scales_G)).view_as(groups_GI)

    def codes(self, groups_GI: Tensor, scales_G: Tensor) -> Tensor:
        """uint8 (G, I), 0 to 15."""
        return self._codes.index_select(0, self._steps(groups_GI, scales_G)).view_as(groups_GI)

    def _steps(self, groups_GI: Tensor, scales_G: Tensor) -> Tensor:
        steps = groups_GI * (2 / _divisor(scales_G))[:, None]
        return steps.add_(_TABLE_STEPS).clamp_(0, 2 * _TABLE_STEPS - 1).int().flatten()


def _pack(codes_WP: Tensor) -> Tensor:
    """Codes 0 to 15 (W, P) to bytes (W, P/2), in the order of `Int4Matrix`."""
    nibbles = codes_WP.unflatten(1, (-1, 4, GROUP)).transpose(2, 3)  # (W, blocks, 32 words, 4 nibbles)
    codes: Tensor = nibbles[..., 0::2] | (nibbles[..., 1::2] << 4)
    return codes.flatten(1)


def _from_levels(codes: Tensor, scales: Tensor, columns: int) -> Tensor:
    """Float32 weights (W, K) of packed codes (W, P/2) and scales (W, P/32)."""
    words = codes.unflatten(1, (-1, GROUP, 2))
    nibbles = torch.stack((words & 15, words >> 4), -1).flatten(-2)
    levels = torch.tensor(LEVELS, dtype=torch.float32, device=codes.device)
    codes_WBGI = nibbles.transpose(-1, -2).int()
    values = levels.index_select(0, codes_WBGI.flatten()).view(*scales.shape, GROUP)
    return (values * scales.float()[..., None]).flatten(1)[:, :columns]


def _slices(weight: Tensor) -> Iterator[tuple[int, Tensor]]:
    """First row and float32 values (W, K) of slices: a whole output head in float32 would take a gigabyte."""
    step = max(1, _SLICE_WEIGHTS // weight.shape[1])
    for start in range(0, weight.shape[0], step):
        part = weight[start : start + step].float()
        if not bool(part.isfinite().all()):
            raise ConfigError("the weights hold values that are not numbers (NaN or infinite) and cannot be quantised")
        yield start, part


def _check_shape(weight: Tensor) -> None:
    if weight.ndim != 2 or not weight.is_floating_point() or 0 in weight.shape:
        raise ConfigError(
            f"only matrices of float weights can be quantised, not {tuple(weight.shape)} of {weight.dtype}"
        )


def _divisor(scales: Tensor) -> Tensor:
    return torch.where(scales == 0, 1.0, scales)  # a row of zeros has the scale 0 and any codes


def _padded(columns: int) -> int:
    return -(-columns // BLOCK) * BLOCK
