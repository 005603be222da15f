"""The conversation format of PerceptionLM: special tokens and text in the order the models know (spec 3.3 and 3.5).

A prompt is a list of fragments. Strings are text from somebody and become ordinary tokens; `Special` fragments become
control tokens and are made here alone. Picture tokens are `Special(IMAGE, count)`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from perceptic.errors import TextError
from perceptic.text.llama_tokenizer import LlamaTokenizer
from perceptic.text.llama_vocabulary import (
    BEGIN_OF_TEXT,
    END_HEADER,
    END_OF_TURN,
    IMAGE,
    START_HEADER,
)

TemplateName = Literal["plm_sft", "warmup"]
Role = Literal["system", "user", "assistant"]

SYSTEM_PROMPT = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the user "
    "provides, and assist the user with a variety of tasks using natural language."
)

IMAGE_TAG = "<image>"
VIDEO_TAG = "<video>"


@dataclass(frozen=True)
class Special:
    """A special token, `count` times in a row."""

    name: str
    count: int = 1


Fragment = str | Special


@dataclass(frozen=True)
class Picture:
    """A picture or video in a message, as the number of chunks it fills."""

    num_chunks: int
    is_video: bool = False


@dataclass(frozen=True)
class Message:
    """One turn. Parts are text and pictures in the order the writer gave them."""

    role: Role
    parts: tuple[str | Picture, ...]

    @classmethod
    def text(cls, role: Role, text: str) -> Message:
        """A turn of text alone."""
        return cls(role, (text,))


def system_segment(system: str = SYSTEM_PROMPT) -> list[Fragment]:
    """Begin of text and the system prompt."""
    return [Special(BEGIN_OF_TEXT), *turn("system", [system])]


def turn(role: Role, content: Iterable[Fragment]) -> list[Fragment]:
    """One whole turn: header, content, end of turn."""
    return [*header(role), *content, Special(END_OF_TURN)]


def header(role: Role) -> list[Fragment]:
    """What opens a turn; that of the assistant at the end of a prompt asks for an answer."""
    return [Special(START_HEADER), role, Special(END_HEADER), "\n\n"]


def question_prompt(
    question: str,
    num_chunks: int,
    tokens_per_chunk: int,
    *,
    system: str = SYSTEM_PROMPT,
    template: TemplateName = "plm_sft",
    keep_newline: bool = False,
) -> list[Fragment]:
    """One question in the original's convention, where `<image>` in it says where a picture stands.

    As many tags as chunks are replaced in place; otherwise all tags go and the picture tokens stand in front.

    Args:
        num_chunks: chunks of all pictures; 0 for text alone.
        keep_newline: keep the newline beside a single tag, as the original does in generation though not in training.
    """
    tags = question.count(IMAGE_TAG)
    if num_chunks and tags == num_chunks and (keep_newline or tags > 1 or not _has_newline_beside_tag(question)):
        content = tags_replaced(question, tokens_per_chunk)
    else:
        text = "" if template == "warmup" and num_chunks else without_tags(question)
        content = [*image_tokens(num_chunks, tokens_per_chunk), text]
    if template == "warmup":
        return content
    return [*system_segment(system), *turn("user", content), *header("assistant")]


def chat_prompt(
    messages: Sequence[Message], tokens_per_chunk: int, *, system: str = SYSTEM_PROMPT, continue_answer: bool = False
) -> list[Fragment]:
    """A conversation up to the header of the answer wanted. Tags written in a text mean nothing here.

    Args:
        messages: turns of user and assistant by turns, the user first and last; one of role system may lead.
        system: unless a system message replaces it.
        continue_answer: the last message is the beginning of the answer, to be continued.

    Raises:
        TextError: no user turn, roles out of order, or pictures outside of user turns.
    """
    turns = list(messages)
    if turns and turns[0].role == "system":
        system = _text_only(turns.pop(0))
    _check_roles(turns, last="assistant" if continue_answer else "user")
    fragments = system_segment(system)
    for message in turns:
        fragments += turn(message.role, _content(message, tokens_per_chunk))
    return fragments[:-1] if continue_answer else [*fragments, *header("assistant")]


def image_tokens(num_chunks: int, tokens_per_chunk: int) -> list[Fragment]:
    """The flat run of picture tokens of some chunks."""
    return [Special(IMAGE, num_chunks * tokens_per_chunk)] if num_chunks else []


def without_tags(text: str) -> str:
    """The text without `<image>` and `<video>` tags, a newline beside a tag going with it (spec 3.4)."""
    for tag in (IMAGE_TAG, VIDEO_TAG):
        for form in (f"{tag}\n", f"\n{tag}", tag):
            text = text.replace(form, "")
    return text


def render(fragments: Iterable[Fragment]) -> str:
    """The prompt as a string, for people and logs: special tokens spelled out."""
    return "".join(f if isinstance(f, str) else f.name * f.count for f in fragments)


def encode_fragments(
    tokenizer: LlamaTokenizer, fragments: Iterable[Fragment], *, allow_special: bool = False
) -> list[int]:
    """Token ids of a prompt. Neighbouring texts are encoded as one, as if they had been written together.

    Args:
        allow_special: let special tokens written in texts count, as in the original; never for text from strangers.
    """
    ids: list[int] = []
    text = ""
    for fragment in fragments:
        if isinstance(fragment, str):
            text += fragment
            continue
        ids += tokenizer.encode(text, allow_special=allow_special)
        ids += [tokenizer.special_ids[fragment.name]] * fragment.count
        text = ""
    return ids + tokenizer.encode(text, allow_special=allow_special)


def _has_newline_beside_tag(question: str) -> bool:
    return f"{IMAGE_TAG}\n" in question or f"\n{IMAGE_TAG}" in question


def tags_replaced(text: str, tokens_per_chunk: int) -> list[Fragment]:
    """Every `<image>` in the text replaced by the tokens of one chunk."""
    first, *rest = re.split(re.escape(IMAGE_TAG), text)
    content: list[Fragment] = [first]
    for part in rest:
        content += [Special(IMAGE, tokens_per_chunk), part]
    return content


def _content(message: Message, tokens_per_chunk: int) -> list[Fragment]:
    pictures = [part for part in message.parts if isinstance(part, Picture)]
    # The models saw several pictures among text only as one chunk each; tiles and frames always stood in front.
    if all(picture.num_chunks == 1 and not picture.is_video for picture in pictures):
        return [f if isinstance(f, str) else Special(IMAGE, tokens_per_chunk) for f in message.parts]
    content: list[Fragment] = []
    for picture in pictures:
        content += image_tokens(picture.num_chunks, tokens_per_chunk)
    return [*content, *(part for part in message.parts if isinstance(part, str))]


def _check_roles(turns: Sequence[Message], last: Role) -> None:
    if not turns:
        raise TextError("the conversation has no messages; give at least one user message")
    for index, message in enumerate(turns):
        expected: Role = "assistant" if index % 2 else "user"
        if message.role != expected:
            raise TextError(
                f"message {index + 1} should be of role '{expected}', not '{message.role}': after an optional system "
                "message, user and assistant take turns, the user first"
            )
        if message.role == "assistant":
            _text_only(message)
    if turns[-1].role != last:
        raise TextError(f"the last message must be of role '{last}', not '{turns[-1].role}'")


def _text_only(message: Message) -> str:
    texts = [part for part in message.parts if isinstance(part, str)]
    if len(texts) != len(message.parts):
        raise TextError(f"a message of role '{message.role}' cannot hold pictures; put them in a user message")
    return "".join(texts)
