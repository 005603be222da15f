"""Attention over sequences that hold several samples each, none of which sees another.

Padding every sample to full length costs the square of that length; here a sample costs about the square of its own. On
a CPU samples of about one length are attended to together, on a CUDA GPU one FlexAttention kernel skips blocks in which
nothing is visible. No mask of L x L numbers is made for a whole sequence.

Shapes: B sequences, L tokens, H heads, G key-value heads, K head size, N blocks of tokens.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from perceptic.models.attention import attend

if TYPE_CHECKING:  # half a second to import, for GPUs only
    from torch.nn.attention.flex_attention import BlockMask

BLOCK = 128
"""Tokens of a block of FlexAttention's mask."""
_STEPS_PER_DOUBLING = 4
"""Lengths that samples are padded to, less than a quarter too long: each is another kernel to generate."""


@dataclass(frozen=True, eq=False)
class GroupLayout:
    """Samples of about one length one below the other, T' tokens with what pads the shorter ones.

    Attributes:
        to_groups: int64 (T',), the token that stands there; one beyond the last for padding.
        to_tokens: int64 (B*L,), where each token stands; one beyond the last for those of no sample.
        shapes: samples and length of each group; their products sum to T'.
    """

    to_groups: Tensor
    to_tokens: Tensor
    shapes: tuple[tuple[int, int], ...]

    @property
    def sizes(self) -> list[int]:
        return [num_samples * length for num_samples, length in self.shapes]


@dataclass(frozen=True, eq=False)
class Packing:
    """Which tokens are of one sample.

    Attributes:
        sample_lengths: tokens of each sample of each sequence, in order; what is left of a sequence is padding.
        num_tokens: of a sequence (L).
        block_mask: the same for FlexAttention; None where samples are attended to by length.
    """

    sample_lengths: tuple[tuple[int, ...], ...]
    num_tokens: int
    block_mask: BlockMask | None = None

    @classmethod
    def on(cls, device: torch.device, sample_lengths: Sequence[Sequence[int]], num_tokens: int) -> Packing:
        """A packing in the form that suits a device. On a GPU L is best a multiple of 128."""
        assert all(sum(lengths) <= num_tokens for lengths in sample_lengths), "samples are longer than their sequence"
        packing = cls(tuple(map(tuple, sample_lengths)), num_tokens)
        if device.type != "cuda":
            return packing
        mask = causal_block_mask(packing.sample_ids().to(device))
        return cls(packing.sample_lengths, num_tokens, mask)

    @functools.cached_property
    def spans(self) -> list[int]:
        """Lengths of all samples and paddings, sequence by sequence; they sum to B*L."""
        return [length for lengths in self.sample_lengths for length in (*lengths, self.num_tokens - sum(lengths))]

    @functools.cached_property
    def is_padding(self) -> list[bool]:
        """Which of `spans` are padding."""
        return [i == len(lengths) for lengths in self.sample_lengths for i in range(len(lengths) + 1)]

    @functools.cached_property
    def alike(self) -> dict[int, list[int]]:
        """Numbers of the samples among `spans` by the length, of a few, that they are padded to."""
        groups: dict[int, list[int]] = {}
        for number, (span, padding) in enumerate(zip(self.spans, self.is_padding, strict=True)):
            if not padding:
                groups.setdefault(_round_up(span), []).append(number)
        return groups

    @functools.cached_property
    def layout(self) -> GroupLayout:
        """Where the tokens of `alike` samples stand side by side."""
        starts = [0, *itertools.accumulate(self.spans)]
        num_tokens = starts[-1]
        there, shapes = [], []
        for length, group in self.alike.items():
            for i in group:
                tokens = torch.arange(starts[i], starts[i] + length)
                tokens[self.spans[i] :] = num_tokens
                there.append(tokens)
            shapes.append((len(group), length))
        to_groups = torch.cat(there) if there else torch.empty(0, dtype=torch.int64)
        is_token = to_groups < num_tokens
        to_tokens = torch.full((num_tokens,), len(to_groups))
        to_tokens[to_groups[is_token]] = is_token.nonzero().flatten()
        return GroupLayout(to_groups, to_tokens, tuple(shapes))

    def sample_ids(self) -> Tensor:
        """int64 (B, L): the number of each token's sample in its sequence; padding counts as one more."""
        numbers = [i for lengths in self.sample_lengths for i in range(len(lengths) + 1)]
        return torch.tensor(numbers).repeat_interleave(torch.tensor(self.spans)).view(-1, self.num_tokens)

    def positions(self) -> Tensor:
        """int64 (B, L): 0, 1, 2... within each sample."""
        return torch.cat([torch.arange(length) for length in self.spans]).view(-1, self.num_tokens)


def attend_packed(q_BHLK: Tensor, k_BGLK: Tensor, v_BGLK: Tensor, packing: Packing) -> Tensor:
    """Causal attention within each sample, (B, H, L, K)."""
    if packing.block_mask is not None:
        y_BHLK: Tensor = _compiled_flex()(q_BHLK, k_BGLK, v_BGLK, block_mask=packing.block_mask, enable_gqa=True)
        return y_BHLK
    by_length: Tensor = _attend_by_length(q_BHLK, k_BGLK, v_BGLK, packing)
    return by_length


