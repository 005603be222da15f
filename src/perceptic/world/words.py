"""Scenes and clips told in words, questions about them answered from the words: what a decoder reads before it sees.

PLM begins with a language model (training-recipes 6.2). To find what a question names, to count, to compare and to put
in order is learned from symbols for a fraction of what it takes from pictures alone; the pictures then have to become
such words only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from perceptic.media.boxes import Box, fill_regions
from perceptic.world.acts import STILL, acts_between, told_frames
from perceptic.world.clip import Clip, scene_at
from perceptic.world.drills import (
    event_listing_row,
    existence_row,
    image_drill_row,
    listing_row,
    one_per_object,
    region_drill_rows,
    tube_conversations,
    video_drill_row,
    video_locate_row,
)
from perceptic.world.places import boxes_turn, cell_of, place_words, point_words
from perceptic.world.plm_rows import Row, box_fields, boxed_singles, conversation, turns_of
from perceptic.world.randomness import between, pick, shuffled
from perceptic.world.rendering import Rendered
from perceptic.world.scene import Scene, SceneObject
from perceptic.world.scene_questions import count_question, counted, existence_question, scene_questions
from perceptic.world.vocabulary import COLOURS, SHAPES

_BRIEF_EXISTENCE: Final = 2
_BOXES_ANYWHERE: Final = 10
VISIBLE: Final = 0.3
"""Opacity from which an object is mentioned."""


def scene_words(scene: Scene) -> str:
    """Objects row by row, each with its column and row, what is written, and the background."""
    told = [
        f"{item.size} {item.texture} {item.colour} {item.shape} {place_words(item)}{_writing(item.text)}"
        for item in sorted(scene.objects, key=lambda item: cell_of(item)[::-1])
    ]
    if scene.sign is not None:
        told.append(f"sign {scene.sign.place}{_writing(scene.sign.text)}")
    if scene.background.pattern == "plain":
        told.append(f"{scene.background.colour} background")
    return "; ".join(told)


def clip_words(clip: Clip, boxed: int | None = None) -> str:
    """A line a frame, of the frames that a model sees: objects with column, row and what they do since the one before.

    Args:
        boxed: index of the object in the red rectangle.
    """
    frames = told_frames(clip)
    lines = []
    for number, (before, now) in enumerate(zip([frames[0], *frames], frames, strict=False)):
        lines.append(f"{number}: {_frame_words(scene_at(clip, now), acts_between(clip, before, now), boxed)}")
    return "\n".join(lines)


def scene_word_rows(scene: Scene, rng: np.random.Generator) -> list[Row]:
    """Readings of a scene's words with what is asked about its picture; none of a chart."""
    if scene.chart is not None:
        return []
    words = scene_words(scene)
    rows = [make("", scene, rng) for make in (image_drill_row, existence_row, listing_row)]
    return [_reading(words, row["conversations"]) for row in rows if row is not None]


def box_word_rows(scene: Scene, rendered: Rendered, rng: np.random.Generator) -> list[Row]:
    """Readings about boxes: many that lie anywhere, with the column and row of their middles; and those of a scene's
    objects after its words, which have to be described, or named after their places, where a box can be asked about."""
    rows, found = [to_read(_boxes_anywhere(rng))], shuffled(rng, boxed_singles(scene, rendered))
    if not found:
        return rows
    turn = boxes_turn([(place_words(item), f"{item.colour} {item.shape}") for item, _ in found], boxes_first=True)
    named: Row = {**box_fields(rendered, [box for _, box in found]), "conversations": conversation(turn)}
    for row in (named, region_drill_rows("", scene, rendered, rng)[0]):
        boxes = [Box.from_xywh(*box) for box in row["bbox"]]
        told = [
            {**said, "value": fill_regions(said["value"], boxes, row["width"], row["height"])}
            for said in row["conversations"]
        ]
        rows.append(_reading(scene_words(scene), told))
    return rows


