"""The compiled products and decoder steps, beside plain torch in float32."""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from perceptic.configs_plm import DecoderConfig
from perceptic.inference.decoder_kernels import DecoderKernels, Matrix, linear, misfits
from perceptic.inference.native import NativeLibrary
from perceptic.inference.plm_accelerate import AcceleratedDecoder
from perceptic.models.decoder import Decoder
from perceptic.models.kv_cache import KVCache, join
from perceptic.models.quantized import quantize_decoder
from perceptic.models.quantized_matrix import Int4Matrix, Int8Matrix

KINDS = ("bf16", "int8", "int4")
SHAPES: dict[str, dict[str, Any]] = {
    "grouped": {"dim": 128, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2},
    "one head for all, small": {"dim": 64, "n_layers": 2, "n_heads": 4, "n_kv_heads": 1, "multiple_of": 32},
    "six heads share, wide": {"dim": 96, "n_layers": 1, "n_heads": 6, "n_kv_heads": 1, "head_dim": 128},
    "odd head, scaled, tied": {
        "dim": 160, "n_layers": 2, "n_heads": 2, "head_dim": 48, "multiple_of": 32, "weight_tying": True,
        "rope_scale_factor": 32, "high_freq_factor": 4,
    },
}  # fmt: skip


def random_matrix(kind: str, rows: int, columns: int, generator: torch.Generator) -> Matrix:
    """Any codes and scales at all, padding with a scale of zero."""
    if kind == "bf16":
        return torch.randn(rows, columns, generator=generator).bfloat16()
    if kind == "int8":
        codes = torch.randint(-128, 128, (rows, columns), generator=generator, dtype=torch.int8)
        return Int8Matrix(codes, torch.randn(rows, generator=generator))
    stored = -(-columns // 128) * 128
    codes = torch.randint(0, 256, (rows, stored // 2), generator=generator, dtype=torch.uint8)
    scales = torch.randn(rows, stored // 32, generator=generator).bfloat16()
    scales[:, columns // 32 :] = 0
    return Int4Matrix(codes, scales, columns)


def in_float64(matrix: Matrix) -> Tensor:
    return (matrix if isinstance(matrix, Tensor) else matrix.dequantize()).double()


def assert_product(actual: Tensor, x_BD: Tensor, matrix: Matrix) -> None:
    """Within the rounding of the result, and of each input by a bfloat16's half step of its norm."""
    weight = in_float64(matrix)
    wanted = x_BD.double() @ weight.T
    of_inputs = x_BD.double().norm(dim=1)[:, None] * weight.norm(dim=1) * 2**-9
    error = (actual.double() - wanted).abs()
    assert (error <= wanted.abs() * 2**-8 + of_inputs).all()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.integers(1, 100),
    groups=st.integers(1, 20),
    batch=st.integers(1, 40),
    seed=st.integers(0, 2**32),
    outlier=st.sampled_from([1.0, 1000.0]),
)
def test_products(
    kernel_library: NativeLibrary, kind: str, rows: int, groups: int, batch: int, seed: int, outlier: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    matrix = random_matrix(kind, rows, 32 * groups, generator)
    x_BD = torch.randn(batch, 32 * groups, generator=generator)
    x_BD[0, seed % x_BD.shape[1]] *= outlier
    assert_product(linear(kernel_library, x_BD.bfloat16(), matrix), x_BD.bfloat16(), matrix)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [1, 16])
def test_zeros_and_the_extremes_of_integers(kernel_library: NativeLibrary, kind: str, batch: int) -> None:
    """Long rows of equal signs: no sum overflows; a row of zeros gives zeros."""
    columns = 16384
    matrix: Matrix = torch.ones(8, columns).bfloat16()
    if kind == "int8":
        matrix = Int8Matrix(torch.full((8, columns), -127, dtype=torch.int8), torch.ones(8))
    elif kind == "int4":
        codes = torch.zeros(8, columns // 2, dtype=torch.uint8)
        matrix = Int4Matrix(codes, torch.ones(8, columns // 32).bfloat16(), columns)
    x_BD = torch.full((batch, columns), -3.0).bfloat16()
    x_BD[batch // 2 :] = 0 if batch > 1 else -3.0
    actual = linear(kernel_library, x_BD, matrix)
    assert_product(actual, x_BD, matrix)
    if batch > 1:
        assert not actual[batch // 2 :].any()


def at_the_edge(tensor: Tensor) -> Tensor:
    """A copy whose last byte is the last that may be read: the page behind it faults."""
    page = mmap.PAGESIZE
    size = -(-tensor.nbytes // page) * page
    area = mmap.mmap(-1, size + page)
    address = ctypes.addressof(ctypes.c_char.from_buffer(area))
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(address + size), ctypes.c_size_t(page), 0) == 0
    offset = size - tensor.nbytes
    copy = torch.frombuffer(area, dtype=tensor.dtype, count=tensor.numel(), offset=offset).view(tensor.shape)
    return copy.copy_(tensor)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [1, 3, 16, 20])
@pytest.mark.parametrize("rows", [1, 33])
def test_nothing_is_read_behind_the_weights(kernel_library: NativeLibrary, kind: str, batch: int, rows: int) -> None:
    generator = torch.Generator().manual_seed(1)
    matrix = random_matrix(kind, rows, 160, generator)
    if isinstance(matrix, Tensor):
        matrix = at_the_edge(matrix)
    elif isinstance(matrix, Int8Matrix):
        matrix = Int8Matrix(at_the_edge(matrix.codes), at_the_edge(matrix.scales))
    else:
        matrix = Int4Matrix(at_the_edge(matrix.codes), at_the_edge(matrix.scales), matrix.columns)
    x_BD = at_the_edge(torch.randn(batch, 160, generator=generator).bfloat16())
    assert_product(linear(kernel_library, x_BD, matrix), x_BD, matrix)


def random_decoder(shape: str, kind: str) -> Decoder:
    torch.manual_seed(0)
    decoder = Decoder(DecoderConfig(vocab_size=77, rope_theta=5e5, **SHAPES[shape])).eval().requires_grad_(False)
    for parameter in decoder.parameters():
        if parameter.ndim == 1:
            parameter.uniform_(0.5, 1.5)
    decoder = decoder.to(torch.bfloat16)
    return decoder if kind == "bf16" else quantize_decoder(decoder, kind)


def in_float32(decoder: Decoder) -> Decoder:
    exact = Decoder(decoder.config).eval()
    state = {}
    for name, module in decoder.named_modules():
        if hasattr(module, "matrix"):
            state[f"{name}.weight"] = module.matrix.dequantize()
        elif hasattr(module, "weight"):
            state[f"{name}.weight"] = module.weight.float()
    exact.load_state_dict(state)
    return exact


@torch.inference_mode()
def logits_of_steps(decoder: Decoder, prompts: list[Tensor], steps_SB: Tensor) -> Tensor:
    """Each prompt is read alone, then all rows step together: (steps, rows, vocabulary)."""
    caches = []
    for prompt in prompts:
        cache = KVCache.empty(decoder.config, dtype=decoder.dtype)
        caches.append(decoder.extend(decoder.embed(prompt[None]), cache).cache)
    cache, logits = join(caches), []
    for step_B in steps_SB:
        extended = decoder.extend(decoder.embed(step_B[:, None]), cache)
        cache = extended.cache
        logits.append(decoder.logits(extended.hidden_BLD[:, -1]).float())
    return torch.stack(logits)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [*SHAPES])
@pytest.mark.parametrize("rows", [1, 3, 18])
def test_steps_are_as_exact_as_bfloat16_allows(kernel_library: NativeLibrary, shape: str, kind: str, rows: int) -> None:
    plain = random_decoder(shape, kind)
    assert misfits(plain) == []
    fast = AcceleratedDecoder(plain, DecoderKernels(plain, kernel_library))
    lengths = torch.randint(1, 60, (rows,)).tolist()
    prompts = [torch.randint(0, 77, (length,)) for length in lengths]
    steps = torch.randint(0, 77, (20, rows))
    wanted, torch_own, actual = (
        logits_of_steps(decoder, prompts, steps) for decoder in (in_float32(plain), plain, fast)
    )
    error, allowed = ((it - wanted).square().mean().sqrt() for it in (actual, torch_own))
    assert error <= 1.1 * allowed
    top = wanted.topk(2, dim=-1).values
    clear = top[..., 0] - top[..., 1] > 8 * allowed
    assert clear.float().mean() > 0.3
    assert torch.equal(actual.argmax(-1)[clear], wanted.argmax(-1)[clear])


@pytest.mark.parametrize("kind", KINDS)
def test_a_processor_without_tiles(library_without_tiles: NativeLibrary, kind: str) -> None:
    generator = torch.Generator().manual_seed(2)
    matrix = random_matrix(kind, 45, 288, generator)
    for batch in (1, 2, 4, 7, 17):
        x_BD = torch.randn(batch, 288, generator=generator).bfloat16()
        assert_product(linear(library_without_tiles, x_BD, matrix), x_BD, matrix)
    plain = random_decoder("grouped", kind)
    fast = AcceleratedDecoder(plain, DecoderKernels(plain, library_without_tiles))
    prompts, steps = [torch.arange(length) for length in (3, 9, 1, 4, 4)], torch.randint(0, 77, (5, 5))
    wanted, torch_own, actual = (
        logits_of_steps(decoder, prompts, steps) for decoder in (in_float32(plain), plain, fast)
    )
    assert (actual - wanted).square().mean() <= 1.3 * (torch_own - wanted).square().mean()


def test_a_cache_stays_a_value(kernel_library: NativeLibrary) -> None:
    plain = random_decoder("grouped", "bf16")
    fast = AcceleratedDecoder(plain, DecoderKernels(plain, kernel_library))
    with torch.inference_mode():
        first, second = (fast.embed(torch.tensor([[token]])) for token in (5, 6))
        stem = fast.extend(fast.embed(torch.arange(9)[None]), KVCache.empty(plain.config, dtype=plain.dtype)).cache
        one = fast.extend(first, stem)
        kept = one.cache.keys(0).clone()
        other = fast.extend(second, stem)
        again = fast.extend(first, stem)
    assert not torch.equal(one.hidden_BLD, other.hidden_BLD)
    assert torch.equal(one.hidden_BLD, again.hidden_BLD)
    assert torch.equal(one.cache.keys(0), kept)


@pytest.mark.parametrize("kind", KINDS)
def test_threads_change_nothing(kernel_library: NativeLibrary, kind: str) -> None:
    plain = random_decoder("grouped", kind)
    fast = AcceleratedDecoder(plain, DecoderKernels(plain, kernel_library))
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(logits_of_steps(fast, [torch.arange(7)] * 2, torch.randint(0, 77, (3, 2)) * 0 + 4))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*results)


def test_what_does_not_fit() -> None:
    config = DecoderConfig(dim=40, n_layers=1, n_heads=2, vocab_size=16, multiple_of=8)
    reasons = "; ".join(misfits(Decoder(config)))
    for expected in ("dim must be a multiple of 32, not 40", "head size must be a multiple of 16, not 20", "bfloat16"):
        assert expected in reasons
    huge = DecoderConfig(dim=512, n_layers=1, n_heads=1, vocab_size=16)
    assert "at most 256, not 512" in "; ".join(misfits(Decoder(huge).to(torch.bfloat16)))


def test_sum_of_memory(kernel_library: NativeLibrary) -> None:
    words = torch.randint(-(2**40), 2**40, (50_003,))
    assert kernel_library.run("sum_words", words, words.numel()) == int(words.sum())
