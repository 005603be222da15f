"""Several samples in one sequence: each gets what it gets alone, forwards and backwards, on either path."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask

from perceptic.configs_plm import DecoderConfig
from perceptic.models.decoder import Decoder
from perceptic.models.packed_attention import Packing, attend_packed, causal_block_mask

CONFIG = DecoderConfig(
    dim=32, n_layers=2, n_heads=4, n_kv_heads=2, vocab_size=64, multiple_of=32, rope_theta=5e5, weight_tying=True
)
LENGTHS = ((10, 1, 30, 7), (51,), (5, 5, 25), ())
NUM_TOKENS = 60
CPU = torch.device("cpu")


def heads(num_heads: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(LENGTHS), num_heads, NUM_TOKENS, 8, generator=generator, requires_grad=True)


def masked_attention(q: Tensor, k: Tensor, v: Tensor, packing: Packing) -> Tensor:
    """The L x L mask written out."""
    ids = packing.sample_ids()
    same = ids[:, :, None] == ids[:, None, :]
    mask = (same & torch.ones(NUM_TOKENS, NUM_TOKENS, dtype=torch.bool).tril())[:, None]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)


def test_equals_a_mask_written_out() -> None:
    packing = Packing.on(CPU, LENGTHS, NUM_TOKENS)
    assert packing.block_mask is None
    q, k, v = heads(4, 0), heads(2, 1), heads(2, 2)
    is_real = torch.tensor([[i < sum(lengths) for i in range(NUM_TOKENS)] for lengths in LENGTHS])
    weights = torch.randn(q.shape, generator=torch.Generator().manual_seed(3)) * is_real[:, None, :, None]
    actual, wanted = attend_packed(q, k, v, packing), masked_attention(q, k, v, packing)
    torch.testing.assert_close(actual * is_real[:, None, :, None], wanted * is_real[:, None, :, None])
    assert actual[3].abs().max() == 0, "padding attends to nothing"
    for ours, theirs in zip(
        torch.autograd.grad((actual * weights).sum(), (q, k, v)),
        torch.autograd.grad((wanted * weights).sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_ids_and_positions() -> None:
    packing = Packing(((2, 1), (3,)), 4)
    assert packing.sample_ids().tolist() == [[0, 0, 1, 2], [0, 0, 0, 1]]
    assert packing.positions().tolist() == [[0, 1, 0, 0], [0, 1, 2, 0]]


@given(
    lengths=st.lists(st.lists(st.integers(1, 300), max_size=6), min_size=1, max_size=3),
    extra=st.integers(1, 200),
)
@settings(max_examples=25, deadline=None)
def test_block_mask_is_that_of_torch(lengths: list[list[int]], extra: int) -> None:
    """Found from the ends of blocks, equal to what evaluating every pair finds."""
    num_tokens = max(sum(row) for row in lengths) + extra
    ids = Packing.on(CPU, lengths, num_tokens).sample_ids()

    def is_visible(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query >= key) & (ids[batch, query] == ids[batch, key])

    ours = causal_block_mask(ids)
    theirs = create_block_mask(is_visible, len(lengths), None, num_tokens, num_tokens, device="cpu")
    for name in ("kv_num_blocks", "full_kv_num_blocks", "q_num_blocks", "full_q_num_blocks"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
    assert torch.equal(ours.to_dense(), theirs.to_dense())
    assert ours.seq_lengths == (num_tokens, num_tokens)


def decoder() -> Decoder:
    torch.manual_seed(0)
    return Decoder(CONFIG)


def test_decoder_gives_each_sample_what_it_gets_alone() -> None:
    model = decoder()
    x = torch.randn(len(LENGTHS), NUM_TOKENS, 32, generator=torch.Generator().manual_seed(1))
    packed = model.forward_packed(x, Packing.on(CPU, LENGTHS, NUM_TOKENS))
    assert packed.isfinite().all()
    for row, lengths in enumerate(LENGTHS):
        start = 0
        for length in lengths:
            alone = model(x[row : row + 1, start : start + length])
            torch.testing.assert_close(packed[row : row + 1, start : start + length], alone, atol=1e-5, rtol=0)
            start += length


def test_recomputed_activations_give_the_same_gradients() -> None:
    model = decoder().train()
    x = torch.randn(len(LENGTHS), NUM_TOKENS, 32, generator=torch.Generator().manual_seed(1))
    packing = Packing.on(CPU, LENGTHS, NUM_TOKENS)
    gradients = []
    for recompute in (False, True):
        model.set_grad_checkpointing(recompute)
        model.zero_grad()
        model.forward_packed(x, packing).square().mean().backward()
        gradients.append([parameter.grad for parameter in model.layers.parameters()])
    for kept, recomputed in zip(*gradients, strict=True):
        assert torch.equal(kept, recomputed)
