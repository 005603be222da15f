"""Training rows that ask much about little: many short questions about a picture or clip, and times of all its events.

A small model that reads a picture once should learn from as many answers about it as possible. Questions about single
objects come more often than others, because everything else is built on them. Times are counted in 32 or in 8 frames,
as the prompt says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from perceptic.text.region_prompts import (
    GROUNDING_PROMPT,
    REGION_PROMPT,
    rcap_prompts,
    rdcap_prompts,
    when_prompt,
)
from perceptic.world.chart_questions import chart_questions
from perceptic.world.clip import Clip, Event
from perceptic.world.clip_questions import clip_questions, event_sentence
from perceptic.world.clip_rendering import RenderedClip
from perceptic.world.dense_captions import dense_segments, event_caption
from perceptic.world.places import place_words
from perceptic.world.plm_rows import Row, box_fields, box_map, boxed_singles, conversation
from perceptic.world.question import Question
from perceptic.world.randomness import chance, pick, shuffled
from perceptic.world.rendering import Rendered
from perceptic.world.scene import Scene, location
from perceptic.world.scene_questions import count_question, counted, existence_question, scene_questions
from perceptic.world.vocabulary import COLOURS, SHAPES
from perceptic.world.wording import brief_noun_phrase, joined, sentence

IMAGE_QUESTIONS: Final = 12
CLIP_QUESTIONS: Final = 6
_EXISTENCE_QUESTIONS: Final = 8
_MAX_LOCATED: Final = 3
_MAX_REGIONS: Final = 3

_FREQUENCIES: Final[Mapping[str, float]] = {
    "size": 2.0, "texture": 2.0, "location": 2.0, "relation": 1.0,
    "motion_direction": 2.0, "event_order": 2.0, "event_interval": 0.5,
}  # fmt: skip
"""How often a kind has its turn while another has one."""

FRAME_COUNTS: Final = (32, 8)


def label_row(path: str, scene: Scene, rng: np.random.Generator) -> Row | None:
    """What the only object of a picture is; None where there are several. The easiest questions, to begin with."""
    if len(scene.objects) != 1:
        return None
    (item,) = scene.objects
    turns = [
        ("What shape is the object?", item.shape),
        ("What colour is the object?", item.colour),
        ("What size is the object?", item.size),
        ("What texture does the object have?", item.texture),
        ("Where in the picture is the object?", location(item)),
    ]
    return {"image": path, "conversations": about("image", shuffled(rng, turns))}


def listing_row(path: str, scene: Scene, rng: np.random.Generator) -> Row | None:
    """The objects from left to right, by colour and shape or by shape and colour; None for a chart.

    What binds a shape to a colour: the second word of a pair must be that of the object that the first one named. Asked
    about in questions alone ("what shape is the red object?"), a small model takes much longer to find out.
    """
    if not scene.objects:
        return None
    ordered = sorted(scene.objects, key=lambda item: item.x)
    if chance(rng, 0.5):
        turn = "List the objects from left to right.", ", ".join(f"{item.colour} {item.shape}" for item in ordered)
    else:
        said = ", ".join(f"{item.shape} {item.colour}" for item in ordered)
        turn = "List the shapes with their colours from left to right.", said
    return {"image": path, "conversations": about("image", [turn])}


def existence_row(path: str, scene: Scene, rng: np.random.Generator) -> Row | None:
    """Which colour-shape pairs a picture has; None for a chart."""
    if not scene.objects:
        return None
    found = [existence_question(scene.objects, scene.split, rng) for _ in range(_EXISTENCE_QUESTIONS)]
    return question_row("image", path, shuffled(rng, distinct(found)))


def image_counts_row(path: str, scene: Scene, rng: np.random.Generator) -> Row | None:
    """How many objects there are, how many of each shape and of each colour, and of one that is not there, in random
    order; None for a chart."""
    if not scene.objects:
        return None
    shapes = sorted({*(item.shape for item in scene.objects), pick(rng, SHAPES)})
    colours = sorted({*(item.colour for item in scene.objects), pick(rng, tuple(COLOURS))})
    told = [("objects", len(scene.objects)), *counted(scene.objects, shapes, colours)]
    return question_row("image", path, shuffled(rng, [count_question(*one) for one in told]))


def image_drill_row(path: str, scene: Scene, rng: np.random.Generator) -> Row | None:
    """Up to `IMAGE_QUESTIONS` questions about a picture; None where there is nothing to ask.

    No answer can be read from an earlier question: each object is asked about by its colour or by its shape, and what
    names it by both comes after that.
    """
    if scene.chart is not None:
        return question_row("image", path, shuffled(rng, chart_questions(scene.chart, rng))[:IMAGE_QUESTIONS])
    asked = [question for question in scene_questions(scene, rng) if question.kind not in ("existence", "count")]
    naming = one_per_object([question for question in asked if question.kind in ("colour", "shape")], rng)
    others = [question for question in asked if question.kind not in ("colour", "shape")]
    chosen = _in_turns(shuffled(rng, others))[: IMAGE_QUESTIONS - len(naming)]
    return question_row("image", path, naming + shuffled(rng, chosen))


def region_drill_rows(path: str, scene: Scene, rendered: Rendered, rng: np.random.Generator) -> list[Row]:
    """Up to `_MAX_REGIONS` boxes to describe, and as many descriptions to find the boxes of.

    A description begins with the place, which is the way from the numbers of a box to the patch that shows it, and goes
    on as every line does that says what is where ("c four blue ring, small").
    """
    chosen = shuffled(rng, boxed_singles(scene, rendered))[:_MAX_REGIONS]
    if not chosen:
        return []
    row = {"image": path, **box_fields(rendered, [box for _, box in chosen])}
    numbered = [(item, f"<|bbox{number}|>") for number, (item, _) in enumerate(chosen)]
    described = [
        (
            REGION_PROMPT.replace("<|bbox0|>", box),
            f"{place_words(item)} {item.colour} {item.shape}, {item.size}",
        )
        for item, box in numbered
    ]
    found = [(GROUNDING_PROMPT.format(caption=brief_noun_phrase(item)), box) for item, box in numbered]
    return [{**row, "conversations": about("image", turns)} for turns in (described, found)]


def event_listing_row(path: str, clip: Clip) -> Row:
    """What happens in a clip, in order, every object by colour and shape."""
    return {"video": path, "conversations": about("video", [("List the events in order.", event_list(clip))])}


def event_list(clip: Clip) -> str:
    """ "red star moves left, blue ring appears" """
    return ", ".join(event_caption(event).removeprefix("The ").removesuffix(".") for event in clip.events)


def video_drill_row(path: str, clip: Clip, rng: np.random.Generator) -> Row | None:
    """Up to `CLIP_QUESTIONS` questions about a clip; None where there is nothing to ask."""
    chosen = _in_turns(shuffled(rng, distinct(clip_questions(clip, rng))))[:CLIP_QUESTIONS]
    return question_row("video", path, shuffled(rng, chosen))


def video_locate_row(path: str, clip: Clip, rng: np.random.Generator) -> Row | None:
    """When events of a clip happen, without boxes; None where all of them happen twice."""
    turns = time_turns(clip, rng)
    return {"video": path, "conversations": about("video", turns)} if turns else None


def time_turns(clip: Clip, rng: np.random.Generator) -> list[tuple[str, str]]:
    """Questions for the frames of some events that happen once, with their answers."""
    told = [event_sentence(clip, event) for event in clip.events]
    once = [event for event, words in zip(clip.events, told, strict=True) if told.count(words) == 1]
    return [
        _located(clip, event, sentence(event_sentence(clip, event)), rng, is_boxed=False) for event in _some(once, rng)
    ]


def tube_row(path: str, clip: Clip, rendered: RenderedClip, rng: np.random.Generator) -> Row:
    """One boxed object: what it does, in all and event by event."""
    index = pick(rng, clip.events).object_index
    turns = _described(clip, index, rng)
    return {"video": path, "bbox_map": box_map(rendered, index), "conversations": about("video", turns)}


def tube_conversations(clip: Clip, object_index: int, rng: np.random.Generator) -> list[list[dict[str, str]]]:
    """What the boxed object does; and when, where that can be asked."""
    own = [event for event in clip.events if event.object_index == object_index]
    captions = [event_caption(event) for event in own]
    once = [event for event, caption in zip(own, captions, strict=True) if captions.count(caption) == 1]
    located = [_located(clip, event, event_caption(event), rng, is_boxed=True) for event in _some(once, rng)]
    return [about("video", turns) for turns in (_described(clip, object_index, rng), located) if turns]


def _described(clip: Clip, object_index: int, rng: np.random.Generator) -> list[tuple[str, str]]:
    own = [event for event in clip.events if event.object_index == object_index]
    parts = [_part(clip, event, rng) for event in _some(own, rng)[:1]]
    return [_whole(clip, own, rng), *parts, _dense(clip, object_index, rng)]


def frame_in(clip: Clip, frame: int, total: int) -> int:
    """A frame of the clip counted in `total` frames: floor(frame / (frames / total))."""
    return min(int(frame / (clip.num_frames / total)), total - 1)


def whole_story(events: Sequence[Event]) -> str:
    """ "The red arrow appears and moves right." : what one object does, in order."""
    acts = [event_caption(event).removesuffix(".") for event in events]
    first = events[0].before
    name = f"The {first.colour} {first.shape} "
    # After a change of colour the object goes by another name: then only what it does is said of it.
    rest = [act.split(" ", 3)[3] for act in acts[1:]]
    return f"{joined([name + acts[0].removeprefix(name), *rest])}."


def question_row(medium: str, path: str, asked: Sequence[Question]) -> Row | None:
    """One turn a question; None where nothing is asked."""
    turns = [(question.question, question.answer) for question in asked]
    return {medium: path, "conversations": about(medium, turns)} if turns else None


def one_per_object(found: Sequence[Question], rng: np.random.Generator) -> list[Question]:
    """One question about each object, in random order."""
    return list({question.object_index: question for question in shuffled(rng, found)}.values())


def distinct(found: Sequence[Question]) -> list[Question]:
    """No question twice."""
    return list({question.question: question for question in found}.values())


def _in_turns(found: Sequence[Question]) -> list[Question]:
    """Kinds take turns as often as their frequencies say."""
    seen: Counter[str] = Counter()
    turns: list[tuple[float, Question]] = []
    for question in found:
        turns.append((seen[question.kind] / _FREQUENCIES.get(question.kind, 1.0), question))
        seen[question.kind] += 1
    return [question for _, question in sorted(turns, key=lambda turn: turn[0])]


def about(medium: str, turns: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """A conversation of at least one turn about a picture or clip, which comes before the first question."""
    (ask, answer), *others = turns
    return conversation((f"<{medium}>\n{ask}", answer), *others)


def _some(events: Sequence[Event], rng: np.random.Generator) -> list[Event]:
    return shuffled(rng, list(events))[:_MAX_LOCATED]


def _located(clip: Clip, event: Event, caption: str, rng: np.random.Generator, *, is_boxed: bool) -> tuple[str, str]:
    total = pick(rng, FRAME_COUNTS)
    ask = when_prompt(total, is_boxed=is_boxed).format(caption=caption.removesuffix("."))
    return ask, frame_span(clip, event.start_frame, event.end_frame, total)


def frame_span(clip: Clip, start: int, end: int, total: int) -> str:
    """ "[4, 18]": two frames of the clip counted in `total` frames."""
    return f"[{frame_in(clip, start, total)}, {frame_in(clip, end, total)}]"


def _whole(clip: Clip, own: Sequence[Event], rng: np.random.Generator) -> tuple[str, str]:
    seen, total = pick(rng, FRAME_COUNTS), pick(rng, FRAME_COUNTS)
    return rcap_prompts(total)[0].format(start=0, end=min(seen, total) - 1), whole_story(own)


def _part(clip: Clip, event: Event, rng: np.random.Generator) -> tuple[str, str]:
    total = pick(rng, FRAME_COUNTS)
    start, end = (frame_in(clip, frame, total) for frame in (event.start_frame, event.end_frame))
    return rcap_prompts(total)[0].format(start=start, end=end), event_caption(event)


def _dense(clip: Clip, index: int, rng: np.random.Generator) -> tuple[str, str]:
    total = pick(rng, FRAME_COUNTS)
    lines = [
        f"Frame {frame_span(clip, part.start_frame, part.end_frame, total)}: {part.caption}"
        for part in dense_segments(clip, index)
    ]
    return rdcap_prompts(total)[0], "\n".join(lines)
