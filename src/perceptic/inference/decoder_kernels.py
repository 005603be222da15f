"""A decoder in compiled kernels: one call takes all layers, with a token for every row of a batch, or with many.

A step is bound by reading the weights from memory. They are read once, in the order in which they lie, for all rows of
the batch, so that nothing is repacked or copied: bfloat16 weights stay the model's own tensors, int8 and int4 ones the
codes of `models.quantized`. Sums are in float32; what enters a product is rounded to bfloat16, as in the model.

The structures mirror `kernels/decoder.h`.

Shapes: B rows, D width, G key-value heads, S columns of the cache, K head size, P = K/2 rotated pairs.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor, nn

from perceptic.inference.native import NativeLibrary
from perceptic.inference.native_matrix import CMatrix, Matrix, c_matrix
from perceptic.models.decoder import Decoder, DecoderBlock
from perceptic.models.kv_cache import KVCache
from perceptic.models.rope import RopeTable

_COLUMN_STEP = 32
_HEAD_STEP = 16
_LARGEST_HEAD = 256
_TILED_HEAD_STEP = 32
_LAYER_MATRICES = ("wq", "wk", "wv", "wo", "w1", "w3", "w2")


class _CLayer(ctypes.Structure):
    _fields_ = [(name, CMatrix) for name in _LAYER_MATRICES] + [
        (name, ctypes.c_void_p) for name in ("attention_norm", "ffn_norm")
    ]


class _CDecoder(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("layers", "width", "heads", "kv_heads", "head_size", "ffn_width")),
        ("layer", ctypes.c_void_p),
        ("norm", ctypes.c_void_p),
        ("epsilon", ctypes.c_float),
    ]


class _CCache(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("keys", "values", "padding")] + [
        (name, ctypes.c_int64) for name in ("row_stride", "head_stride", "length")
    ]


def matrix_of(module: nn.Module) -> Matrix:
    """What a linear or embedding module multiplies with."""
    matrix: Matrix | None = getattr(module, "matrix", None)
    if matrix is not None:
        return matrix
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight.detach()


def misfits(decoder: Decoder) -> list[str]:
    """Why these kernels cannot run a decoder, in words; empty if they can."""
    config = decoder.config
    reasons = [
        f"{name} must be a multiple of {step}, not {value}"
        for name, value, step in (
            ("dim", config.dim, _COLUMN_STEP),
            ("the feed-forward width", config.ffn_width, _COLUMN_STEP),
            ("the head size", config.head_size, _HEAD_STEP),
            ("the width of all heads", config.n_heads * config.head_size, _COLUMN_STEP),
        )
        if value % step
    ]
    if config.head_size > _LARGEST_HEAD:
        reasons.append(f"the head size must be at most {_LARGEST_HEAD}, not {config.head_size}")
    blocks: list[DecoderBlock] = list(decoder.layers)  # type: ignore[arg-type]
    matrices = [matrix for block in blocks for matrix in _matrices(block).values()] + [head_matrix(decoder)]
    if any(isinstance(matrix, Tensor) and matrix.dtype != torch.bfloat16 for matrix in matrices):
        reasons.append("weights must be bfloat16, int8 or int4")
    for block in blocks:
        kinds = {name: type(matrix) for name, matrix in _matrices(block).items()}
        if len({kinds[name] for name in ("wq", "wk", "wv")}) > 1 or kinds["w1"] != kinds["w3"]:
            reasons.append("wq, wk and wv must be stored alike, and w1 and w3")
            break
    return reasons


def head_matrix(decoder: Decoder) -> Matrix:
    """What makes logits of hidden states."""
    return matrix_of(decoder.tok_embeddings if decoder.config.weight_tying else decoder.output)


def _matrices(block: DecoderBlock) -> dict[str, Matrix]:
    attention, ffn = block.attention, block.feed_forward
    modules = (attention.wq, attention.wk, attention.wv, attention.wo, ffn.w1, ffn.w3, ffn.w2)
    return {name: matrix_of(module) for name, module in zip(_LAYER_MATRICES, modules, strict=True)}


class DecoderKernels:
    """One decoder in kernels. It keeps the decoder's tensors alive, whose memory it reads; `misfits` must be empty."""

    def __init__(self, decoder: Decoder, library: NativeLibrary) -> None:
        self._library = library
        self._kept: list[object] = []
        config = decoder.config
        blocks: list[DecoderBlock] = list(decoder.layers)  # type: ignore[arg-type]
        layers = (_CLayer * len(blocks))(*map(self._layer, blocks))
        self._kept.append(layers)
        self._vocab_size = config.vocab_size
        self._head = self._matrix(head_matrix(decoder))
        self._decoder = _CDecoder(
            len(blocks), config.dim, config.n_heads, config.num_kv_heads, config.head_size, config.ffn_width,
            ctypes.addressof(layers), self._floats(decoder.norm.weight), config.norm_eps,
        )  # fmt: skip

    def step(self, x_BD: Tensor, cache: KVCache, rope: RopeTable) -> Tensor:
        """Hidden states (B, D) of one more token in each row, whose column `cache` has claimed and now gets.

        Args:
            rope: (1, P), or (B, 1, P).
        """
        x_BD = x_BD.contiguous()
        tables = (table.flatten(0, -2) for table in (rope.cos_LP, rope.sin_LP))
        cosine, sine = (table.expand(len(x_BD), -1).contiguous() for table in tables)
        y_BD = torch.empty_like(x_BD)
        c_cache = _c_cache(cache)
        self._library.run(
            "decoder_step", ctypes.byref(self._decoder), ctypes.byref(c_cache), x_BD, cosine, sine, y_BD, len(x_BD)
        )
        return y_BD

    @property
    def reads_prompts(self) -> bool:
        """Whether `read` can run here."""
        return self._library.has_amx and self._decoder.head_size % _TILED_HEAD_STEP == 0

    def read(self, x_BLD: Tensor, cache: KVCache, rope: RopeTable) -> Tensor:
        """Hidden states (B, L, D) of L more tokens in each row, whose columns `cache` has claimed and now gets.

        Meant for up to about a thousand rows (B*L) at a time, whose activations stay in the caches.

        Args:
            rope: (L, P), or (B, L, P).
        """
        y_BLD = x_BLD.clone(memory_format=torch.contiguous_format)
        cosine, sine = rope.cos_LP.contiguous(), rope.sin_LP.contiguous()
        c_cache = _c_cache(cache)
        self._library.run(
            "decoder_read", ctypes.byref(self._decoder), ctypes.byref(c_cache), y_BLD, cosine, sine,
            cosine.stride(0) if cosine.ndim == 3 else 0, *x_BLD.shape[:2],
        )  # fmt: skip
        return y_BLD

    def logits(self, hidden_BD: Tensor) -> Tensor:
        """(B, D) to (B, vocabulary)."""
        hidden_BD = hidden_BD.contiguous()
        logits_BV = hidden_BD.new_empty(len(hidden_BD), self._vocab_size)
        self._library.run("linear_bf16", ctypes.byref(self._head), hidden_BD, logits_BV, len(hidden_BD))
        return logits_BV

    def _layer(self, block: DecoderBlock) -> _CLayer:
        matrices = map(self._matrix, _matrices(block).values())
        return _CLayer(*matrices, *map(self._floats, (block.attention_norm.weight, block.ffn_norm.weight)))

    def _matrix(self, matrix: Matrix) -> CMatrix:
        seen, tensors = c_matrix(matrix)
        self._kept += tensors
        return seen

    def _floats(self, norm: Tensor) -> int:
        weight = norm.detach().float().contiguous()
        self._kept.append(weight)
        return weight.data_ptr()


