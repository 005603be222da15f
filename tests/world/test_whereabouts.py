"""Places in single frames are those of what is named there, and directions follow from them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from perceptic.world import Clip, sample_clip
from perceptic.world.acts import told_frames
from perceptic.world.clip import scene_at
from perceptic.world.places import COLUMNS, ROWS, place_words
from perceptic.world.plm_rows import turns_of
from perceptic.world.randomness import seeded
from perceptic.world.whereabouts import video_directions_row, video_places_row


def clips() -> Iterator[tuple[int, Clip]]:
    for seed in range(60):
        yield seed, sample_clip(seed, num_frames=32)


def test_a_place_is_that_of_the_only_object_of_its_name_in_a_frame() -> None:
    asked = moved = 0
    for seed, clip in clips():
        row = video_places_row("a.mp4", clip, seeded(seed, "test"))
        assert row is not None
        frames, before = told_frames(clip), ""
        for ask, answer in turns_of(row["conversations"]):
            number, colour, shape = re.search(r"(\d): (\w+) (.+)\?$", ask).groups()
            objects = scene_at(clip, frames[int(number)]).objects
            assert answer in [place_words(item) for item in objects if item.shape == shape]
            assert any(colour in (item.colour, item.next_colour) for item in objects)
            asked, moved, before = asked + 1, moved + (answer != before), answer
    assert moved > asked / 2, "an answer is seldom the one before it"


def test_directions_follow_from_the_places_before_them() -> None:
    told = same = 0
    for seed, clip in clips():
        row = video_directions_row("a.mp4", clip, seeded(seed, "test"))
        for ask, answer in turns_of(row["conversations"]) if row else ():
            if "Which way does" in ask:
                steps, direction = answer.rsplit(": ", 1)
                first, last = (_cell(text) for text in steps.split(", "))
                told += 1
                same += first == last
                expected = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}[direction]
                changes = [(end > start) - (end < start) for start, end in zip(first, last, strict=True)]
                assert first == last or tuple(changes) == expected
    assert told > 30
    assert same <= told / 20, "a move within one cell tells nothing"


def _cell(text: str) -> tuple[int, int]:
    _, column, row = text.split()
    return COLUMNS.index(column), ROWS.index(row)
