"""Rows about what happens in a clip: no answer stands in an earlier turn, and words answer what is asked about them."""

from __future__ import annotations

import re
from collections import Counter

from perceptic.world import sample_clip
from perceptic.world.clip_drills import (
    event_words_row,
    move_words_row,
    video_directions_row,
    video_orders_row,
    video_questions_row,
)
from perceptic.world.clip_questions import DIRECTIONS, event_sentence
from perceptic.world.places import COLUMNS, ROWS
from perceptic.world.plm_rows import turns_of
from perceptic.world.randomness import seeded


def test_each_object_is_asked_about_once_and_by_what_takes_no_steps() -> None:
    asked = 0
    for seed in range(80):
        clip = sample_clip(seed, num_frames=32)
        row = video_questions_row("a.mp4", clip, seeded(seed, "test"))
        turns = turns_of(row["conversations"]) if row else []
        assert not turns or turns[0][0].startswith("<video>\n")
        assert all("<video>" not in ask for ask, _ in turns[1:])
        assert len(turns) <= len(clip.scene.objects)
        assert not any("start and end" in ask or "What happens" in ask for ask, _ in turns)
        assert not any(answer in DIRECTIONS for _, answer in turns)
        asked += len(turns)
    assert asked > 80


def test_events_in_words_answer_what_is_asked_about_them() -> None:
    asked = 0
    for seed in range(40):
        clip = sample_clip(seed, num_frames=32)
        row = event_words_row(clip, seeded(seed, "test"))
        if row is None:
            continue
        ((_, text),) = turns_of(row["conversations"])
        told, *lines = text.splitlines()
        happenings = told.split(", ")
        assert len(happenings) == len(clip.events)
        for line in lines:
            asked += 1
            question, answer = line.split("? ")
            if question.startswith("Which object"):
                assert any(happening.startswith(answer) for happening in happenings)
            elif "right after" in question:
                places = [n for n, happening in enumerate(happenings) if happening.endswith(answer.split()[-1])]
                assert any(n > 0 for n in places)
            else:
                said = "turns" if answer == "changes colour" else answer.split()[-1]
                assert any(said in happening for happening in happenings)
    assert asked > 60


def test_orders_are_asked_once_of_two_events_and_answered_by_what_happens() -> None:
    asked = 0
    for seed in range(80):
        clip = sample_clip(seed, num_frames=32)
        row = video_orders_row("a.mp4", clip, seeded(seed, "test"))
        told = [event_sentence(clip, event) for event in clip.events]
        turns = turns_of(row["conversations"]) if row else []
        assert len(turns) < max(len(told), 1)
        for ask, answer in turns:
            wanted = told.index(answer)
            (other,) = [words for words in told if words in ask and words != answer]
            assert told.index(other) < wanted or "first" in ask
            asked += 1
    assert asked > 60


def test_moves_in_words_go_where_they_are_said_to() -> None:
    seen: Counter[str] = Counter()
    for seed in range(30):
        ((_, text),) = turns_of(move_words_row(seeded(seed, "test"))["conversations"])
        for before, column, row, after, new_column, new_row, direction in re.findall(
            r"(\d) (\w) (\w+), (\d) (\w) (\w+): (\w+)", text
        ):
            assert (before, after) == ("0", "7")
            moved = (COLUMNS.index(new_column) - COLUMNS.index(column), ROWS.index(new_row) - ROWS.index(row))
            assert [step > 0 for step in moved if step] == [direction in ("right", "down")]
            assert (moved[0] != 0) == (direction in ("left", "right"))
            seen[direction] += 1
    assert set(seen) == set(DIRECTIONS)
    assert seen.total() == 300


def test_directions_follow_from_the_places_before_them() -> None:
    told = same = 0
    for seed in range(60):
        clip = sample_clip(seed, num_frames=32)
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


def _step(ask: str) -> int:
    """What objects do, then order, then times."""
    if "start and end frame" in ask:
        return 2
    return int("happens" in ask)


def _cell(text: str) -> tuple[int, int]:
    _, column, row = text.split()
    return COLUMNS.index(column), ROWS.index(row)
