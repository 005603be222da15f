"""Matrices in 8 and 4 bits: small errors, the exact layout of the format; decoders made of them."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from perceptic.configs_plm import plm_config
from perceptic.errors import ConfigError
from perceptic.models.kv_cache import KVCache
from perceptic.models.perception_lm import PerceptionLM
from perceptic.models.quantized import (
    QUANTIZATIONS,
    Quantization,
    QuantizedDecoder,
    QuantizedEmbedding,
    QuantizedLinear,
    parse_quantization,
    quantize,
    quantize_decoder,
)
from perceptic.models.quantized_matrix import LEVELS, Int4Matrix, Int8Matrix, Kind, multiply, quantize_matrix

KINDS: list[Kind] = ["int8", "int4"]
MIXED = {"*": "int4", "*.w2": "int8", "*.wv": "none", "tok_embeddings": "int8"}
# Energy of the error over energy of the weights, for normal ones.
LOSS: dict[Kind, float] = {"int8": 1.0e-4, "int4": 5.8e-3}


def normal(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def model() -> PerceptionLM:
    torch.manual_seed(0)
    return PerceptionLM(
        plm_config("PLM-Nano").replace(decoder=plm_config("PLM-Nano").decoder.replace(n_layers=2))
    ).eval()


def error(matrix: Int8Matrix | Int4Matrix, weight: Tensor) -> float:
    return float((matrix.dequantize() - weight).square().sum() / weight.square().sum())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("columns", [1, 31, 64, 200, 384])
def test_small_errors_and_whole_shapes(kind: Kind, columns: int) -> None:
    weight = normal(300, columns)
    matrix = quantize_matrix(weight, kind)
    assert matrix.shape == (300, columns)
    assert error(matrix, weight) < LOSS[kind]
    ids = torch.tensor([[3, 299], [0, 3]])
    assert torch.equal(matrix.rows(ids), matrix.dequantize()[ids])
    assert torch.equal(matrix.part(5, 9).dequantize(), matrix.dequantize()[5:9])
    assert matrix.dequantize(torch.bfloat16).dtype == torch.bfloat16


def test_bits_per_weight() -> None:
    weight = normal(64, 1024)
    assert quantize_matrix(weight, "int4").nbytes * 8 / weight.numel() == 4.5
    assert quantize_matrix(weight, "int8").nbytes * 8 / weight.numel() == 8 + 32 / 1024


def test_int4_layout_word_by_word() -> None:
    """The place of every code, from the words of the format's description alone."""
    weight = normal(3, 200)
    matrix = quantize_matrix(weight, "int4")
    assert isinstance(matrix, Int4Matrix)
    assert (matrix.codes.dtype, matrix.codes.shape) == (torch.uint8, (3, 128))
    assert (matrix.scales.dtype, matrix.scales.shape) == (torch.bfloat16, (3, 8))
    dense = matrix.dequantize()
    for row in range(3):
        data = bytes(matrix.codes[row].tolist())
        for column in range(200):
            block, inside = divmod(column, 128)
            nibble, word = divmod(inside, 32)
            bits = int.from_bytes(data[64 * block + 2 * word : 64 * block + 2 * word + 2], "little")
            level = LEVELS[bits >> (4 * nibble) & 15]
            assert float(dense[row, column]) == float(matrix.scales[row, column // 32].float()) * level
    assert not matrix.scales[:, 7].any()  # columns 224 to 255 are padding


def test_int8_by_hand() -> None:
    matrix = quantize_matrix(torch.tensor([[1.27, -0.5, 0.004], [0.0, 0.0, 0.0]]), "int8")
    assert isinstance(matrix, Int8Matrix)
    assert matrix.codes.tolist() == [[127, -50, 0], [0, 0, 0]]
    assert matrix.scales.tolist() == pytest.approx([0.01, 0.0])


def test_levels_that_are_hit_are_kept() -> None:
    """Weights that are levels times a scale come back exactly, of either sign."""
    for scale in (0.5, -0.25):
        weight = torch.tensor([LEVELS * 2], dtype=torch.float32) * scale
        assert torch.equal(quantize_matrix(weight, "int4").dequantize(), weight)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.integers(1, 5),
    st.integers(1, 70),
    st.sampled_from([0.0, 1e-30, 1e-6, 1.0, 1e4, 1e30]),
    st.integers(0, 1000),
)
def test_any_finite_matrix(kind: Kind, rows: int, columns: int, size: float, seed: int) -> None:
    weight = normal(rows, columns, seed) * size
    dense = quantize_matrix(weight, kind).dequantize()
    assert dense.isfinite().all()
    # Half the widest gap between levels, and what the largest may lose to the others.
    widest = weight.abs().amax(1, keepdim=True)
    assert ((dense - weight).abs() <= widest * (0.17 if kind == "int4" else 0.0041) + 1e-37).all()


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_quantised(kind: Kind) -> None:
    for bad in (torch.tensor([[1.0, float("nan")]]), torch.tensor([[float("inf"), 1.0]])):
        with pytest.raises(ConfigError, match="not numbers"):
            quantize_matrix(bad, kind)
    for shape in (torch.zeros(3), torch.zeros(2, 2, dtype=torch.int8), torch.zeros(0, 4)):
        with pytest.raises(ConfigError, match="only matrices of float weights"):
            quantize_matrix(shape, kind)
    with pytest.raises(ConfigError, match="int8 or int4"):
        quantize_matrix(torch.ones(2, 2), "int3")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_products_in_slices(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix, x = quantize_matrix(normal(50, 64), kind), normal(6, 64).unflatten(0, (2, 3))
    wanted = F.linear(x, matrix.dequantize())
    torch.testing.assert_close(multiply(x, matrix), wanted)
    monkeypatch.setattr("perceptic.models.quantized_matrix._SLICE_WEIGHTS", 16 * 7)
    torch.testing.assert_close(multiply(x, matrix), wanted)


@pytest.mark.parametrize("weights", ["int8", "int4", MIXED])
@torch.inference_mode()
def test_a_quantised_decoder_is_one_of_its_rounded_weights(model: PerceptionLM, weights: str | dict[str, str]) -> None:
    quantized = quantize_decoder(model.decoder, weights)
    rounded = copy.deepcopy(model.decoder)
    for name, module in quantized.named_modules():
        if isinstance(module, QuantizedLinear | QuantizedEmbedding):
            rounded.get_submodule(name).weight.copy_(module.matrix.dequantize())  # type: ignore[operator]
    ids = torch.randint(0, 2048, (2, 9))
    wanted = rounded.logits(rounded(rounded.embed(ids)))
    torch.testing.assert_close(quantized.logits(quantized(quantized.embed(ids))), wanted, atol=1e-5, rtol=1e-5)
    extended = quantized.extend(quantized.embed(ids), KVCache.empty(model.config.decoder, 2))
    torch.testing.assert_close(quantized.logits(extended.hidden_BLD), wanted, atol=1e-4, rtol=1e-4)
    assert not isinstance(model.decoder, QuantizedDecoder)
    assert isinstance(model.decoder.layers[0].attention.wq, torch.nn.Linear)


def test_what_is_stored_how(model: PerceptionLM) -> None:
    kinds = {
        name: module.kind
        for name, module in quantize_decoder(model.decoder, MIXED).named_modules()
        if isinstance(module, QuantizedLinear | QuantizedEmbedding)
    }
    assert kinds["layers.1.feed_forward.w2"] == "int8"
    assert kinds["layers.1.feed_forward.w1"] == "int4"
    assert kinds["tok_embeddings"] == "int8"
    assert "layers.0.attention.wv" not in kinds
    assert Quantization(MIXED).name == "mixed"
    assert [QUANTIZATIONS[name].name for name in QUANTIZATIONS] == ["int8", "int4"]
    untied = PerceptionLM(model.config.replace(decoder=model.config.decoder.replace(weight_tying=False)))
    decoder = quantize(untied, "int4").decoder
    assert isinstance(decoder.output, QuantizedLinear)
    assert decoder.output.kind == "int8"


def test_types_are_part_of_the_format(model: PerceptionLM) -> None:
    decoder = quantize_decoder(model.decoder, "int4")
    cast = copy.deepcopy(decoder).bfloat16()
    assert cast.dtype == torch.bfloat16
    assert cast.embed(torch.tensor([[1]])).dtype == torch.bfloat16
    assert cast.tok_embeddings.scales.dtype == torch.float32
    assert torch.equal(cast.tok_embeddings.codes, decoder.tok_embeddings.codes)
    assert decoder.to("meta").tok_embeddings.codes.is_meta


def test_wrong_settings(model: PerceptionLM) -> None:
    with pytest.raises(ConfigError, match="int8 or int4, not 'int2'"):
        parse_quantization("int2")
    for kinds in ({}, {"*": "int5"}, {3: "int8"}, ["*"]):
        with pytest.raises(ConfigError, match="kinds must"):
            Quantization(kinds)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"no matrix of the decoder is named 'layers\.7\.\*'"):
        quantize_decoder(model.decoder, {"layers.7.*": "int8"})
    with pytest.raises(ConfigError, match="quantised already"):
        quantize_decoder(quantize_decoder(model.decoder, "int8"), "int4")
