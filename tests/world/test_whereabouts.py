"""What is said to be at a place is there and nothing where nothing is said to be; counts and directions follow from the
places told before them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from perceptic.world import Clip, Scene, sample_clip, sample_scene
from perceptic.world.acts import told_frames
from perceptic.world.clip import scene_at
from perceptic.world.places import COLUMNS, ROWS, place_words
from perceptic.world.plm_rows import turns_of
from perceptic.world.randomness import seeded
from perceptic.world.whereabouts import image_cells_row, image_counts_row, video_directions_row, video_places_row
from perceptic.world.wording import plural
from perceptic.world.words import VISIBLE, colour_now


def clips() -> Iterator[tuple[int, Clip]]:
    for seed in range(60):
        yield seed, sample_clip(seed, num_frames=32)


def scenes() -> Iterator[tuple[int, Scene]]:
    for seed in range(200):
        yield seed, sample_scene(seed)


def test_at_a_place_is_what_is_named_there_or_nothing() -> None:
    empty = found = located = 0
    for seed, scene in scenes():
        row = image_cells_row("a.png", scene, seeded(seed, "test"))
        if row is None:
            assert scene.chart is not None or len(scene.objects) > 1
            continue
        for ask, answer in turns_of(row["conversations"]):
            asked = ask.rpartition("? ")[2] if ask.count("?") > 1 else ask
            asked = asked.removeprefix("<image>\n").removesuffix("?")
            at = {place_words(item): f"{item.colour} {item.shape}" for item in scene.objects}
            if answer == "nothing":
                assert asked not in at
                empty += 1
            elif asked in at:
                assert at[asked] == answer
                found += 1
            else:
                assert at[answer] == asked
                located += 1
    assert min(empty, found, located) > 50


def test_an_empty_place_is_outside_of_everything() -> None:
    for seed, scene in scenes():
        row = image_cells_row("a.png", scene, seeded(seed, "test"))
        for ask, answer in turns_of(row["conversations"]) if row else ():
            if answer == "nothing":
                column, place = ask.removesuffix("?").split()[-2:]
                x, y = (COLUMNS.index(column) + 0.5) / 8, (ROWS.index(place) + 0.5) / 8
                assert all(max(abs(item.x - x), abs(item.y - y)) > 0.1 for item in scene.objects)


def test_counts_are_those_of_the_places_told_before_them() -> None:
    several = 0
    for seed, scene in scenes():
        row = image_counts_row("a.png", scene, seeded(seed, "test"))
        assert (row is None) == (scene.chart is not None)
        for ask, answer in turns_of(row["conversations"]) if row else ():
            if not (asked := re.search(r"How many (.+) are there", ask)):
                assert answer in ("yes", "no")
                continue
            things = asked.group(1)
            of = [item for item in scene.objects if things in ("objects", plural(item.shape), f"{item.colour} objects")]
            places, _, number = answer.rpartition(": ")
            assert int(number) == len(of)
            assert sorted(places.split(", ")) == (sorted(map(place_words, of)) or [""])
            assert places.split(", ") == sorted(places.split(", "), key=_order)
            several += len(of) > 1
    assert several > 100


def test_counting_asks_for_all_last_so_that_no_answer_stands_in_an_earlier_one() -> None:
    for seed, scene in scenes():
        row = image_counts_row("a.png", scene, seeded(seed, "test"))
        if row is not None:
            kinds = ["How many" in ask for ask, _ in turns_of(row["conversations"])]
            assert kinds == sorted(kinds)
            assert "How many objects" in turns_of(row["conversations"])[-1][0]


def test_a_place_is_that_of_the_only_object_of_its_name_in_a_frame() -> None:
    asked = moved = gone = 0
    for seed, clip in clips():
        row = video_places_row("a.mp4", clip, seeded(seed, "test"))
        assert row is not None
        frames, before = told_frames(clip), ""
        for ask, answer in turns_of(row["conversations"]):
            number, colour, shape = re.search(r"(\d): (\w+) (.+)\?$", ask).groups()
            objects = scene_at(clip, frames[int(number)]).objects
            (item,) = [item for item in objects if (colour_now(item), item.shape) == (colour, shape)]
            assert answer == ("gone" if item.opacity < VISIBLE else place_words(item))
            gone += answer == "gone"
            asked, moved, before = asked + 1, moved + (answer != before), answer
    assert moved > asked / 2, "an answer is seldom the one before it"
    assert gone > 10


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


def _order(place: str) -> tuple[int, int]:
    """Column by column; no place is none."""
    return (COLUMNS.index(place[0]), ROWS.index(place[2:])) if place else (0, 0)
