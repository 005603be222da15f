"""Several samples in one sequence, and sequences in a batch (perception-language-model spec 2.6, 8.4 and 9.11).

The original pads every sample to the full length and gives text a picture of ones to look at. Here samples share
sequences, each with attention and positions of its own, so that the loss of every token is what it is alone, and there
are pictures only where a sample has them.

Shapes: B sequences, L tokens, C chunks of all samples, S chunk side, N learned tokens.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from perceptic.data.plm_samples import TrainingSample
from perceptic.errors import DataError
from perceptic.models.packed_attention import BLOCK, Packing

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, eq=False)
class PackedBatch:
    """What one step trains on.

    Attributes:
        token_ids: int64 (B, L), samples one after the other, then padding.
        sample_lengths: tokens of each sample of each sequence.
        chunks: uint8 RGB (C, 3, S, S) in the order of the picture tokens; None where no sample has any.
        label_positions: int64 (N,), the tokens that predict a learned one, counted through all sequences (B*L).
        targets: int64 (N,), what they should predict.
        beside: batches of patches that are learned along with this one (`data.patch_words`).
    """

    token_ids: Tensor
    sample_lengths: tuple[tuple[int, ...], ...]
    chunks: Tensor | None
    label_positions: Tensor
    targets: Tensor
    beside: tuple[PackedBatch, ...] = ()

    @property
    def num_samples(self) -> int:
        return sum(map(len, self.sample_lengths))

    @property
    def num_real_tokens(self) -> int:
        """Tokens that are no padding."""
        return sum(map(sum, self.sample_lengths))

    def packing(self) -> Packing:
        """Who sees whom, for the device that the batch is on; `Packing` has sample ids and positions too."""
        return Packing.on(self.token_ids.device, self.sample_lengths, self.token_ids.shape[1])

    def to(self, device: torch.device) -> PackedBatch:
        """The batch on a device; copies from pinned memory overlap with what the device is doing."""
        return dataclasses.replace(
            self,
            token_ids=self.token_ids.to(device, non_blocking=True),
            chunks=None if self.chunks is None else self.chunks.to(device, non_blocking=True),
            label_positions=self.label_positions.to(device, non_blocking=True),
            targets=self.targets.to(device, non_blocking=True),
            beside=tuple(batch.to(device) for batch in self.beside),
        )


def take_together(waiting: list[ItemT], length: Callable[[ItemT], int], capacity: int) -> list[ItemT]:
    """Remove from `waiting` those that share the next sequence: the first, so that none waits for ever, then always
    the longest that still fits (the earlier of equals).

    Raises:
        DataError: the first does not fit at all.
    """
    lengths = [length(item) for item in waiting]
    if lengths[0] > capacity:
        raise DataError(f"a sample of {lengths[0]} tokens does not fit in a sequence of {capacity}")
    chosen, room = {0}, capacity - lengths[0]
    for index in sorted(range(1, len(waiting)), key=lambda i: -lengths[i]):
        if lengths[index] <= room:
            chosen.add(index)
            room -= lengths[index]
    taken = [waiting[index] for index in sorted(chosen)]
    waiting[:] = [item for index, item in enumerate(waiting) if index not in chosen]
    return taken


def pack_all(
    items: Sequence[ItemT], length: Callable[[ItemT], int], capacity: int, window: int = 256
) -> list[list[ItemT]]:
    """All of `items` in sequences of at most `capacity` tokens; at most `window` are considered at a time.

    Raises:
        DataError: one of them does not fit at all.
    """
    sequences: list[list[ItemT]] = []
    waiting: list[ItemT] = []
    remaining = iter(items)
    while True:
        waiting += [item for _, item in zip(range(window - len(waiting)), remaining, strict=False)]
        if not waiting:
            return sequences
        sequences.append(take_together(waiting, length, capacity))


def needed_tokens(sequences: Sequence[Sequence[TrainingSample]], capacity: int) -> int:
    """How long sequences must be for what is in them: the fullest one's tokens in whole `BLOCK`s, at most `capacity`.

    Large samples leave room that no other fits in; nothing need be computed for what all sequences leave. Few lengths,
    because each is another kernel to generate, and those that FlexAttention's blocks fill.
    """
    fullest = max(sum(sample.num_inputs for sample in samples) for samples in sequences)
    return min(capacity, -(-fullest // BLOCK) * BLOCK)


def collate(sequences: Sequence[Sequence[TrainingSample]], num_tokens: int, pad_id: int) -> PackedBatch:
    """Samples to tensors.

    Args:
        sequences: samples that share a sequence; one each gives the original's batches.
        num_tokens: length of a sequence (L).
        pad_id: fills the rest (the original's: end of text). It is never seen by a sample nor learned.

    Raises:
        DataError: samples that do not fit in their sequence, or chunks of different sizes.
    """
    rows, positions, targets = [], [], []
    for number, samples in enumerate(sequences):
        row: list[int] = []
        for sample in samples:
            start = number * num_tokens + len(row)
            ids = sample.tokens.token_ids
            positions += [start + position for position in sample.label_positions]
            targets += [ids[position + 1] for position in sample.label_positions]
            row += ids[:-1]
        if len(row) > num_tokens:
            raise DataError(f"samples of {len(row)} tokens together do not fit in a sequence of {num_tokens}")
        rows.append(row + [pad_id] * (num_tokens - len(row)))
    return PackedBatch(
        token_ids=torch.tensor(rows, dtype=torch.int64).view(-1, num_tokens),
        sample_lengths=tuple(tuple(sample.num_inputs for sample in samples) for samples in sequences),
        chunks=_joined_chunks([sample for samples in sequences for sample in samples]),
        label_positions=torch.tensor(positions, dtype=torch.int64),
        targets=torch.tensor(targets, dtype=torch.int64),
    )


def _joined_chunks(samples: Sequence[TrainingSample]) -> Tensor | None:
    parts = [sample.chunks for sample in samples if sample.chunks is not None]
    shapes = {tuple(part.shape[1:]) for part in parts}
    if len(shapes) > 1:
        raise DataError(f"a batch needs chunks of one size, not {sorted(shapes)}")
    return torch.cat(parts) if parts else None
