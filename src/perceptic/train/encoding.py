"""Batches through a model's towers: in chunks, texts without their padding.

Shapes: B batch, F frames, L tokens, E embedding size.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from perceptic.models.clip import CLIP


def encode_media(model: CLIP, pixels: Tensor, chunk_size: int = 0) -> Tensor:
    """Pictures (B, 3, h, w) or clips (B, F, 3, h, w) to (B, E), not normalised; a clip is the mean of its frames.

    Args:
        chunk_size: rows that enter the tower at once, 0 for all. Small chunks keep a layer's activations in the
            processor's cache, which doubles the rate of a small model on a CPU.
    """
    if pixels.ndim == 4:
        return _chunked(model.encode_image, pixels, chunk_size)
    # As `CLIP.encode_video(normalize=False)`, with chunks running across clips.
    frames_E = _chunked(model.encode_image, pixels.flatten(0, 1), chunk_size)
    return frames_E.reshape(*pixels.shape[:2], -1).mean(dim=1)


def encode_text(model: CLIP, ids_BL: Tensor, chunk_size: int = 0) -> Tensor:
    """Ids to (B, E), not normalised.

    Texts are sorted by length and each chunk is cut to its longest: padding costs as much as words.
    """
    order = ids_BL.argmax(dim=-1).argsort(stable=True)
    sorted_BE = _chunked(lambda ids: model.encode_text(_without_padding(ids)), ids_BL[order], chunk_size)
    return torch.empty_like(sorted_BE).index_copy(0, order, sorted_BE)


def unit_vectors(x: Tensor) -> Tensor:
    """Rows divided by their lengths, at least in fp32: losses over many similarities need it."""
    return F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1)


def _chunked(encode: Callable[[Tensor], Tensor], x: Tensor, chunk_size: int) -> Tensor:
    if not chunk_size or len(x) <= chunk_size:
        return encode(x)
    return torch.cat([encode(chunk) for chunk in x.split(chunk_size)])


def _without_padding(ids_BL: Tensor, multiple: int = 16) -> Tensor:
    """Cut columns after the last end-of-text; a few distinct widths only, so that compiled code is reused."""
    longest = int(ids_BL.argmax(dim=-1).max()) + 1
    return ids_BL[:, : -(-longest // multiple) * multiple]
