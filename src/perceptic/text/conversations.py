"""Training conversations to token ids, and which of them the model learns to say (spec 3.4).

Three habits of the original are mended, because they make samples that cannot be trained on: placeholders and pictures
that differ in number, two turns of one side in a row, and pictures lost behind a leading assistant turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from perceptic.errors import TextError
from perceptic.text.llama_tokenizer import LlamaTokenizer
from perceptic.text.llama_vocabulary import END_OF_TEXT
from perceptic.text.templates import (
    IMAGE_TAG,
    SYSTEM_PROMPT,
    Fragment,
    Special,
    TemplateName,
    encode_fragments,
    image_tokens,
    system_segment,
    tags_replaced,
    turn,
    without_tags,
)

MediaType = Literal["image", "multi_image", "video", "text"]


@dataclass(frozen=True)
class MediaTokens:
    """What a conversation is about: kind, number of chunks and decoder tokens of each. Text has no chunks."""

    media_type: MediaType
    num_chunks: int = 0
    tokens_per_chunk: int = 256


@dataclass(frozen=True)
class TrainingTokens:
    """A conversation as ids.

    Attributes:
        token_ids: of the whole conversation.
        image_positions: indices of picture tokens.
        response_positions: indices of what the assistant says, its headers included.
    """

    token_ids: tuple[int, ...]
    image_positions: tuple[int, ...]
    response_positions: tuple[int, ...]


@dataclass(frozen=True)
class _Exchange:
    question: str
    answer: str


def training_tokens(
    tokenizer: LlamaTokenizer,
    conversation: Sequence[Mapping[str, Any]],
    media: MediaTokens,
    max_tokens: int,
    *,
    template: TemplateName = "plm_sft",
    system: str = SYSTEM_PROMPT,
    allow_special: bool = False,
) -> TrainingTokens | None:
    """Encode one conversation; None if not even its first question fits.

    Turns are kept whole: the first that does not fit in `max_tokens` (one token is left for the shift between inputs
    and labels) ends the sample.

    Args:
        conversation: `{"from": "human" | "assistant", "value": ...}` by turns. A leading assistant turn and a trailing
            question are left out.
        allow_special: special tokens written in a text count as such, as in the original.

    Raises:
        TextError: unknown or missing keys, roles out of order, no answer, or another number of `<image>` placeholders
            than pictures.
    """
    exchanges = _exchanges(conversation)
    segments = _segments(exchanges, media, template, system)
    ids: list[int] = []
    response_positions: list[int] = []
    for index, segment in enumerate(segments):
        segment_ids = encode_fragments(tokenizer, segment, allow_special=allow_special)
        if len(ids) + len(segment_ids) + 1 > max_tokens:
            break
        if index % 2:
            response_positions += range(len(ids), len(ids) + len(segment_ids))
        ids += segment_ids
    else:
        index = len(segments)
    if index == 0:
        return None
    image_positions = tuple(position for position, token in enumerate(ids) if token == tokenizer.image_id)
    return TrainingTokens(tuple(ids), image_positions, tuple(response_positions))


def _exchanges(conversation: Sequence[Mapping[str, Any]]) -> list[_Exchange]:
    turns = [_checked_turn(index, entry) for index, entry in enumerate(conversation)]
    if turns and turns[0][0] == "assistant":
        turns = turns[1:]
    for index, (role, _) in enumerate(turns):
        expected = "assistant" if index % 2 else "human"
        if role != expected:
            raise TextError(f"turn {index + 1} should be of '{expected}', not '{role}': the two sides take turns")
    exchanges = [
        _Exchange(question, answer)
        for (_, question), (_, answer) in zip(turns[::2], turns[1::2], strict=False)  # a trailing question is dropped
    ]
    if not exchanges:
        raise TextError("the conversation has no answer to learn from")
    return exchanges


def _checked_turn(index: int, entry: object) -> tuple[str, str]:
    match entry:
        case {"from": "human" | "assistant" as role, "value": value}:
            return role, value if isinstance(value, str) else str(value)
        case {"from": role, "value": _}:
            raise TextError(f"turn {index + 1} is of '{role}'; known: human, assistant")
        case _:
            raise TextError(f"turn {index + 1} must have the keys 'from' and 'value'")


def _segments(
    exchanges: Sequence[_Exchange], media: MediaTokens, template: TemplateName, system: str
) -> list[list[Fragment]]:
    """User and assistant segments by turns."""
    if media.media_type == "multi_image":
        _check_placeholders(exchanges, media)
    segments: list[list[Fragment]] = []
    for index, exchange in enumerate(exchanges):
        question = _question(exchange.question, media, template, is_first=index == 0)
        if template == "warmup":
            segments += [question, [exchange.answer + "\n"]]
            continue
        opening = system_segment(system) if index == 0 else []
        segments += [[*opening, *turn("user", question)], turn("assistant", [exchange.answer])]
    if template == "plm_sft":
        segments[-1].append(Special(END_OF_TEXT))
    return segments


def _question(text: str, media: MediaTokens, template: TemplateName, *, is_first: bool) -> list[Fragment]:
    if media.media_type == "multi_image":
        return tags_replaced(text, media.tokens_per_chunk)
    if not is_first:
        return [text]
    num_chunks = 0 if media.media_type == "text" else media.num_chunks
    in_front = image_tokens(num_chunks, media.tokens_per_chunk)
    return in_front if template == "warmup" else [*in_front, without_tags(text)]


def _check_placeholders(exchanges: Sequence[_Exchange], media: MediaTokens) -> None:
    placeholders = sum(exchange.question.count(IMAGE_TAG) for exchange in exchanges)
    if placeholders != media.num_chunks:
        raise TextError(
            f"the questions have {placeholders} {IMAGE_TAG} placeholders for {media.num_chunks} pictures; "
            "write one for each picture"
        )
