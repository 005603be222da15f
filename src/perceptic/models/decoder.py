"""The Llama 3 decoder of PerceptionLM (spec 2.1 and 2.2; paper arXiv 2407.21783).

Pre-norm blocks of grouped-query attention with rotary embedding and a SwiGLU feed-forward; no biases. Embedding rows
come in and hidden states go out: the picture tokens are put between by `perception_lm`.

Shapes: B batch, L tokens, D width, H heads, G key-value heads (H = G*R), K head size, S columns of the cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from perceptic.configs_plm import DecoderConfig
from perceptic.models.kv_cache import KVCache
from perceptic.models.packed_attention import Packing, attend_packed
from perceptic.models.rope import RopeTable, apply_rope
from perceptic.models.text_rope import text_rope_table


class RMSNorm(nn.Module):
    """Division by the root mean square and a learned scale, in fp32 with one rounding at the end."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.ones_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        x32 = x.float()
        x32 = x32 * torch.rsqrt(x32.square().mean(dim=-1, keepdim=True) + self.eps)
        return (x32 * self.weight.float()).to(x.dtype)


@dataclass(frozen=True)
class LayerCache:
    """One layer's part of a cache: where new keys and values go, and which columns each query may see.

    `visible` is None where every query sees every column, else bool, broadcastable to (B, 1, L, S).
    """

    cache: KVCache
    layer: int
    visible: Tensor | None


