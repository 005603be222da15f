"""Scenes and clips told in words, questions about them answered from the words: what a decoder reads before it sees.

PLM begins with a language model (training-recipes 6.2). To find what a question names, to count, to compare and to put
in order is learned from symbols for a fraction of what it takes from pictures alone; the pictures then have to become
such words only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from perceptic.media.sampling import plm_indices
from perceptic.world.clip import Clip, scene_at
from perceptic.world.drills import (
    event_listing_row,
    existence_row,
    image_drill_row,
    listing_row,
    one_per_object,
    tube_conversations,
    video_drill_row,
    video_locate_row,
)
from perceptic.world.plm_rows import Row, conversation, turns_of
from perceptic.world.randomness import pick, shuffled
from perceptic.world.scene import Scene, SceneObject
from perceptic.world.scene_questions import existence_question, scene_questions

NUM_TOLD_FRAMES: Final = 8
_COLUMNS: Final = 8
_FINE_COLUMNS: Final = 16
"""Rows and columns of a clip's frame, finer than of a picture: motions are short."""
_BRIEF_EXISTENCE: Final = 2
_VISIBLE: Final = 0.3
"""Opacity from which an object is mentioned."""


def scene_words(scene: Scene) -> str:
    """Objects row by row, each with its column and row of eight, what is written, and the background."""
    told = [
        f"{item.size} {item.texture} {item.colour} {item.shape} {cell_words(item)}{_writing(item.text)}"
        for item in sorted(scene.objects, key=lambda item: cell_of(item)[::-1])
    ]
    if scene.sign is not None:
        told.append(f"sign {scene.sign.place}{_writing(scene.sign.text)}")
    if scene.background.pattern == "plain":
        told.append(f"{scene.background.colour} background")
    return "; ".join(told)


def cell_of(item: SceneObject, columns: int = _COLUMNS) -> tuple[int, int]:
    """Column and row of an object's middle, from 0 to `columns` - 1."""
    return _place(item.x, columns), _place(item.y, columns)


def cell_words(item: SceneObject, columns: int = _COLUMNS) -> str:
    """The same in digits: "3 5"."""
    column, row = cell_of(item, columns)
    return f"{column} {row}"


def clip_words(clip: Clip, boxed: int | None = None) -> str:
    """A line a frame, of the frames that a model sees: objects with column, row, extent and angle.

    Args:
        boxed: index of the object in the red rectangle.
    """
    frames = plm_indices(clip.num_frames, clip.frames_per_second, NUM_TOLD_FRAMES)
    return "\n".join(f"{number}: {_frame_words(scene_at(clip, frame), boxed)}" for number, frame in enumerate(frames))


def scene_word_rows(scene: Scene, rng: np.random.Generator) -> list[Row]:
    """Readings of a scene's words with what is asked about its picture; none of a chart."""
    if scene.chart is not None:
        return []
    words = scene_words(scene)
    rows = [make("", scene, rng) for make in (image_drill_row, existence_row, listing_row)]
    return [_reading(words, row["conversations"]) for row in rows if row is not None]


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
    return [_to_read(f"{told}; {again}"), _to_read("\n".join(lines))]


def clip_word_rows(clip: Clip, rng: np.random.Generator) -> list[Row]:
    """Readings of a clip's words with what is asked about the clip, and about one boxed object of it."""
    words = clip_words(clip)
    rows = [video_drill_row("", clip, rng), event_listing_row("", clip), video_locate_row("", clip, rng)]
    readings = [_reading(words, row["conversations"]) for row in rows if row is not None]
    boxed = pick(rng, clip.events).object_index
    return readings + [_reading(clip_words(clip, boxed), told) for told in tube_conversations(clip, boxed, rng)]


def reading(words: str, turns: Sequence[tuple[str, str]]) -> Row:
    """One text to learn word by word, as a language model does: the words, then question and answer a line."""
    return _to_read("\n".join([words, *(f"{ask} {answer}" for ask, answer in turns)]))


def _reading(words: str, told: list[dict[str, str]]) -> Row:
    turns = [(ask.removeprefix("<image>\n").removeprefix("<video>\n"), answer) for ask, answer in turns_of(told)]
    return reading(words, turns)


def _to_read(text: str) -> Row:
    return {"conversations": conversation(("Read.", text))}


def _frame_words(scene: Scene, boxed: int | None) -> str:
    return ", ".join(
        f"{'boxed ' if index == boxed else ''}{_object_words(item)}"
        for index, item in enumerate(scene.objects)
        if item.opacity >= _VISIBLE
    )


def _object_words(item: SceneObject) -> str:
    return f"{_colour(item)} {item.shape} {cell_words(item, _FINE_COLUMNS)} {_extent(item)} {_angle(item)}"


def _colour(item: SceneObject) -> str:
    return item.next_colour if item.colour_change > 0.5 else item.colour


def _place(position: float, columns: int) -> int:
    return min(max(int(position * columns), 0), columns - 1)


def _extent(item: SceneObject) -> int:
    return round(item.radius * 40)


def _angle(item: SceneObject) -> int:
    return round(item.rotation % 360 / 30) % 12


def _writing(text: str) -> str:
    return f" says {text}" if text else ""
