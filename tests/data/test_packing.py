"""Packing loses nothing and overlaps nothing; one sample per sequence is the original's batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perceptic.data.packing import PackedBatch, collate, needed_tokens, pack_all
from perceptic.data.plm_samples import TrainingSample
from perceptic.errors import DataError
from perceptic.text.conversations import MediaTokens, TrainingTokens, training_tokens
from perceptic.text.llama_tokenizer import LlamaTokenizer

GOLDENS = Path(__file__).parents[1] / "goldens" / "plm"
TOKENIZER = LlamaTokenizer.from_file(GOLDENS / "tokenizer" / "tokenizer.model")
COLLATED = json.loads((GOLDENS / "text" / "collator.json").read_text())


def sample(length: int, first_id: int = 0, num_chunks: int = 0, size: int = 8) -> TrainingSample:
    """`length` inputs with ids of their own, of which the last half is learned."""
    ids = tuple(range(first_id, first_id + length + 1))
    chunks = torch.full((num_chunks, 3, size, size), first_id % 256, dtype=torch.uint8) if num_chunks else None
    tokens = TrainingTokens(ids, (), tuple(range((length + 1) // 2 + 1, length + 1)))
    return TrainingSample("image" if num_chunks else "text", tokens, chunks)


@given(
    lengths=st.lists(st.integers(1, 60), max_size=60),
    capacity=st.integers(60, 120),
    window=st.integers(1, 20),
)
@settings(max_examples=50, deadline=None)
def test_nothing_is_lost_and_nothing_overflows(lengths: list[int], capacity: int, window: int) -> None:
    items = list(enumerate(lengths))
    sequences = pack_all(items, lambda item: item[1], capacity, window)
    assert sorted(item for sequence in sequences for item in sequence) == items
    assert all(sequence == sorted(sequence) for sequence in sequences)
    assert all(0 < sum(length for _, length in sequence) <= capacity for sequence in sequences)
    # No two sequences that were open to each other's samples would fit in one.
    if window >= len(items):
        totals = sorted(sum(length for _, length in sequence) for sequence in sequences)
        assert len(totals) < 2 or totals[0] + totals[1] > capacity


@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=80), window=st.integers(1, 20))
@settings(max_examples=50, deadline=None)
def test_the_oldest_never_waits(lengths: list[int], window: int) -> None:
    sequences = pack_all(list(enumerate(lengths)), lambda item: item[1], 64, window)
    oldest = [min(index for index, _ in sequence) for sequence in sequences]
    assert oldest == sorted(oldest)


def test_the_longest_that_fit_are_taken() -> None:
    assert pack_all([5, 9, 4, 6, 1, 3], int, 10) == [[5, 4, 1], [9], [6, 3]]
    with pytest.raises(DataError, match="11 tokens does not fit in a sequence of 10"):
        pack_all([11], int, 10)


def test_wasted_room_is_small() -> None:
    generator = torch.Generator().manual_seed(0)
    # From text alone to 36 tiles, as the paper's mix is spread.
    lengths = (torch.rand(3000, generator=generator) ** 3 * 9600 + 100).int().tolist()
    sequences = pack_all(lengths, int, 11520, window=64)
    assert sum(lengths) / (len(sequences) * 11520) > 0.97


@given(
    rows=st.lists(st.lists(st.integers(1, 20), max_size=4), min_size=1, max_size=3),
    pictures=st.lists(st.integers(0, 2), min_size=12, max_size=12),
)
@settings(max_examples=40, deadline=None)
def test_batches_hold_each_sample_once(rows: list[list[int]], pictures: list[int]) -> None:
    made = [
        [sample(length, 1000 * (4 * r + i), pictures[4 * r + i]) for i, length in enumerate(row)]
        for r, row in enumerate(rows)
    ]
    batch = collate(made, 90, pad_id=7)
    assert batch.sample_lengths == tuple(map(tuple, rows))
    assert batch.num_samples == sum(map(len, rows))
    assert batch.num_real_tokens == sum(map(sum, rows))
    ids, sample_ids, positions = batch.token_ids, batch.packing().sample_ids(), batch.packing().positions()
    targets = torch.full((ids.numel(),), -1)
    targets[batch.label_positions] = batch.targets
    targets = targets.view_as(ids)
    for r, row in enumerate(made):
        assert (ids[r, sum(rows[r]) :] == 7).all()
        for i, one in enumerate(row):
            own = sample_ids[r] == i
            assert ids[r, own].tolist() == list(one.tokens.token_ids[:-1])
            assert positions[r, own].tolist() == list(range(one.num_inputs))
            learned = [one.tokens.token_ids[p] for p in one.tokens.response_positions]
            assert [t for t in targets[r, own].tolist() if t != -1] == learned
            assert [t - 1 for t in learned] == ids[r, own & (targets[r] != -1)].tolist()
    assert (targets != -1).sum() == len(batch.targets)
    chunks = [one.chunks for row in made for one in row if one.chunks is not None]
    assert (batch.chunks is None) == (not chunks)
    if batch.chunks is not None:
        assert torch.equal(batch.chunks, torch.cat(chunks))


@given(rows=st.lists(st.lists(st.integers(1, 90), min_size=1, max_size=3), min_size=1, max_size=3))
@settings(max_examples=60, deadline=None)
def test_sequences_are_as_long_as_the_fullest_needs(rows: list[list[int]]) -> None:
    made = [[sample(length) for length in row] for row in rows]
    needed, fullest = needed_tokens(made, 720), max(map(sum, rows))
    assert fullest <= needed < fullest + 128
    assert needed % 128 == 0
    assert needed_tokens(made, fullest) == fullest, "never longer than a sequence may be"
    assert collate(made, needed, 0).label_positions.tolist() == [
        position // 720 * needed + position % 720 for position in collate(made, 720, 0).label_positions.tolist()
    ]


@pytest.mark.parametrize("case", COLLATED, ids=lambda case: str(case["media_type"]))
def test_one_sample_per_sequence_is_the_originals_batch(case: dict[str, Any]) -> None:
    batch = collate([[golden_sample(case, given)] for given in case["samples"]], case["seq_len"], TOKENIZER.eos_id)
    assert batch.token_ids.tolist() == case["x"]
    labels, mask = torch.full_like(batch.token_ids, TOKENIZER.eos_id), torch.zeros_like(batch.token_ids)
    labels.view(-1)[batch.label_positions] = batch.targets
    mask.view(-1)[batch.label_positions] = 1
    assert labels.tolist() == case["y"]
    assert mask.tolist() == case["mask"]


def golden_sample(case: dict[str, Any], given: dict[str, Any]) -> TrainingSample:
    kind = given["media_type"]
    num_chunks, _, height, width = given["media_shape"]
    patch, pool = case["patch_size"], case["pooling_ratio"]
    media = MediaTokens(kind, 0 if kind == "text" else num_chunks, (width // patch // pool) * (height // patch // pool))
    tokens = training_tokens(TOKENIZER, given["conversations"], media, case["seq_len"])
    assert tokens is not None
    return TrainingSample(kind, tokens, None)


def test_samples_that_do_not_go_together() -> None:
    with pytest.raises(DataError, match="samples of 12 tokens together"):
        collate([[sample(6), sample(6)]], 11, 0)
    with pytest.raises(DataError, match="one size"):
        collate([[sample(6, num_chunks=1), sample(6, num_chunks=1, size=4)]], 20, 0)


def test_batches_move_to_devices() -> None:
    batch = collate([[sample(6, num_chunks=1)], []], 8, 0).to(torch.device("meta"))
    assert isinstance(batch, PackedBatch)
    assert {t.device.type for t in (batch.token_ids, batch.chunks, batch.label_positions, batch.targets)} == {"meta"}