def brief_word_rows(scene: Scene, rng: np.random.Generator) -> list[Row]:
    """Colours and shapes alone, told and told again the other way round; and with questions. None of a chart.

    Which word belongs to which is learned from many short texts long before it is learned from few long ones.
    """
    if scene.chart is not None:
        return []
    pairs = list(dict.fromkeys((item.colour, item.shape) for item in scene.objects))
    told = ", ".join(f"{colour} {shape}" for colour, shape in pairs)
    again = ", ".join(f"{shape} {colour}" for colour, shape in shuffled(rng, pairs))
    naming = [question for question in scene_questions(scene, rng) if question.kind in ("colour", "shape")]
    asked = one_per_object(naming, rng)
    asked += [existence_question(scene.objects, scene.split, rng) for _ in range(_BRIEF_EXISTENCE)]
    lines = [told, *(f"{question.question} {question.answer}" for question in shuffled(rng, asked))]
    return [to_read(f"{told}; {again}"), to_read("\n".join(lines))]


def count_word_row(scene: Scene, rng: np.random.Generator) -> Row | None:
    """Colours and shapes of all objects, and how many there are of each and of as many shapes that are not there;
    None of a chart.

    A picture's patches say "star", questions for numbers "stars": that both are one thing is learned from texts.
    """
    if scene.chart is not None:
        return None
    present = sorted({item.shape for item in scene.objects})
    absent = shuffled(rng, [shape for shape in SHAPES if shape not in present])[: len(present)]
    colours = sorted({*(item.colour for item in scene.objects), pick(rng, tuple(COLOURS))})
    told = [("objects", len(scene.objects)), *counted(scene.objects, [*present, *absent], colours)]
    asked = [count_question(*one) for one in shuffled(rng, told)]
    words = ", ".join(f"{item.colour} {item.shape}" for item in shuffled(rng, list(scene.objects)))
    return reading(words, [(question.question, question.answer) for question in asked])


def clip_word_rows(clip: Clip, rng: np.random.Generator) -> list[Row]:
    """Readings of a clip's words with what is asked about the clip, and about one boxed object of it."""
    words = clip_words(clip)
    rows = [video_drill_row("", clip, rng), event_listing_row("", clip), video_locate_row("", clip, rng)]
    readings = [_reading(words, row["conversations"]) for row in rows if row is not None]
    boxed = pick(rng, clip.events).object_index
    return readings + [_reading(clip_words(clip, boxed), told) for told in tube_conversations(clip, boxed, rng)]


def reading(words: str, turns: Sequence[tuple[str, str]]) -> Row:
    """One text to learn word by word, as a language model does: the words, then question and answer a line."""
    return to_read("\n".join([words, *(f"{ask} {answer}" for ask, answer in turns)]))


def _reading(words: str, told: list[dict[str, str]]) -> Row:
    turns = [(ask.removeprefix("<image>\n").removeprefix("<video>\n"), answer) for ask, answer in turns_of(told)]
    return reading(words, turns)


def to_read(text: str) -> Row:
    """A row whose whole text is learned."""
    return {"conversations": conversation(("Read.", text))}


def _boxes_anywhere(rng: np.random.Generator) -> str:
    told = []
    for _ in range(_BOXES_ANYWHERE):
        x, y = (between(rng, 0.05, 0.95) for _ in range(2))
        right, down = (between(rng, 0.04, 0.25) for _ in range(2))
        box = Box(max(x - right, 0.0), max(y - down, 0.0), min(x + right, 1.0), min(y + down, 1.0))
        place = point_words((box.left + box.right) / 2, (box.top + box.bottom) / 2)
        told.append(f"{fill_regions('<|bbox0|>', [box], 1.0, 1.0)} {place}")
    return "; ".join(told)


def _frame_words(scene: Scene, acts: Mapping[int, str], boxed: int | None) -> str:
    return ", ".join(
        f"{'boxed ' if index == boxed else ''}{_clip_object_words(item)} {acts.get(index, STILL)}"
        for index, item in enumerate(scene.objects)
        if item.opacity >= VISIBLE
    )


def _clip_object_words(item: SceneObject) -> str:
    return f"{colour_now(item)} {item.shape} {place_words(item)}"


def colour_now(item: SceneObject) -> str:
    """Its colour, or the next one from the middle of a change on."""
    return item.next_colour if item.colour_change > 0.5 else item.colour


def told_apart(objects: Sequence[SceneObject]) -> list[int]:
    """Numbers of the objects that share their name with no other."""
    names = [(colour_now(item), item.shape) for item in objects]
    return [index for index, name in enumerate(names) if names.count(name) == 1]


def _writing(text: str) -> str:
    return f" says {text}" if text else ""
