"""What a model is asked: token ids, and the chunks that fill their image tokens.

A prompt knows what each of its positions holds (a token, or part of a certain picture), so that work done for an
earlier prompt with the same beginning can be used again.

Shapes: C chunks, T tokens per chunk, D decoder width.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from perceptic.errors import ConfigError
from perceptic.models.perception_lm import PerceptionLM

Cell = int | bytes  # what one position holds: a token id, or the digest of the chunk it is a part of

_CHUNKS_AT_ONCE = 8


@dataclass(frozen=True)
class Prompt:
    """Build one with `make_prompt`.

    Attributes:
        token_ids: of the whole prompt, image tokens included.
        pixels: chunks (C, 3, S, S) in order that are still to be encoded; None if there are none.
        features: tokens (C, T, D) of chunks that have been encoded already.
        cells: what each position holds.
    """

    token_ids: tuple[int, ...]
    pixels: Tensor | None
    features: Tensor | None
    cells: tuple[Cell, ...]
    tokens_per_chunk: int

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def chunk_keys(self) -> list[bytes]:
        """The digest of each chunk, in order."""
        return [cell for cell in self.cells if isinstance(cell, bytes)][:: self.tokens_per_chunk]

    def num_image_tokens(self, end: int) -> int:
        """Image tokens among the first `end` positions."""
        return sum(isinstance(cell, bytes) for cell in self.cells[:end])


@dataclass(frozen=True)
class EncodedMedia:
    """What the vision tower made of chunks: encode once, ask often. The pixels are needed no more.

    Attributes:
        features: decoder tokens (C, T, D).
        keys: a digest of each chunk, by which prompts know it again.
    """

    features: Tensor
    keys: tuple[bytes, ...]


def encode_media(model: PerceptionLM, pixels: Tensor, chunks_at_once: int = _CHUNKS_AT_ONCE) -> EncodedMedia:
    """Run the vision tower over chunks (C, 3, S, S), a few at a time so that memory stays flat."""
    return EncodedMedia(_features(model, pixels, chunks_at_once), _keys(pixels))


def make_prompt(model: PerceptionLM, token_ids: Sequence[int], media: Tensor | EncodedMedia | None = None) -> Prompt:
    """A prompt out of ids (`text.templates.encode_fragments`) and its chunks.

    Args:
        media: chunks (C, 3, S, S) that are encoded when needed, or already encoded ones. None: text alone.

    Raises:
        ConfigError: no tokens, more than the model has positions for, or another number of image tokens than the
            chunks fill.
    """
    tokens_per_chunk, image_token = model.tokens_per_chunk, model.config.image_token_id
    keys = () if media is None else media.keys if isinstance(media, EncodedMedia) else _keys(media)
    num_chunks = len(keys)
    num_positions = sum(token == image_token for token in token_ids)
    if num_positions != num_chunks * tokens_per_chunk:
        raise ConfigError(
            f"the prompt has {num_positions} image tokens but its {num_chunks} chunks fill "
            f"{num_chunks * tokens_per_chunk} ({tokens_per_chunk} each)"
        )
    limit = model.config.decoder.max_seqlen
    if not 0 < len(token_ids) < limit:
        raise ConfigError(
            f"the prompt has {len(token_ids)} tokens; the model has positions for 1 to {limit - 1} before the answer: "
            "use fewer tiles or frames"
        )
    cells: list[Cell] = []
    seen = 0
    for token in token_ids:
        if token == image_token:
            cells.append(keys[seen // tokens_per_chunk])
            seen += 1
        else:
            cells.append(int(token))
    features = media.features if isinstance(media, EncodedMedia) else None
    pixels = media if isinstance(media, Tensor) else None
    return Prompt(tuple(map(int, token_ids)), pixels, features, tuple(cells), tokens_per_chunk)


def prompt_rows(model: PerceptionLM, prompt: Prompt, start: int) -> Tensor:
    """Embedding rows (1, L - start, D) of the positions from `start` on; only the chunks they need are encoded."""
    ids = torch.tensor([prompt.token_ids[start:]], device=model.decoder.device)
    num_before = prompt.num_image_tokens(start)
    first_chunk, inside = divmod(num_before, prompt.tokens_per_chunk)
    chunks = prompt.pixels if prompt.features is None else prompt.features
    if chunks is None or first_chunk >= len(chunks):
        return model.embed(ids)
    features = chunks[first_chunk:]
    if prompt.features is None:
        features = _features(model, features, _CHUNKS_AT_ONCE)
    return model.embed(ids, features.flatten(0, 1)[inside:][None])


def encode_together(model: PerceptionLM, prompts: Sequence[Prompt]) -> list[Prompt]:
    """The prompts with all their chunks encoded; what several have in common is encoded once."""
    distinct: dict[bytes, Tensor] = {}
    for prompt in prompts:
        if prompt.pixels is not None:
            distinct |= zip(prompt.chunk_keys, prompt.pixels, strict=True)
    if len({(chunk.shape, chunk.dtype) for chunk in distinct.values()}) != 1:
        return list(prompts)  # none, or some that make no batch
    features = dict(zip(distinct, _features(model, torch.stack([*distinct.values()]), _CHUNKS_AT_ONCE), strict=True))

    def encoded(prompt: Prompt) -> Prompt:
        if prompt.pixels is None:
            return prompt
        own = torch.stack([features[key] for key in prompt.chunk_keys])
        return dataclasses.replace(prompt, pixels=None, features=own)

    return [encoded(prompt) for prompt in prompts]


@torch.inference_mode()
def _features(model: PerceptionLM, pixels: Tensor, chunks_at_once: int) -> Tensor:
    return torch.cat([model.encode_chunks(part) for part in pixels.split(chunks_at_once)])


def _keys(chunks: Tensor) -> tuple[bytes, ...]:
    return tuple(_digest(chunk) for chunk in chunks.detach().cpu())


def _digest(chunk: Tensor) -> bytes:
    content = chunk.contiguous().view(torch.uint8).numpy()
    return hashlib.blake2b(content.data, digest_size=16).digest()
