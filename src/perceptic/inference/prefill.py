"""Reading prompts into caches: long ones in parts, short ones together.

In parts, because the activations of a prompt of 10,000 tokens need not exist at once: those of a part stay in a
processor's caches and memory stays flat. Together, because a pass over a few tokens costs what reading the weights
costs: sixteen short questions in one pass read them once. Long prompts are bound by arithmetic and gain nothing.

Shapes: B rows, L tokens, D decoder width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from perceptic.inference.prefix_cache import PrefixCache
from perceptic.inference.prompts import Prompt, encode_together, prompt_rows
from perceptic.models.kv_cache import KVCache
from perceptic.models.perception_lm import PerceptionLM

# Rows (B x L) of one pass through the decoder. The activations of the 1B take about 40 KiB a row.
ROWS_AT_ONCE = {"cpu": 1024, "other": 4096}
# A pass takes at least as long as with this many rows. Reading the weights takes that long on a CPU with AMX, at
# 40 GB/s and 1.5 TFLOP/s; on others, and on GPUs, it is more.
_ROWS_FOR_FREE = 64


@dataclass(frozen=True)
class ReadPrompts:
    """What comes of reading: logits (B, V) of the next token, and the cache that holds the prompts."""

    logits_BV: Tensor
    cache: KVCache


@torch.inference_mode()
def read_prompt(
    model: PerceptionLM,
    prompt: Prompt,
    prefix_cache: PrefixCache | None = None,
    *,
    extra_columns: int = 0,
    rows_at_once: int | None = None,
) -> ReadPrompts:
    """Read one prompt. Logits are made for its last position only.

    Args:
        prefix_cache: looked in for the beginning of the prompt, which is then not read again.
        extra_columns: room in the cache for an answer, so that it need not be copied to grow.
        rows_at_once: tokens of one pass; None takes what suits the device.
    """
    cache = prefix_cache.longest(prompt.cells) if prefix_cache is not None else None
    if cache is None:
        cache = _empty_cache(model, 1, len(prompt) + extra_columns)
    return _read_rows(model, prompt_rows(model, prompt, cache.length), cache, rows_at_once)


@torch.inference_mode()
def read_together(model: PerceptionLM, prompts: Sequence[Prompt], *, rows_at_once: int | None = None) -> ReadPrompts:
    """Read several prompts in the same passes: rows of one batch, aligned at the right."""
    prompts = encode_together(model, prompts)
    longest = max(map(len, prompts))
    padding_B = torch.tensor([longest - len(prompt) for prompt in prompts], device=model.decoder.device)
    rows = [prompt_rows(model, prompt, 0)[0] for prompt in prompts]
    x_BLD = rows[0].new_zeros(len(prompts), longest, rows[0].shape[-1])
    for row_LD, x_LD in zip(rows, x_BLD, strict=True):
        x_LD[longest - len(row_LD) :] = row_LD
    cache = _empty_cache(model, len(prompts), longest, padding_B if bool(padding_B.any()) else None)
    return _read_rows(model, x_BLD, cache, rows_at_once)


def groups_to_read(lengths: Sequence[int]) -> list[list[int]]:
    """Which prompts to read together, by their lengths: groups of indices, the shortest prompts first.

    A prompt joins the group before it where one pass over the padded group is shorter than two passes.
    """
    groups: list[list[int]] = []
    before = 0  # rows of the last group
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        alone = lengths[index]
        joined = (len(groups[-1]) + 1) * alone if groups else 0
        if groups and joined <= ROWS_AT_ONCE["cpu"] and _cost(joined) < _cost(before) + _cost(alone):
            groups[-1].append(index)
            before = joined
        else:
            groups.append([index])
            before = alone
    return groups


def _cost(rows: int) -> int:
    return max(rows, _ROWS_FOR_FREE)


def _read_rows(model: PerceptionLM, x_BLD: Tensor, cache: KVCache, rows_at_once: int | None) -> ReadPrompts:
    """Extend a cache by embedding rows, part by part."""
    rows_at_once = rows_at_once or ROWS_AT_ONCE["cpu" if x_BLD.device.type == "cpu" else "other"]
    part_length = max(1, rows_at_once // x_BLD.shape[0])
    # Parts of equal length: a last one of a few tokens would cost as much as a long one.
    num_parts = -(-x_BLD.shape[1] // part_length)
    for part_BLD in x_BLD.tensor_split(num_parts, dim=1):
        extended = model.decoder.extend(part_BLD, cache)
        cache = extended.cache
    return ReadPrompts(model.decoder.logits(extended.hidden_BLD[:, -1]), cache)


def _empty_cache(model: PerceptionLM, rows: int, columns: int, padding_B: Tensor | None = None) -> KVCache:
    decoder = model.decoder
    return KVCache.empty(
        model.config.decoder, rows, columns, device=decoder.device, dtype=decoder.dtype, padding=padding_B
    )
