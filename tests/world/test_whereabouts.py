"""What is said to be at a place is there, in pictures and in single frames; counts are right and directions follow from
the places told before them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from perceptic.world import Clip, Scene, render, sample_clip, sample_scene
from perceptic.world.acts import told_frames
from perceptic.world.clip import scene_at
from perceptic.world.places import COLUMNS, ROWS, place_words
from perceptic.world.plm_rows import turns_of
from perceptic.world.randomness import seeded
from perceptic.world.whereabouts import image_counts_row, image_scan_row, video_directions_row, video_places_row
from perceptic.world.wording import plural
from perceptic.world.words import VISIBLE, colour_now


def clips() -> Iterator[tuple[int, Clip]]:
    for seed in range(60):
        yield seed, sample_clip(seed, num_frames=32)


def scenes() -> Iterator[tuple[int, Scene]]:
    for seed in range(150):
        yield seed, sample_scene(seed)


def test_a_scanned_place_shows_what_is_named_there() -> None:
    shown = empty = 0
    for seed, scene in scenes():
        rendered = render(scene, 64)
        row = image_scan_row("a.png", scene, rendered, seeded(seed, "test"))
        assert (row is None) == (scene.chart is not None)
        if row is None:
            continue
        ((_, answer),) = turns_of(row["conversations"])
        for column, place, name in re.findall(r"(\w) (\w+) ([^,]+)", answer):
            x, y = COLUMNS.index(column) * 8, ROWS.index(place) * 8
            owners = rendered.owners[y : y + 8, x : x + 8]
            covered = [int((owners == index).sum()) for index in range(len(scene.objects))]
            named = [index for index, item in enumerate(scene.objects) if f"{item.colour} {item.shape}" == name]
            if name == "background":
                assert max(covered) < 64 / 3
                empty += 1
            else:
                assert max(covered) in [covered[index] for index in named]
                shown += 1
    assert shown > 1000
    assert empty > 500


def test_a_scan_is_in_random_order_and_says_no_place_twice() -> None:
    ordered = 0
    for seed, scene in scenes():
        row = image_scan_row("a.png", scene, render(scene, 64), seeded(seed, "test"))
        if row is not None:
            places = [" ".join(part.split()[:2]) for part in turns_of(row["conversations"])[0][1].split(", ")]
            assert len(set(places)) == len(places) <= 24
            ordered += places == sorted(places)
    assert ordered <= 1


def test_counts_are_right_and_tell_all_before_some() -> None:
    several = none = 0
    for seed, scene in scenes():
        row = image_counts_row("a.png", scene, seeded(seed, "test"))
        assert (row is None) == (scene.chart is not None)
        turns = turns_of(row["conversations"]) if row else []
        for ask, answer in turns:
            if not (asked := re.search(r"How many (.+) are there", ask)):
                assert answer in ("yes", "no")
                continue
            things = asked.group(1)
            of = [x for x in scene.objects if things in ("objects", plural(x.shape), f"{x.colour} objects")]
            assert answer == str(len(of))
            several, none = several + (len(of) > 1), none + (not of)
        assert not turns or "How many objects" in turns[0][0]
    assert several > 100
    assert none > 50


def test_a_place_is_that_of_the_only_object_of_its_name_in_a_frame() -> None:
    asked = moved = gone = 0
    for seed, clip in clips():
        row = video_places_row("a.mp4", clip, seeded(seed, "test"))
        assert row is not None
        frames, before = told_frames(clip), ""
        ((_, answer),) = turns_of(row["conversations"])
        for part in answer.split(", "):
            number, colour, shape, place = part.split(" ", 3)
            objects = scene_at(clip, frames[int(number)]).objects
            (item,) = [item for item in objects if (colour_now(item), item.shape) == (colour, shape)]
            assert place == ("gone" if item.opacity < VISIBLE else place_words(item))
            gone += place == "gone"
            asked, moved, before = asked + 1, moved + (place != before), place
    assert moved > asked / 2, "a place is seldom the one before it"
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
