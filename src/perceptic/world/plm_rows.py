"""Training rows of the language model, one JSON object per line: image, multi-image, region, video, text, RCap, RTLoc
and RDCap. Row keys and wordings: perception-language-model sections 6 and 8.3, datasets-and-benchmarks section 1.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from perceptic.text.region_prompts import GROUNDING_PROMPT, REGION_PROMPT, rcap_prompts, rdcap_prompts, rtloc_prompts
from perceptic.world.captioning import Captions, grouped
from perceptic.world.clip import Clip, Event
from perceptic.world.clip_questions import event_sentence
from perceptic.world.clip_rendering import RenderedClip
from perceptic.world.dense_captions import dense_segments, event_caption
from perceptic.world.question import Question
from perceptic.world.randomness import chance, pick, shuffled
from perceptic.world.rendering import Box, Rendered
from perceptic.world.scene import Scene, SceneObject
from perceptic.world.wording import brief_noun_phrase, noun_phrase, sentence, with_article

Row = dict[str, Any]

REGION_FRAMES: Final = 32
"""Region tasks count time in this many sampled frames."""

_STROKE: Final = 4
"""Width in pixels of the outline of a region task (perception-language-model spec 5.2)."""

_IMAGE_PROMPTS: Final = {
    "short": ("What is shown?", "What is this?", "What do you see?", "Describe the image briefly."),
    "medium": ("Describe the image.", "Describe this picture.", "What is in the image?", "What is in this picture?"),
    "long": (
        "Describe the image in details.",
        "Describe this picture in detail.",
        "Give a detailed description of the image.",
    ),
}
_VIDEO_PROMPTS: Final = {
    "short": ("What happens? Answer briefly.", "What is this?", "Describe the video briefly."),
    "medium": ("What is happening in the video?", "What happens in this video?", "Describe the video."),
    "long": ("Describe the video in details.", "Give a detailed description of the video."),
}
_CAPTIONS: Final = 2
"""Of the three lengths, told of one picture or clip, each in a row."""


def conversation(*turns: tuple[str, str]) -> list[dict[str, str]]:
    """Question-answer pairs as alternating human and assistant messages."""
    return [
        {"from": speaker, "value": value}
        for turn in turns
        for speaker, value in zip(("human", "assistant"), turn, strict=True)
    ]


def turns_of(told: Sequence[dict[str, str]]) -> list[tuple[str, str]]:
    """The question-answer pairs of a conversation."""
    said = [message["value"] for message in told]
    return list(zip(said[::2], said[1::2], strict=True))


def image_rows(path: str, captions: Captions, questions: tuple[Question, ...], rng: np.random.Generator) -> list[Row]:
    """Caption rows, and a row that asks the questions in turn."""
    rows = _caption_rows("image", path, captions, _IMAGE_PROMPTS, rng)
    if questions:
        rows.append({"image": path, "conversations": _asked("<image>\n", questions, rng)})
    return rows


def multi_image_row(paths: tuple[str, str], scenes: tuple[Scene, Scene], rng: np.random.Generator) -> Row | None:
    """Two pictures and which of them shows something; None where nothing tells them apart by colour and shape."""
    kinds = [{(item.colour, item.shape) for item in scene.objects} for scene in scenes]
    which = int(rng.random() * 2)
    only = sorted(kinds[which] - kinds[1 - which])
    if not only:
        return None
    colour, shape = pick(rng, only)
    ask = f"<image>\n<image>\nWhich image shows {with_article(f'{colour} {shape}')}, the first or the second?"
    answer = ("the first", "the second")[which]
    return {"image": list(paths), "conversations": conversation((ask, answer))}


def region_rows(path: str, scene: Scene, rendered: Rendered, rng: np.random.Generator) -> list[Row]:
    """Describe a box, and find the box of a description, for one object that is the only one of its kind."""
    boxed = boxed_singles(scene, rendered)
    if not boxed:
        return []
    item, box = pick(rng, boxed)
    common = {"image": path, **box_fields(rendered, [box])}
    phrase = noun_phrase(item, rng, size=True, texture=True, text=True)
    describe = f"<image>\n{REGION_PROMPT}"
    find = f"<image>\n{GROUNDING_PROMPT.format(caption=brief_noun_phrase(item))}"
    return [
        {**common, "conversations": conversation((describe, sentence(phrase)))},
        {**common, "conversations": conversation((find, "<|bbox0|>"))},
    ]


def boxed_singles(scene: Scene, rendered: Rendered) -> list[tuple[SceneObject, Box]]:
    """The objects that are the only ones of their kind and can be seen, with their boxes."""
    single = [members[0] for members in grouped(scene.objects) if len(members) == 1]
    boxes = [(item, rendered.boxes[scene.objects.index(item)]) for item in single]
    return [(item, box) for item, box in boxes if box is not None]


def box_fields(rendered: Rendered, boxes: Sequence[Box]) -> Row:
    """What a row says of the boxes that its conversation refers to."""
    height, width = rendered.pixels.shape[:2]
    return {"bbox": [list(box.xywh) for box in boxes], "width": width, "height": height}


def video_rows(
    path: str, clip: Clip, captions: Captions, questions: tuple[Question, ...], rng: np.random.Generator
) -> list[Row]:
    """Caption rows, a row of questions, and a row about one event cut out by start and end time."""
    rows = _caption_rows("video", path, captions, _VIDEO_PROMPTS, rng)
    if questions:
        rows.append({"video": path, "conversations": _asked("<video>\n", questions, rng)})
    event = pick(rng, clip.events)
    happening = sentence(event_sentence(clip, event))
    rows.append(
        {
            "video": path,
            "start_time": clip.start_seconds(event),
            "end_time": clip.end_seconds(event),
            "conversations": conversation(("<video>\nWhat happens?", happening)),
        }
    )
    return rows


def text_row(captions: Captions, questions: tuple[Question, ...], rng: np.random.Generator) -> Row | None:
    """A question answered from the long caption alone; None where no question can be."""
    # What the long caption always says; depth order and counts of unnamed kinds it may not.
    told = [question for question in questions if question.kind in ("colour", "shape", "texture", "size")]
    told = [question for question in told if question.answer in captions.long.lower().split()]
    if not told:
        return None
    question = pick(rng, told)
    return {"conversations": conversation((f"{captions.long} {question.question}", question.answer))}


def rcap_row(path: str, clip: Clip, rendered: RenderedClip, event: Event, rng: np.random.Generator) -> Row:
    """What happens to the boxed object within given frames."""
    start, end = region_frames(clip, event.start_frame), region_frames(clip, event.end_frame)
    ask = pick(rng, rcap_prompts(REGION_FRAMES)).format(start=start, end=end)
    return _region_row(path, rendered, event.object_index, ask, event_caption(event))


def rtloc_row(path: str, clip: Clip, rendered: RenderedClip, event: Event, rng: np.random.Generator) -> Row | None:
    """When something happens to the boxed object; None where it happens twice."""
    caption = event_caption(event)
    own = [other for other in clip.events if other.object_index == event.object_index]
    if sum(event_caption(other) == caption for other in own) > 1:
        return None
    ask = pick(rng, rtloc_prompts(REGION_FRAMES)).format(caption=caption.removesuffix("."))
    answer = f"[{region_frames(clip, event.start_frame)}, {region_frames(clip, event.end_frame)}]"
    return _region_row(path, rendered, event.object_index, ask, answer)


def rdcap_row(path: str, clip: Clip, rendered: RenderedClip, object_index: int, rng: np.random.Generator) -> Row:
    """Everything the boxed object does, covering the whole clip, as lines `Frame [s, e]: text`."""
    lines = []
    for segment in dense_segments(clip, object_index):
        start, end = region_frames(clip, segment.start_frame), region_frames(clip, segment.end_frame)
        lines.append(f"Frame [{start}, {end}]: {segment.caption}")
    return _region_row(path, rendered, object_index, pick(rng, rdcap_prompts(REGION_FRAMES)), "\n".join(lines))


def region_frames(clip: Clip, frame: int) -> int:
    """A frame of the clip in the 32 sampled frames: floor(frame / (total / 32))."""
    return min(int(frame / (clip.num_frames / REGION_FRAMES)), REGION_FRAMES - 1)


def box_map(rendered: RenderedClip, object_index: int) -> dict[str, list[int] | None]:
    """Frame number in the file to a box [x1, y1, x2, y2] around the object in pixels, null where it cannot be seen.

    Rectangles are drawn with a stroke that lies inside the box and is as wide in small frames as in large ones: a tight
    box would be painted over the object that it is meant to show.
    """
    height, width = rendered.pixels.shape[1:3]
    track = rendered.tracks[object_index]
    return {str(frame): None if box is None else _around(box, width, height) for frame, box in enumerate(track)}


def _around(box: Box, width: int, height: int) -> list[int]:
    left, top, right, bottom = box.xyxy
    return [
        max(left - _STROKE, 0),
        max(top - _STROKE, 0),
        min(right + _STROKE, width - 1),
        min(bottom + _STROKE, height - 1),
    ]


def _region_row(path: str, rendered: RenderedClip, object_index: int, ask: str, answer: str) -> Row:
    turns = conversation((f"<video>\n{ask}", answer))
    return {"video": path, "bbox_map": box_map(rendered, object_index), "conversations": turns}


def _caption_rows(
    medium: str, path: str, captions: Captions, prompts: Mapping[str, tuple[str, ...]], rng: np.random.Generator
) -> list[Row]:
    """The captions of some lengths, each behind one of its prompts."""
    lengths = shuffled(rng, list(prompts))[:_CAPTIONS]
    told = [(pick(rng, prompts[length]), getattr(captions, length)) for length in lengths]
    return [{medium: path, "conversations": conversation((f"<{medium}>\n{ask}", text))} for ask, text in told]


def _asked(prefix: str, questions: tuple[Question, ...], rng: np.random.Generator) -> list[dict[str, str]]:
    turns = [(_with_options(question, rng), question.answer) for question in questions]
    # A lettered answer repeats letter and text.
    answered = [(ask, f"{_letter(ask, answer)}{answer}" if "\nOptions:\n" in ask else answer) for ask, answer in turns]
    return conversation((prefix + answered[0][0], answered[0][1]), *answered[1:])


def _with_options(question: Question, rng: np.random.Generator) -> str:
    """Some of the questions with up to five choices become multiple choice."""
    if not 3 <= len(question.choices) <= 5 or not chance(rng, 0.3):
        return question.question
    options = "\n".join(f"({letter}) {choice}" for letter, choice in zip("ABCDE", question.choices, strict=False))
    return f"{question.question}\nOptions:\n{options}"


def _letter(ask: str, answer: str) -> str:
    line = next(line for line in ask.splitlines() if line[:1] == "(" and line[4:] == answer)
    return line[:4]