class GroupedQueryAttention(nn.Module):
    """Causal attention in which R = H/G query heads share each key-value head."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.head_size = config.head_size
        self.wq = nn.Linear(config.dim, config.n_heads * config.head_size, bias=False)
        self.wk = nn.Linear(config.dim, config.num_kv_heads * config.head_size, bias=False)
        self.wv = nn.Linear(config.dim, config.num_kv_heads * config.head_size, bias=False)
        self.wo = nn.Linear(config.n_heads * config.head_size, config.dim, bias=False)

    def forward(
        self, x_BLD: Tensor, rope: RopeTable, layer_cache: LayerCache | None = None, packing: Packing | None = None
    ) -> Tensor:
        """(B, L, D) to (B, L, D); with a cache, L new tokens after those it holds; packed, each sample by itself."""
        q_BLHK = apply_rope(self.wq(x_BLD).unflatten(-1, (-1, self.head_size)), rope)
        k_BLGK = apply_rope(self.wk(x_BLD).unflatten(-1, (-1, self.head_size)), rope)
        v_BLGK = self.wv(x_BLD).unflatten(-1, (-1, self.head_size))
        q_BHLK, k_BGLK, v_BGLK = q_BLHK.transpose(1, 2), k_BLGK.transpose(1, 2), v_BLGK.transpose(1, 2)
        if packing is not None:
            y_BHLK = attend_packed(q_BHLK, k_BGLK, v_BGLK, packing)
        elif layer_cache is None:
            y_BHLK = F.scaled_dot_product_attention(q_BHLK, k_BGLK, v_BGLK, is_causal=True, enable_gqa=True)
        else:
            y_BHLK = _attend_cached(q_BHLK, k_BGLK, v_BGLK, layer_cache)
        y_BLD: Tensor = self.wo(y_BHLK.transpose(1, 2).flatten(2))
        return y_BLD


def _attend_cached(q_BHLK: Tensor, k_BGLK: Tensor, v_BGLK: Tensor, layer_cache: LayerCache) -> Tensor:
    cache, layer, visible = layer_cache.cache, layer_cache.layer, layer_cache.visible
    cache.write(layer, k_BGLK, v_BGLK)
    length, num_kv_heads = q_BHLK.shape[2], k_BGLK.shape[1]
    if length > 1 and cache.length == length and visible is None:  # a first prefill: nothing was there before
        return F.scaled_dot_product_attention(q_BHLK, k_BGLK, v_BGLK, is_causal=True, enable_gqa=True)
    k_BGSK, v_BGSK = cache.keys(layer), cache.values(layer)
    if length > 1:
        return F.scaled_dot_product_attention(q_BHLK, k_BGSK, v_BGSK, attn_mask=visible, enable_gqa=True)
    # One query per head: the R heads of a group read as R queries of one head, and no key is repeated in memory.
    q_BGRK = q_BHLK.unflatten(1, (num_kv_heads, -1)).squeeze(3)
    y_BGRK = F.scaled_dot_product_attention(q_BGRK, k_BGSK, v_BGSK, attn_mask=visible)
    return y_BGRK.flatten(1, 2).unsqueeze(2)


class FeedForward(nn.Module):
    """SwiGLU: w2(silu(w1 x) * w3 x)."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.w1 = nn.Linear(config.dim, config.ffn_width, bias=False)
        self.w3 = nn.Linear(config.dim, config.ffn_width, bias=False)
        self.w2 = nn.Linear(config.ffn_width, config.dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.w2(F.silu(self.w1(x)) * self.w3(x))
        return y


class DecoderBlock(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.attention = GroupedQueryAttention(config)
        self.feed_forward = FeedForward(config)
        self.attention_norm = RMSNorm(config.dim, config.norm_eps)
        self.ffn_norm = RMSNorm(config.dim, config.norm_eps)

    def forward(
        self, x_BLD: Tensor, rope: RopeTable, layer_cache: LayerCache | None = None, packing: Packing | None = None
    ) -> Tensor:
        x_BLD = x_BLD + self.attention(self.attention_norm(x_BLD), rope, layer_cache, packing)
        y_BLD: Tensor = x_BLD + self.feed_forward(self.ffn_norm(x_BLD))
        return y_BLD


@dataclass(frozen=True)
class Extended:
    """Result of reading more tokens: their hidden states (B, L, D), and the cache that now holds them too."""

    hidden_BLD: Tensor
    cache: KVCache


class Decoder(nn.Module):
    """A decoder with fresh weights. With tied embeddings it has no `output`: the embedding matrix serves."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.tok_embeddings = nn.Embedding(config.vocab_size, config.dim)
        self.layers = nn.ModuleList(DecoderBlock(config) for _ in range(config.n_layers))
        self.norm = RMSNorm(config.dim, config.norm_eps)
        if not config.weight_tying:
            self.output = nn.Linear(config.dim, config.vocab_size, bias=False)
        self.grad_checkpointing = False
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Truncated normals at three deviations: width^-0.5, for w2 that of the feed-forward (spec 2.7)."""
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                fan = self.config.ffn_width if name.endswith("w2.weight") else self.config.dim
                std = fan**-0.5
                nn.init.trunc_normal_(parameter, std=std, a=-3 * std, b=3 * std)

    @property
    def dtype(self) -> torch.dtype:
        """Number type of embedding rows, hidden states and cache."""
        return self.norm.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where token ids and embedding rows enter."""
        return next(self.layers.parameters()).device

    def embed(self, token_ids_BL: Tensor) -> Tensor:
        """Embedding rows (B, L, D) of int64 ids."""
        x_BLD: Tensor = self.tok_embeddings(token_ids_BL)
        return x_BLD

    def forward(self, x_BLD: Tensor, positions: Tensor | None = None) -> Tensor:
        """Hidden states (B, L, D) after the final norm, of whole sequences.

        Args:
            x_BLD: embedding rows.
            positions: int64 (L,) or (B, L); 0, 1, 2... unless given. Attention is causal by order, whatever they say.
        """
        if positions is None:
            positions = torch.arange(x_BLD.shape[1], device=x_BLD.device)
        return self._run_blocks(x_BLD, positions, None)

    def forward_packed(self, x_BLD: Tensor, packing: Packing, num_layers: int | None = None) -> Tensor:
        """As `forward`, of sequences that hold several samples: each has positions from 0 and sees itself alone.

        Args:
            num_layers: run the first so many blocks only (and the final norm).
        """
        return self._run_blocks(x_BLD, packing.positions().to(x_BLD.device), packing, num_layers)

    def _run_blocks(
        self, x_BLD: Tensor, positions: Tensor, packing: Packing | None, num_layers: int | None = None
    ) -> Tensor:
        rope = text_rope_table(positions, self.config)
        for block in islice(self.layers, num_layers):
            if self.grad_checkpointing and self.training and torch.is_grad_enabled():
                x_BLD = checkpoint(block, x_BLD, rope, None, packing, use_reentrant=False)
            else:
                x_BLD = block(x_BLD, rope, None, packing)
        y_BLD: Tensor = self.norm(x_BLD)
        return y_BLD

    @torch.inference_mode()
    def extend(self, x_BLD: Tensor, cache: KVCache) -> Extended:
        """Read L more tokens after those of `cache`, which stays as it is.

        Positions continue each row's own count: its padding at the left is none.
        """
        start, length = cache.length, x_BLD.shape[1]
        positions = torch.arange(start, start + length, device=x_BLD.device)
        if cache.padding is not None:
            positions = positions - cache.padding[:, None]
        rope = text_rope_table(positions, self.config)
        cache = cache.grown(length)
        visible = _visible_columns(cache, start, x_BLD.device)
        for layer, block in enumerate(self.layers):
            x_BLD = block(x_BLD, rope, LayerCache(cache, layer, visible))
        return Extended(self.norm(x_BLD), cache)

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., D) to (..., vocabulary), in the model's dtype."""
        if self.config.weight_tying:
            return F.linear(hidden, self.tok_embeddings.weight)
        y: Tensor = self.output(hidden)
        return y

    @property
    def head_weight(self) -> Tensor:
        """The output head, a row a word (V, D): those of the embedding where the two are tied."""
        weight: Tensor = self.tok_embeddings.weight if self.config.weight_tying else self.output.weight
        return weight

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block's activations in backward instead of keeping them (training only)."""
        self.grad_checkpointing = enable


def _visible_columns(cache: KVCache, start: int, device: torch.device) -> Tensor | None:
    """Bool mask (B or 1, 1, L, S) for the new columns start..length; None where plain attention shows the same."""
    length = cache.length - start
    if cache.padding is None and (length == 1 or start == 0):
        return None
    columns_S = torch.arange(cache.length, device=device)
    visible = columns_S[None, None, None, :] <= columns_S[None, None, start:, None]
    if cache.padding is not None:
        # A token of padding sees itself: a row of attention that sees nothing is not a number.
        itself = columns_S == columns_S[start:, None]
        visible = visible & (columns_S >= cache.padding[:, None])[:, None, None, :] | itself
    return visible
