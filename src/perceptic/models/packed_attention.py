"""Attention over sequences that hold several samples each, none of which sees another.

Padding every sample to full length costs the square of that length; here a sample costs about the square of its own. On
a CPU samples of about one length are attended to together, on a CUDA GPU one FlexAttention kernel skips blocks in which
nothing is visible. No mask of L x L numbers is made for a whole sequence.

Shapes: B sequences, L tokens, H heads, G key-value heads, K head size, N blocks of tokens.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from perceptic.models.attention import attend

if TYPE_CHECKING:  # half a second to import, for GPUs only
    from torch.nn.attention.flex_attention import BlockMask

_BLOCK = 128
_ALIKE = 1.25


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
    def alike(self) -> list[list[int]]:
        """Numbers of the samples among `spans`, those together that differ in length by a quarter at most."""
        spans = self.spans
        groups: list[list[int]] = []
        for number in sorted((i for i, padding in enumerate(self.is_padding) if not padding), key=spans.__getitem__):
            if groups and spans[number] <= _ALIKE * spans[groups[-1][0]]:
                groups[-1].append(number)
            else:
                groups.append([number])
        return groups

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
    # One split of all tokens, not slices: the backward of n slices would fill n whole tensors with zeros.
    q, k, v = (x.transpose(1, 2).flatten(0, 1).split(packing.spans) for x in (q_BHLK, k_BGLK, v_BGLK))
    done = [torch.zeros_like(part) if padding else part for part, padding in zip(q, packing.is_padding, strict=True)]
    for group in packing.alike:
        parts = [[x[i] for i in group] for x in (q, k, v)]
        for i, y_THK in zip(group, _attend_alike(*parts), strict=True):
            done[i] = y_THK
    y_BLHK: Tensor = torch.cat(done).unflatten(0, (-1, packing.num_tokens))
    return y_BLHK.transpose(1, 2)


def _attend_alike(q: list[Tensor], k: list[Tensor], v: list[Tensor]) -> list[Tensor]:
    """Samples of about one length: those at the end of the shorter ones see only what is cut off again."""
    q_SHLK, k_SGLK, v_SGLK = (pad_sequence(parts, batch_first=True).transpose(1, 2) for parts in (q, k, v))
    y_SLHK = attend(q_SHLK, k_SGLK, v_SGLK, is_causal=True).transpose(1, 2)
    return [y_LHK[: len(part)] for y_LHK, part in zip(y_SLHK.unbind(), q, strict=True)]


def causal_block_mask(sample_ids_BL: Tensor) -> BlockMask:
    """FlexAttention's mask: causal, and within a sample. Sample ids must not fall along a sequence.

    Made from the first and last sample of each block of 128 tokens; `create_block_mask` would evaluate all L x L pairs.
    """
    from torch.nn.attention.flex_attention import BlockMask

    length = sample_ids_BL.shape[1]
    padding = -length % _BLOCK
    ids_BNb = F.pad(sample_ids_BL[:, None].float(), (0, padding), mode="replicate")[:, 0].unflatten(-1, (-1, _BLOCK))
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
        *_listed(some_BNN), *_listed(whole_BNN), BLOCK_SIZE=_BLOCK, mask_mod=is_visible, seq_lengths=(length, length)
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