def linear(library: NativeLibrary, x_BD: Tensor, matrix: Matrix) -> Tensor:
    """x W^T for bfloat16 rows (B, columns of W), to bfloat16 (B, rows of W). Columns are a multiple of 32."""
    x_BD = x_BD.contiguous()
    seen, tensors = c_matrix(matrix)
    y = x_BD.new_empty(len(x_BD), matrix.shape[0])
    library.run("linear_bf16", ctypes.byref(seen), x_BD, y, len(x_BD))
    del tensors  # alive until here
    return y


def _c_cache(cache: KVCache) -> _CCache:
    keys = [cache.keys(layer) for layer in range(cache.num_layers)]
    values = [cache.values(layer) for layer in range(cache.num_layers)]
    pointers = [
        (ctypes.c_void_p * cache.num_layers)(*(tensor.data_ptr() for tensor in tensors)) for tensors in (keys, values)
    ]
    assert keys[0].dtype == torch.bfloat16, f"a cache of {keys[0].dtype}; create it in the decoder's own type"
    assert keys[0].device.type == "cpu"
    row_stride, head_stride, _, _ = keys[0].stride()
    padding = None if cache.padding is None else cache.padding.contiguous()
    address = None if padding is None else padding.data_ptr()
    c_cache = _CCache(*map(ctypes.addressof, pointers), address, row_stride, head_stride, cache.length)
    c_cache.kept = (pointers, padding)  # a structure holds addresses only
    return c_cache