# Every number of samples would be another graph to compile, and each batch has its own.
@torch.compiler.disable  # type: ignore[untyped-decorator]
def _attend_by_length(q_BHLK: Tensor, k_BGLK: Tensor, v_BGLK: Tensor, packing: Packing) -> Tensor:
    layout = packing.layout
    # Queries, keys and values of a token are one row, moved once for all groups of samples.
    rows_TX = torch.cat([x.transpose(1, 2).flatten(0, 1).flatten(1) for x in (q_BHLK, k_BGLK, v_BGLK)], dim=1)
    num_heads, num_shared, size = q_BHLK.shape[1], k_BGLK.shape[1], q_BHLK.shape[3]
    widths = [num_heads * size, num_shared * size, num_shared * size]
    there, back = layout.to_groups.to(rows_TX.device), layout.to_tokens.to(rows_TX.device)
    done = [rows_TX.new_empty(0, widths[0])]
    for rows, (num_samples, length) in zip(_move(rows_TX, there, back).split(layout.sizes), layout.shapes, strict=True):
        grouped = rows.view(num_samples, length, -1).split(widths, dim=2)
        # Those at the end of the shorter samples see only what is cut off again.
        q_SHLK, k_SGLK, v_SGLK = (x.unflatten(2, (-1, size)).transpose(1, 2) for x in grouped)
        y_SHLK = attend(q_SHLK, k_SGLK, v_SGLK, is_causal=True)
        done.append(y_SHLK.transpose(1, 2).reshape(num_samples * length, -1))
    y_BLHK: Tensor = _move(torch.cat(done), back, there).view(len(q_BHLK), -1, num_heads, size)
    return y_BLHK.transpose(1, 2)


def _move(rows: Tensor, there: Tensor, back: Tensor) -> Tensor:
    """`rows[there]`, with zeros where `there` is one beyond the last row; `back` undoes it."""
    moved: Tensor = _Move.apply(rows, there, back)
    return moved


class _Move(torch.autograd.Function):
    """As each row goes to one place at most, gradients are moved back; index's own backward would add them up."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, there: Tensor, back: Tensor) -> Tensor:
        ctx.there, ctx.back = there, back
        return _rows_or_zeros(rows, there)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _move(gradient, ctx.back, ctx.there), None, None


def _rows_or_zeros(rows: Tensor, numbers: Tensor) -> Tensor:
    return F.pad(rows, (0, 0, 0, 1)).index_select(0, numbers)


def _round_up(length: int) -> int:
    step = max(1, (1 << (length - 1).bit_length()) // (2 * _STEPS_PER_DOUBLING))
    return -(-length // step) * step


def causal_block_mask(sample_ids_BL: Tensor) -> BlockMask:
    """FlexAttention's mask: causal, and within a sample. Sample ids must not fall along a sequence.

    Made from the first and last sample of each block of 128 tokens; `create_block_mask` would evaluate all L x L pairs.
    """
    from torch.nn.attention.flex_attention import BlockMask

    length = sample_ids_BL.shape[1]
    padding = -length % BLOCK
    ids_BNb = F.pad(sample_ids_BL[:, None].float(), (0, padding), mode="replicate")[:, 0].unflatten(-1, (-1, BLOCK))
    first_BN, last_BN = ids_BNb[..., 0], ids_BNb[..., -1]
    num_blocks = first_BN.shape[1]
    earlier_NN = torch.ones(num_blocks, num_blocks, dtype=torch.bool, device=sample_ids_BL.device).tril(-1)
    diagonal_NN = torch.eye(num_blocks, dtype=torch.bool, device=sample_ids_BL.device)
    # Rows are blocks of queries, columns blocks of keys. All of an earlier block is seen if both are of one sample.
    whole_BNN = earlier_NN & (first_BN[:, None, :] == last_BN[:, :, None])
    if padding:
        whole_BNN[:, -1] = False
    some_BNN = (earlier_NN & (last_BN[:, None, :] >= first_BN[:, :, None]) & ~whole_BNN) | diagonal_NN

    def is_visible(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query >= key) & (sample_ids_BL[batch, query] == sample_ids_BL[batch, key])

    return BlockMask.from_kv_blocks(
        *_listed(some_BNN), *_listed(whole_BNN), BLOCK_SIZE=BLOCK, mask_mod=is_visible, seq_lengths=(length, length)
    )


def _listed(blocks_BNN: Tensor) -> tuple[Tensor, Tensor]:
    """How many blocks each row has, and their columns first: int32 (B, 1, N) and (B, 1, N, N)."""
    counts_BN = blocks_BNN.sum(-1, dtype=torch.int32)
    columns_BNN = blocks_BNN.int().argsort(dim=-1, descending=True, stable=True).int()
    return counts_BN[:, None], columns_BNN[:, None]


@functools.cache
def _compiled_flex() -> Callable[..., Any]:
    """Uncompiled FlexAttention would make the L x L scores it is there to avoid."""
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)
