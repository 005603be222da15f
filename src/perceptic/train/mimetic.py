"""A decoder's attention that begins where trained attention tends to be: it looks for its like and passes it on.

Source: Trockman & Kolter 2023, "Mimetic initialization of self-attention layers" (arXiv 2305.09828), in its simplest
form. The original PLM has no fresh decoder and so no need of it.
"""

from __future__ import annotations

import torch

from perceptic.models.decoder import Decoder, DecoderBlock, GroupedQueryAttention

_OUTPUT = 0.5


@torch.no_grad()
def begin_mimetic(decoder: Decoder) -> None:
    """Let the first query head of each group ask for what its keys hold, and the output be the values transposed."""
    for block in decoder.layers:
        assert isinstance(block, DecoderBlock)
        _begin(block.attention)


def _begin(attention: GroupedQueryAttention) -> None:
    size = attention.head_size
    wq_GRKD = attention.wq.weight.unflatten(0, (attention.wk.weight.shape[0] // size, -1, size))
    attention.wk.weight.copy_(wq_GRKD[:, 0].flatten(0, 1))
    wv_GKD = attention.wv.weight.unflatten(0, (-1, size))
    wo_GRKD = wv_GKD[:, None].expand(-1, wq_GRKD.shape[1], -1, -1) * _OUTPUT
    attention.wo.weight.copy_(wo_GRKD.flatten(0, 2).T)
