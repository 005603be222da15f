"""Tracks of objects tell what a clip shows, and what follows from them is what is asked."""

from __future__ import annotations

import re
from collections.abc import Iterator

from perceptic.world import Clip, render_clip_annotated, sample_clip
from perceptic.world.acts import told_frames
from perceptic.world.clip import scene_at
from perceptic.world.places import COLUMNS, ROWS, place_words
from perceptic.world.plm_rows import turns_of
from perceptic.world.randomness import seeded
from perceptic.world.tracks import (
    track_reading_row,
    track_words,
    tube_tracks_row,
    video_places_row,
    video_tracks_row,
)


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


def test_a_track_has_every_frame_and_ends_at_the_last_place() -> None:
    for _, clip in clips():
        for index in range(len(clip.scene.objects)):
            told = track_words(clip, index).split(", ")
            assert [text.split()[0] for text in told] == [str(number) for number in range(8)]
            last = scene_at(clip, told_frames(clip)[-1]).objects[index]
            assert told[-1].split(maxsplit=1)[1].startswith(place_words(last) if last.opacity >= 0.3 else "gone")


def test_directions_follow_from_the_places_before_them() -> None:
    told = same = 0
    for seed, clip in clips():
        row = video_tracks_row("a.mp4", clip, seeded(seed, "test"))
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


def test_every_answer_comes_after_its_steps() -> None:
    for seed, clip in clips():
        rendered = render_clip_annotated(clip, 64)
        rows = [video_tracks_row("a.mp4", clip, seeded(seed, "test"))]
        rows.append(tube_tracks_row("a.mp4", clip, rendered, seeded(seed, "test")))
        for row in filter(None, rows):
            assert row["conversations"][0]["value"].startswith("<video>\n")
            for _, answer in turns_of(row["conversations"]):
                assert re.match(r"([a-z ]+ )?\d (gone|[a-h] \w+)", answer)
                assert re.search(r": (left|right|up|down|\[\d+, \d+\]|the .+)$", answer)


def test_readings_have_the_steps_in_the_question() -> None:
    kinds = set()
    for seed, clip in clips():
        row = track_reading_row(clip, seeded(seed, "test"))
        if row is None:
            continue
        assert "video" not in row
        for ask, answer in turns_of(row["conversations"]):
            assert ask.endswith(":")
            assert re.fullmatch(r"left|right|up|down|\[\d+, \d+\]|the .+", answer)
            kinds.add(re.match(r"Which way|What happens|Please", ask).group())
    assert kinds == {"Which way", "What happens", "Please"}


def _cell(text: str) -> tuple[int, int]:
    _, column, row = text.split()
    return COLUMNS.index(column), ROWS.index(row)
