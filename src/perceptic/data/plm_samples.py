"""From a row to what the language model is trained on: pixels of its chunks, token ids, and which of them it learns.

Pixels stay uint8 until they are on the device: a quarter of the memory and of the traffic between processes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from perceptic.data.plm_rows import ImageRow, MultiImageRow, PlmRow, RowError, TextRow, Turn, VideoRow
from perceptic.errors import MediaError, TextError
from perceptic.media.chunks import ChunkTransform
from perceptic.media.images import load_image
from perceptic.media.regions import draw_boxes
from perceptic.media.sampling import plm_indices
from perceptic.media.video import open_video, read_chosen
from perceptic.text.conversations import MediaTokens, MediaType, TrainingTokens, training_tokens
from perceptic.text.llama_tokenizer import LlamaTokenizer
from perceptic.text.templates import SYSTEM_PROMPT, TemplateName


@dataclass(frozen=True, eq=False)
class TrainingSample:
    """One conversation, ready to be packed.

    Attributes:
        media_type: what it is about.
        tokens: ids of all of it, and which are pictures and which are learned.
        chunks: uint8 RGB (C, 3, S, S) in the order of the picture tokens; None for text alone.
        is_cut: whether later turns were left out for want of room.
        tile_columns: of a tiled picture, whose first chunk is the whole of it; 0 for anything else.
    """

    media_type: MediaType
    tokens: TrainingTokens
    chunks: torch.Tensor | None
    is_cut: bool = False
    tile_columns: int = 0

    @property
    def num_inputs(self) -> int:
        """Tokens that the model reads: the last one is only ever predicted."""
        return len(self.tokens.token_ids) - 1

    @property
    def label_positions(self) -> list[int]:
        """Inputs that predict a learned token, the one after them. A first token has nothing before it."""
        return [position - 1 for position in self.tokens.response_positions if position > 0]


@dataclass(frozen=True, eq=False)
class Seen:
    """Chunks of a row's media, and how many columns of tiles there are."""

    chunks: torch.Tensor | None
    tile_columns: int = 0


@dataclass(frozen=True)
class SampleMaker:
    """Rows to samples for one model and stage.

    Attributes:
        transform: the stage's tiles and frames.
        tokens_per_chunk: of the model.
        max_tokens: room for one sample (spec 3.4: turns that do not fit are left out).
        template, system, allow_special: see `training_tokens`.
    """

    tokenizer: LlamaTokenizer
    transform: ChunkTransform
    tokens_per_chunk: int
    max_tokens: int
    template: TemplateName = "plm_sft"
    system: str = SYSTEM_PROMPT
    allow_special: bool = False

    def __call__(self, row: PlmRow, root: Path, where: str) -> TrainingSample:
        """Read a row's media and encode its conversation.

        Args:
            root: where the row's media paths start. where: the row's file and line, for messages.

        Raises:
            RowError: media that cannot be read, a conversation that cannot be trained on, or no room for an answer.
        """
        media_type = _media_type(row)
        try:
            seen = see(row, root, self.transform)
        except MediaError as error:
            raise RowError(where, error.reason, error.path) from error
        num_chunks = 0 if seen.chunks is None else len(seen.chunks)
        media = MediaTokens(media_type, num_chunks, self.tokens_per_chunk)
        tokens = self._tokens(row.turns, media, where)
        is_cut = self.template == "plm_sft" and tokens.token_ids[-1] != self.tokenizer.eos_id
        return TrainingSample(media_type, tokens, seen.chunks, is_cut, seen.tile_columns)

    def _tokens(self, turns: Sequence[Turn], media: MediaTokens, where: str) -> TrainingTokens:
        conversation: list[Mapping[str, str]] = [{"from": turn.speaker, "value": turn.text} for turn in turns]
        try:
            tokens = training_tokens(
                self.tokenizer,
                conversation,
                media,
                self.max_tokens,
                template=self.template,
                system=self.system,
                allow_special=self.allow_special,
            )
        except TextError as error:
            raise RowError(where, "bad conversation", str(error)) from error
        if tokens is None or not tokens.response_positions:
            part = "the question" if tokens is None else "the answer"
            raise RowError(where, f"no room for {part}", f"it does not fit in {self.max_tokens} tokens")
        if len(tokens.image_positions) != media.num_chunks * media.tokens_per_chunk:
            raise RowError(
                where, "pictures cut off", f"later turns with pictures do not fit in {self.max_tokens} tokens"
            )
        return tokens


def see(row: PlmRow, root: Path, transform: ChunkTransform) -> Seen:
    """Read a row's media, boxes drawn on it. Raises MediaError if it cannot be read."""
    match row:
        case TextRow():
            return Seen(None)
        case ImageRow():
            image = load_image(root / row.path)
            grid = transform.grid(image.width, image.height)
            return Seen(transform.pixels(image), 0 if grid is None else grid.columns)
        case MultiImageRow():
            return Seen(transform.images_pixels([load_image(root / path) for path in row.paths]))
        case VideoRow():
            return Seen(_frames(row, root / row.path, transform))


def _frames(row: VideoRow, path: Path, transform: ChunkTransform) -> torch.Tensor:
    max_frames = transform.preprocessing.max_video_frames
    with open_video(path) as video:

        def choose() -> Sequence[int]:
            return plm_indices(
                len(video.seconds),
                video.info.frames_per_second,
                max_frames,
                start_seconds=row.start_seconds,
                end_seconds=row.end_seconds,
            )

        frames = read_chosen(video, choose)
    pixels = draw_boxes(frames.pixels, frames.indices.tolist(), row.boxes) if row.boxes else frames.pixels
    return transform.frame_pixels(pixels)


def _media_type(row: PlmRow) -> MediaType:
    match row:
        case TextRow():
            return "text"
        case ImageRow():
            return "image"
        case MultiImageRow():
            return "multi_image"
        case VideoRow():
            return "video"
