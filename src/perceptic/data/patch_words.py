"""Pictures whose every patch has words: batches for a tower and a projector that learn to say what a patch shows.

The rows are conversations like others, with one word a patch in every answer (`perceptic.world.maps`). Here the words
are not said one after the other by a decoder: each patch has to be near to its own (`train.plm_objective.PatchLoss`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from perceptic.data.packing import PackedBatch
from perceptic.data.plm_rows import ImageRow, PlmRow, RowError
from perceptic.data.plm_samples import TrainingSample
from perceptic.data.plm_stream import SampleStream
from perceptic.errors import DataError, MediaError
from perceptic.media.chunks import ChunkTransform
from perceptic.media.images import load_image
from perceptic.text.conversations import TrainingTokens
from perceptic.text.llama_tokenizer import LlamaTokenizer


@dataclass(frozen=True)
class PatchMaker:
    """Rows to pictures with the words of their patches.

    Attributes:
        transform: of one chunk a picture. tokens_per_chunk: patches of a picture as the decoder gets them (T).
    """

    tokenizer: LlamaTokenizer
    transform: ChunkTransform
    tokens_per_chunk: int

    def __call__(self, row: PlmRow, root: Path, where: str) -> TrainingSample:
        """T picture tokens, then T words for every answer, all of which are learned.

        Raises:
            RowError: not a picture, one that cannot be read, more than one chunk, or an answer without exactly one
                token a patch.
        """
        if not isinstance(row, ImageRow):
            raise RowError(where, "no picture", "rows for learn: patches are about one picture each")
        try:
            chunks = self.transform.pixels(load_image(root / row.path))
        except MediaError as error:
            raise RowError(where, error.reason, error.path) from error
        if len(chunks) != 1:
            raise RowError(where, "several chunks", f"{row.path} has {len(chunks)}; learn: patches takes one a picture")
        words = [self._words(turn.text, where) for turn in row.turns[1::2]]
        ids = [self.tokenizer.image_id] * self.tokens_per_chunk
        learned = range(len(ids), len(ids) * (1 + len(words)))
        tokens = TrainingTokens(
            (*ids, *(word for answer in words for word in answer)), tuple(range(len(ids))), tuple(learned)
        )
        return TrainingSample("image", tokens, chunks)

    def _words(self, answer: str, where: str) -> list[int]:
        # A word in a text follows a blank, which is part of its token; the first is to be the same word.
        ids: list[int] = self.tokenizer.encode(f" {answer}")
        if len(ids) != self.tokens_per_chunk:
            raise RowError(
                where, "not a word a patch", f"an answer has {len(ids)} tokens for {self.tokens_per_chunk} patches"
            )
        return ids


class PatchStream:
    """Batches of so many pictures, for ever; position and restoring as in `data.plm_stream`."""

    def __init__(self, samples: SampleStream, num_pictures: int, tokens_per_chunk: int) -> None:
        self._samples = samples
        self._num_pictures = num_pictures
        self._tokens_per_chunk = tokens_per_chunk

    def next(self) -> PackedBatch:
        """The next batch. Raises DataError once too many rows could not be used."""
        drawn = [self._samples.next().sample for _ in range(self._num_pictures)]
        return patch_batch(drawn, self._tokens_per_chunk)

    def state(self) -> dict[str, Any]:
        """Plain JSON values from which `restore` goes on exactly."""
        return self._samples.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state. Raises DataError if it is of other data."""
        self._samples.restore(state)


def patch_batch(samples: Sequence[TrainingSample], tokens_per_chunk: int) -> PackedBatch:
    """Pictures as sequences of their patches; `label_positions` has each patch once for every word that it learns.

    Raises:
        DataError: pictures with different numbers of answers.
    """
    if len({len(sample.tokens.token_ids) for sample in samples}) > 1:
        raise DataError("pictures that learn patches together must have the same questions, in the same order")
    ids = torch.tensor([sample.tokens.token_ids for sample in samples])
    pictures, words = ids[:, :tokens_per_chunk], ids[:, tokens_per_chunk:]
    # Each answer goes through the patches from the first to the last.
    places = torch.arange(words.shape[1]) % tokens_per_chunk
    positions = tokens_per_chunk * torch.arange(len(samples))[:, None] + places
    chunks = [sample.chunks for sample in samples if sample.chunks is not None]
    return PackedBatch(
        token_ids=pictures,
        sample_lengths=tuple((tokens_per_chunk,) for _ in samples),
        chunks=torch.cat(chunks),
        label_positions=positions.flatten(),
        targets=words.flatten(),
    )
