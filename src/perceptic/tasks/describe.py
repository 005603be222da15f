"""Describe a region of a picture, what happens in a region of a video, and what happens when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perceptic.errors import ConfigError
from perceptic.inference.sampling import GenerationOptions
from perceptic.tasks.answers import Answer
from perceptic.tasks.ask import BoxesLike, Media, question_messages, with_regions
from perceptic.tasks.assistant import DEFAULT_PLM, Assistant, load_assistant
from perceptic.tasks.frame_spans import seconds_at, spans_with_text
from perceptic.tasks.locate import EVENLY, ask_about_frames
from perceptic.tasks.media_parts import MediaPart, media_part
from perceptic.tasks.seeing import MediaSeen, Seeing
from perceptic.text.region_prompts import DRAWN_REGION_PROMPT, REGION_PROMPT, events_prompt, rcap_prompts

# Literals that the released models know (spec 6.2).
IMAGE_PROMPT = "Describe the image in details."
VIDEO_PROMPT = "What is happening in the video?"
_LONG = GenerationOptions(max_new_tokens=512)


@dataclass(frozen=True)
class DescribedEvent:
    """Something that happens in a video, from the first to the last frame of it.

    Seconds count from the start of the video, frames among those seen from 0.
    """

    start_seconds: float
    end_seconds: float
    start_frame: float
    end_frame: float
    text: str


@dataclass(frozen=True)
class DenseDescription:
    """What happens in a video, and when.

    Attributes:
        events: what could be read of the answer, in its order.
        text: what the model answered.
        problem: what of it could not be read, and why.
        media: the video, with the seconds of the frames seen.
        notes: as `Answer.notes`.
    """

    events: tuple[DescribedEvent, ...]
    text: str
    problem: str | None
    media: tuple[MediaSeen, ...]
    notes: tuple[str, ...] = ()


def describe(
    source: Media,
    boxes: BoxesLike | None = None,
    *,
    drawn: bool = False,
    model: str | Path | Assistant = DEFAULT_PLM,
    seeing: Seeing | None = None,
    options: GenerationOptions = _LONG,
    **loading: Any,
) -> Answer:
    """Describe a picture or video, or one region of it, with prompts that the released models know.

    Args:
        boxes: of a picture, one box in pixels, given to the model as text; of a video, one box for all frames or boxes
            by frame number, drawn in red (RCap, spec 6.3). None: the whole.
        drawn: draw the box on a picture, too, instead of writing it.
        seeing: None: a video with boxes is seen in frames spread evenly, everything else as in `ask`.
        loading: as in `ask`.

    Raises:
        MediaError: the file cannot be read.
        ConfigError: boxes that are none or lie outside, boxes by frame for a picture, a prompt that does not fit.
        WeightsError and its kinds: the model cannot be loaded.
    """
    part = source if isinstance(source, MediaPart) else media_part(source)
    assistant = load_assistant(model, **loading)
    if boxes is not None and part.kind == "video":
        return _describe_tube(assistant, part, boxes, seeing or EVENLY, options)
    if boxes is None:
        messages = question_messages(part, whole_prompt(part))
    elif drawn:
        messages = question_messages(part, DRAWN_REGION_PROMPT, box=boxes)
    elif isinstance(boxes, Mapping):
        raise ConfigError(f"{part.name}: a picture has no frames to give boxes for; give one box")
    else:
        messages = with_regions(assistant, question_messages(part, REGION_PROMPT), [boxes])
    return assistant.generate(messages, seeing=seeing, options=options)


def dense_describe(
    video: Media,
    boxes: BoxesLike | None = None,
    *,
    model: str | Path | Assistant = DEFAULT_PLM,
    seeing: Seeing = EVENLY,
    options: GenerationOptions = _LONG,
    **loading: Any,
) -> DenseDescription:
    """What happens in a video, event by event, with times.

    With boxes the prompt is PLM-VideoBench's (RDCap, spec 6.3), which the released models know best; without, the same
    about the whole video.

    Args:
        boxes: who or what it is about, drawn on the frames in red: one box, or boxes by frame number.
        loading: as in `ask`.

    Raises:
        MediaError, ConfigError, WeightsError: as `locate`.
    """
    assistant = load_assistant(model, **loading)
    asked = ask_about_frames(assistant, video, boxes, seeing)
    prompt = events_prompt(asked.num_frames, is_boxed=boxes is not None)
    return read_events(assistant.generate(asked.messages(prompt), seeing=seeing, options=options))


def read_events(answer: Answer) -> DenseDescription:
    """The events in an answer about one video. Items that cannot be are left out and named in `problem`."""
    frame_seconds = answer.media[0].frame_seconds
    events: list[DescribedEvent] = []
    problems: list[str] = []
    items = spans_with_text(answer.text)
    for item in items:
        span = item.span
        problem = span.problem(len(frame_seconds)) or (None if item.text else "it has no description")
        if problem is not None:
            problems.append(f"[{span.start:g}, {span.end:g}]: {problem}")
            continue
        times = seconds_at(span.start, frame_seconds), seconds_at(span.end, frame_seconds)
        events.append(DescribedEvent(*times, span.start, span.end, item.text))
    problem = "; ".join(problems) if items else "the answer has no '[start, end]: description'"
    return DenseDescription(tuple(events), answer.text, problem or None, answer.media, answer.notes)


def whole_prompt(part: MediaPart) -> str:
    """The prompt for a description of a whole picture or video."""
    return IMAGE_PROMPT if part.kind == "image" else VIDEO_PROMPT


def _describe_tube(
    assistant: Assistant, part: MediaPart, boxes: BoxesLike, seeing: Seeing, options: GenerationOptions
) -> Answer:
    """What happens within boxes of a video. The benchmark counts the frames of the whole clip, not those seen."""
    asked = ask_about_frames(assistant, part, boxes, seeing)
    prompt = rcap_prompts(asked.seen.total_frames)[0].format(start=0, end=asked.num_frames - 1)
    return assistant.generate(asked.messages(prompt), seeing=seeing, options=options)
