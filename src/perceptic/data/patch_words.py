"""Pictures and clips whose every patch has words: batches for a model that learns to say what a patch shows.

The rows are conversations like others, with one word a patch in every answer (`perceptic.world.maps`). Here the words
are not said one after the other by a decoder: each patch has to be near to its own (`train.plm_objective.PatchLoss`).
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from perceptic.data.packing import PackedBatch
from perceptic.data.plm_rows import ImageRow, PlmRow, RowError, VideoRow
from perceptic.data.plm_samples import TrainingSample, see
from perceptic.data.plm_stream import PackedStream, SampleStream
from perceptic.errors import DataError, MediaError
from perceptic.media.chunks import ChunkTransform
from perceptic.text.conversations import MediaTokens, MediaType, TrainingTokens, training_tokens
from perceptic.text.llama_tokenizer import LlamaTokenizer
from perceptic.text.templates import TemplateName

_ANY_QUESTION = ({"from": "human", "value": "?"}, {"from": "assistant", "value": "."})


@dataclass(frozen=True)
class PatchMaker:
    """Rows to pictures or clips with the words of their patches.

    Attributes:
        transform: of one chunk a picture, and one a frame. tokens_per_chunk: patches of a chunk as the decoder gets
            them (T). template: of the conversations in which patches will be asked about: they stand where they do
            there.
    """

    tokenizer: LlamaTokenizer
    transform: ChunkTransform
    tokens_per_chunk: int
    template: TemplateName = "plm_sft"

    def __call__(self, row: PlmRow, root: Path, where: str) -> TrainingSample:
        """What opens a conversation, C*T picture tokens, then C*T words for every answer, all of which are learned.

        Raises:
            RowError: neither a picture nor a clip, one that cannot be read, a picture of more than one chunk, or an
                answer without exactly one token a patch.
        """
        if not isinstance(row, ImageRow | VideoRow):
            raise RowError(where, "no picture", "rows about patches are about one picture or clip each")
        try:
            chunks = see(row, root, self.transform).chunks
        except MediaError as error:
            raise RowError(where, error.reason, error.path) from error
        assert chunks is not None, "pictures and clips have chunks"
        media_type: MediaType = "image" if isinstance(row, ImageRow) else "video"
        if media_type == "image" and len(chunks) != 1:
            raise RowError(where, "several chunks", f"{row.path} has {len(chunks)}; words of patches take one")
        num_patches = len(chunks) * self.tokens_per_chunk
        answers = [self._words(turn.text, num_patches, where) for turn in row.turns[1::2]]
        seen = self._seen(media_type, len(chunks))
        words = tuple(word for answer in answers for word in answer)
        first = len(seen) - num_patches
        tokens = TrainingTokens(
            seen + words, tuple(range(first, len(seen))), tuple(range(len(seen), len(seen) + len(words)))
        )
        return TrainingSample(media_type, tokens, chunks)

    def _seen(self, media_type: MediaType, num_chunks: int) -> tuple[int, ...]:
        """The tokens of a conversation up to its last picture token."""
        return _opening(self.tokenizer, self.template, MediaTokens(media_type, num_chunks, self.tokens_per_chunk))

    def _words(self, answer: str, num_patches: int, where: str) -> list[int]:
        ids = [word_id for word in answer.split() for word_id in _word_ids(self.tokenizer, word)]
        if len(ids) != num_patches:
            raise RowError(where, "not a word a patch", f"an answer has {len(ids)} tokens for {num_patches} patches")
        return ids


@cache
def _opening(tokenizer: LlamaTokenizer, template: TemplateName, media: MediaTokens) -> tuple[int, ...]:
    room = media.num_chunks * media.tokens_per_chunk + 1000
    tokens = training_tokens(tokenizer, _ANY_QUESTION, media, room, template=template)
    assert tokens is not None, "there is room"
    return tokens.token_ids[: tokens.image_positions[-1] + 1]


@cache
def _word_ids(tokenizer: LlamaTokenizer, word: str) -> tuple[int, ...]:
    """Of a word in a text, where it follows a blank. The blank is part of its token, unless it is a digit."""
    ids, blank = tokenizer.encode(f" {word}"), tokenizer.encode(" ")
    return tuple(ids[1:] if word.isdigit() and ids[:1] == blank else ids)


class PatchStream:
    """Batches of so many pictures or clips, for ever; position and restoring as in `data.plm_stream`."""

    def __init__(self, samples: SampleStream, num_samples: int) -> None:
        self._samples = samples
        self._num_samples = num_samples

    def next(self) -> PackedBatch:
        """The next batch. Raises DataError once too many rows could not be used."""
        return patch_batch([self._samples.next().sample for _ in range(self._num_samples)])

    def state(self) -> dict[str, Any]:
        """Plain JSON values from which `restore` goes on exactly."""
        return self._samples.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state. Raises DataError if it is of other data."""
        self._samples.restore(state)


class AccompaniedStream:
    """Batches of one stream, each with a batch of every stream of patches that are learned along with it."""

    def __init__(self, batches: PackedStream | PatchStream, beside: Sequence[PatchStream]) -> None:
        self._batches = batches
        self._beside = beside

    def next(self) -> PackedBatch:
        """The next batch. Raises DataError once too many rows of any stream could not be used."""
        return dataclasses.replace(self._batches.next(), beside=tuple(stream.next() for stream in self._beside))

    def state(self) -> dict[str, Any]:
        """Plain JSON values from which `restore` goes on exactly; `skipped` counts the rows of all streams."""
        state, beside = self._batches.state(), [stream.state() for stream in self._beside]
        skipped = sum((Counter(part["skipped"]) for part in (state, *beside)), Counter())
        return {"batches": state, "beside": beside, "skipped": dict(skipped)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state. Raises DataError if it is of other data."""
        if len(state.get("beside", ())) != len(self._beside):
            raise DataError("the checkpoint's patches that are learned along are of another recipe")
        self._batches.restore(state["batches"])
        for stream, position in zip(self._beside, state["beside"], strict=True):
            stream.restore(position)


def patch_batch(samples: Sequence[TrainingSample]) -> PackedBatch:
    """Sequences up to their last patch; `label_positions` has each patch once for every word that it learns.

    Raises:
        DataError: pictures with different numbers of answers, or clips with different numbers of frames.
    """
    first = samples[0].tokens
    if any(
        len(sample.tokens.token_ids) != len(first.token_ids) or sample.tokens.image_positions != first.image_positions
        for sample in samples
    ):
        raise DataError(
            "pictures or clips that learn patches together must have the same questions in the same order, and clips "
            "as many frames"
        )
    ids = torch.tensor([sample.tokens.token_ids for sample in samples])
    length = first.image_positions[-1] + 1
    seen, words = ids[:, :length], ids[:, length:]
    # Each answer goes through the patches from the first to the last.
    patches = torch.tensor(first.image_positions).repeat(words.shape[1] // len(first.image_positions))
    chunks = [sample.chunks for sample in samples if sample.chunks is not None]
    return PackedBatch(
        token_ids=seen,
        sample_lengths=tuple((length,) for _ in samples),
        chunks=torch.cat(chunks),
        label_positions=(length * torch.arange(len(samples))[:, None] + patches).flatten(),
        targets=words.flatten(),
    )
