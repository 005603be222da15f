"""When something happens in a video, and where something is in a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perceptic.errors import ConfigError
from perceptic.inference.sampling import GenerationOptions
from perceptic.media.boxes import Box, parse_region
from perceptic.tasks.ask import BoxesLike, Media, question_messages
from perceptic.tasks.assistant import DEFAULT_PLM, Assistant, load_assistant
from perceptic.tasks.frame_spans import first_span, seconds_at
from perceptic.tasks.media_parts import MediaPart
from perceptic.tasks.messages import ChatMessage, all_media
from perceptic.tasks.seeing import MediaSeen, Seeing
from perceptic.text.region_prompts import GROUNDING_PROMPT, when_prompt

# Frames spread evenly over the clip, as the models were evaluated (spec 6.3).
EVENLY = Seeing(sampling="uniform")
# Two numbers in brackets. The benchmark stops after 16 tokens; a small model needs more, for its steps.
_LOCATE_OPTIONS = GenerationOptions(max_new_tokens=64)


@dataclass(frozen=True)
class Located:
    """When something happens.

    Attributes:
        start_seconds, end_seconds: when the first and the last frame of it appear, from the start of the video; None
            where the answer could not be read.
        start_frame, end_frame: their numbers among the frames seen, from 0.
        text: what the model answered.
        problem: why that could not be read.
        frame_seconds: when each frame seen appears.
        notes: as `Answer.notes`.
    """

    start_seconds: float | None
    end_seconds: float | None
    start_frame: float | None
    end_frame: float | None
    text: str
    problem: str | None
    frame_seconds: tuple[float, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LocatedRegion:
    """Where something is: a box in pixels of the picture, or None and the problem with the answer `text`."""

    box: Box | None
    text: str
    problem: str | None
    notes: tuple[str, ...] = ()


def locate(
    video: Media,
    text: str,
    boxes: BoxesLike | None = None,
    *,
    model: str | Path | Assistant = DEFAULT_PLM,
    seeing: Seeing = EVENLY,
    options: GenerationOptions = _LOCATE_OPTIONS,
    **loading: Any,
) -> Located:
    """When in a video something happens.

    With boxes the prompt is PLM-VideoBench's (RTLoc, spec 6.3), which the released models know best; without, the same
    without its first words. The resolution is the distance between two frames seen.

    Args:
        text: what happens, as a description.
        boxes: who or what it is about, drawn on the frames in red: one box, or boxes by frame number.
        loading: as in `ask`.

    Raises:
        MediaError: the video cannot be read.
        ConfigError: a picture, boxes that are none, or a prompt that does not fit.
        WeightsError and its kinds: the model cannot be loaded.
    """
    assistant = load_assistant(model, **loading)
    asked = ask_about_frames(assistant, video, boxes, seeing)
    prompt = when_prompt(asked.num_frames, is_boxed=boxes is not None).format(caption=text)
    answer = assistant.generate(asked.messages(prompt), seeing=seeing, options=options)
    return _located(answer.text, answer.media[0].frame_seconds, answer.notes)


def locate_region(
    image: Media,
    text: str,
    *,
    model: str | Path | Assistant = DEFAULT_PLM,
    seeing: Seeing | None = None,
    options: GenerationOptions = _LOCATE_OPTIONS,
    **loading: Any,
) -> LocatedRegion:
    """Where in a picture the thing is that a text describes. Raises as `locate` does."""
    assistant = load_assistant(model, **loading)
    messages = question_messages(image, GROUNDING_PROMPT.format(caption=text))
    (part,) = all_media(messages)
    if part.kind != "image":
        raise ConfigError(f"{part.name}: is a video; boxes are found in pictures, times in videos")
    answer = assistant.generate(messages, seeing=seeing, options=options)
    seen = answer.media[0]
    region = parse_region(answer.text, seen.width, seen.height)
    problem = None if region.box is not None else "the answer has no [x1, y1, x2, y2]"
    if region.box is not None and (region.box.right < region.box.left or region.box.bottom < region.box.top):
        return LocatedRegion(None, answer.text, "the corners of the box are swapped", answer.notes)
    return LocatedRegion(region.box, answer.text, problem, answer.notes)


@dataclass(frozen=True)
class FramesAsked:
    """A video whose number of frames seen is part of the prompt."""

    part: MediaPart
    seen: MediaSeen

    @property
    def num_frames(self) -> int:
        return self.seen.num_chunks

    def messages(self, prompt: str) -> tuple[ChatMessage, ...]:
        return (ChatMessage.user(self.part, prompt),)


def ask_about_frames(assistant: Assistant, video: Media, boxes: BoxesLike | None, seeing: Seeing) -> FramesAsked:
    """Look how many frames will be seen.

    Raises:
        MediaError: the video cannot be read.
        ConfigError: it is a picture.
    """
    (part,) = all_media(question_messages(video, "", box=boxes))
    if part.kind != "video":
        raise ConfigError(f"{part.name}: is a picture; this asks about the frames of a video")
    (seen,) = assistant.look([part], seeing)
    return FramesAsked(part, seen)


def _located(text: str, frame_seconds: tuple[float, ...], notes: tuple[str, ...]) -> Located:
    span = first_span(text)
    problem = "the answer has no [start, end]" if span is None else span.problem(len(frame_seconds))
    if span is None or problem is not None:
        return Located(None, None, None, None, text, problem, frame_seconds, notes)
    start, end = seconds_at(span.start, frame_seconds), seconds_at(span.end, frame_seconds)
    return Located(start, end, span.start, span.end, text, None, frame_seconds, notes)
