"""Prompts read by the compiled kernels: all kinds of weights, batches with padding, caches that hold something."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from perceptic.configs_plm import DecoderConfig
from perceptic.errors import MissingDependencyError
from perceptic.inference.decoder_kernels import matrix_of
from perceptic.inference.native import load_library
from perceptic.inference.plm_accelerate import AcceleratedDecoder, DecoderKernels
from perceptic.models.decoder import Decoder, Extended
from perceptic.models.kv_cache import KVCache
from perceptic.models.quantized import quantize_decoder

SHAPES: dict[str, dict[str, Any]] = {
    "grouped": {"dim": 128, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2},
    "wide heads": {"dim": 96, "n_layers": 2, "n_heads": 3, "n_kv_heads": 3, "head_dim": 64},
    "int8": {"dim": 128, "n_layers": 2, "n_heads": 4, "n_kv_heads": 1, "multiple_of": 32},
    "int4, rows of padding": {"dim": 288, "n_layers": 1, "n_heads": 9, "n_kv_heads": 3, "multiple_of": 32},
}
# Rows, tokens read before, new tokens, padding.
CASES = [(1, 0, 40, None), (1, 33, 100, None), (2, 0, 37, [0, 20]), (3, 30, 70, [0, 35, 31]), (1, 1, 2, None)]


@pytest.fixture(scope="module")
def library() -> Any:
    try:
        found = load_library()
    except MissingDependencyError as error:
        pytest.skip(str(error))
    if not found.has_amx:
        pytest.skip("no AMX here")
    return found


def in_float32(decoder: Decoder) -> Decoder:
    exact = Decoder(decoder.config).eval()
    state = {}
    for name, module in decoder.named_modules():
        if hasattr(module, "matrix"):
            state[f"{name}.weight"] = module.matrix.dequantize(torch.float32)
        elif hasattr(module, "weight"):
            state[f"{name}.weight"] = matrix_of(module).float()
    exact.load_state_dict(state)
    return exact


@torch.inference_mode()
def read(decoder: Decoder, before: torch.Tensor, x: torch.Tensor, padding: list[int] | None) -> Extended:
    cache = KVCache.empty(decoder.config, len(x), dtype=decoder.dtype)
    cache = dataclasses.replace(cache, padding=None if padding is None else torch.tensor(padding))
    if before.shape[1]:
        cache = decoder.extend(before.to(decoder.dtype), cache).cache
    return decoder.extend(x.to(decoder.dtype), cache)


@pytest.mark.parametrize("shape", [*SHAPES])
def test_reading_is_as_exact_as_bfloat16_allows(library: Any, shape: str) -> None:
    torch.manual_seed(3)
    plain = Decoder(DecoderConfig(vocab_size=64, rope_theta=5e5, **SHAPES[shape])).eval().requires_grad_(False)
    for parameter in plain.parameters():
        if parameter.ndim == 1:
            parameter.uniform_(0.5, 1.5)
    plain = plain.to(torch.bfloat16)
    if shape.startswith("int"):
        plain = quantize_decoder(plain, shape.partition(",")[0])
    fast, exact = AcceleratedDecoder(plain, DecoderKernels(plain, library)), in_float32(plain)
    for rows, start, length, padding in CASES:
        before, x = (torch.randn(rows, count, plain.config.dim).bfloat16() for count in (start, length))
        wanted, torch_own, actual = (read(decoder, before, x, padding) for decoder in (exact, plain, fast))
        columns = torch.arange(start, start + length)
        counts = torch.ones(rows, length, dtype=torch.bool)
        if padding is not None:
            counts = columns >= torch.tensor(padding)[:, None]
        assert actual.hidden_BLD.isfinite().all()
        assert actual.cache.length == start + length
        errors = [(it.hidden_BLD.float() - wanted.hidden_BLD)[counts].square().mean() for it in (actual, torch_own)]
        assert errors[0] <= 1.5 * errors[1]
        assert errors[0].sqrt() < 0.02 * wanted.hidden_BLD[counts].std()
        for layer in range(plain.config.n_layers):
            keys = (actual.cache.keys(layer).float() - wanted.cache.keys(layer))[:, :, start:].transpose(1, 2)[counts]
            values = (actual.cache.values(layer).float() - wanted.cache.values(layer))[:, :, start:]
            assert keys.abs().max() < 0.1
            assert values.transpose(1, 2)[counts].abs().max() < 0.1


def test_reading_leaves_its_input_alone(library: Any) -> None:
    plain = Decoder(DecoderConfig(vocab_size=64, **SHAPES["grouped"])).to(torch.bfloat16).eval()
    fast = AcceleratedDecoder(plain, DecoderKernels(plain, library))
    x = torch.randn(1, 5, 128).bfloat16()
    kept = x.clone()
    read(fast, x[:, :0], x, None)
    assert torch.equal(x, kept)
