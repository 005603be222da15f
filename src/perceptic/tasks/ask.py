"""Ask about pictures and videos, or about nothing but text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from perceptic.errors import ConfigError
from perceptic.inference.sampling import GenerationOptions
from perceptic.media.boxes import fill_regions
from perceptic.tasks.answers import Answer
from perceptic.tasks.assistant import DEFAULT_PLM, Assistant, load_assistant
from perceptic.tasks.media_parts import BoxLike, MediaPart, as_box, as_boxes, media_part
from perceptic.tasks.messages import ChatMessage
from perceptic.tasks.seeing import Seeing

Media = str | Path | bytes | Image.Image | MediaPart
BoxesLike = BoxLike | Mapping[int, BoxLike | None]


def ask(
    paths: Media | Sequence[Media],
    question: str,
    *,
    model: str | Path | Assistant = DEFAULT_PLM,
    system: str | None = None,
    seeing: Seeing | None = None,
    options: GenerationOptions | None = None,
    box: BoxesLike | None = None,
    regions: Sequence[BoxLike] = (),
    allow_network: bool = False,
    **loading: Any,
) -> Answer:
    """Answer one question about pictures and videos.

    Args:
        paths: one or several of: a path, an address (`file://`, `data:`, and http(s) if allowed), the bytes of a file,
            a Pillow image, a `MediaPart`. Several are shown in the order given, before the question. An empty list
            asks about the text alone.
        model: a zoo name, hub repository or folder; an `Assistant` keeps the model and what it has seen between calls.
        system: replaces the system prompt that the models were trained with.
        seeing: how many frames and tiles, which time range.
        options: how to choose words; greedily, up to 256 tokens, unless given.
        box: drawn in red on the one picture, or on all frames of the one video, or on each frame by its number; ask
            about "the red rectangle".
        regions: boxes in pixels of the one picture or video; each `<|bboxN|>` in the question becomes box N as the text
            that the models know, such as `[289,129,601,337]`.
        loading: `device`, `dtype` and the other fields of `tasks.loading.PLMOptions`.

    Raises:
        MediaError: a picture or video cannot be read.
        ConfigError: a prompt that does not fit, more than the model was trained with, boxes without one medium.
        TextError: an empty question without media.
        WeightsError and its kinds: the model cannot be loaded.
    """
    messages = question_messages(paths, question, system=system, box=box, allow_network=allow_network)
    assistant = load_assistant(model, **loading)
    if regions:
        messages = with_regions(assistant, messages, regions)
    return assistant.generate(messages, seeing=seeing, options=options)


def question_messages(
    paths: Media | Sequence[Media],
    question: str,
    *,
    system: str | None = None,
    box: BoxesLike | None = None,
    allow_network: bool = False,
) -> tuple[ChatMessage, ...]:
    """The conversation that `ask` asks with; the arguments are its own.

    Raises:
        MediaError: no such file, or neither a picture nor a video.
        ConfigError: boxes for other than one medium, or an address that is not allowed.
    """
    given = [paths] if isinstance(paths, str | Path | bytes | Image.Image | MediaPart) else list(paths)
    parts = [one if isinstance(one, MediaPart) else media_part(one, allow_network=allow_network) for one in given]
    if box is not None:
        parts = [with_boxes(_only(parts, "box"), box)]
    opening = [] if system is None else [ChatMessage.system(system)]
    return (*opening, ChatMessage.user(*parts, question))


def with_boxes(part: MediaPart, boxes: BoxesLike) -> MediaPart:
    """A medium with boxes drawn on it. Raises ConfigError for boxes that are none."""
    return replace(part, boxes=as_boxes(boxes))


def with_regions(
    assistant: Assistant, messages: Sequence[ChatMessage], regions: Sequence[BoxLike]
) -> tuple[ChatMessage, ...]:
    """Messages with `<|bboxN|>` in user texts replaced by region N, relative to the one picture or video in them.

    Raises:
        ConfigError: other than one medium, a box that is none, a marker without a box.
        MediaError: the medium cannot be read.
    """
    part = _only([part for message in messages for part in message.media], "regions")
    (seen,) = assistant.look([part], Seeing(beyond_training=True))
    boxes = [as_box(region) for region in regions]

    def filled(message: ChatMessage) -> ChatMessage:
        if message.role != "user":
            return message
        texts = (
            fill_regions(one, boxes, seen.width, seen.height) if isinstance(one, str) else one for one in message.parts
        )
        return replace(message, parts=tuple(texts))

    return tuple(filled(message) for message in messages)


def _only(parts: Sequence[MediaPart], what: str) -> MediaPart:
    if len(parts) != 1:
        raise ConfigError(f"{what} needs exactly one picture or video to lie on, not {len(parts)}")
    return parts[0]
