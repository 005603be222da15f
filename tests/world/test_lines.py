"""What a line says of a picture or clip is so, in random order."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from perceptic.world import Clip, Scene, render, sample_clip, sample_scene
from perceptic.world.acts import STILL, acts_between, told_frames
from perceptic.world.clip import scene_at
from perceptic.world.lines import (
    image_names_row,
    image_scan_row,
    image_tally_row,
    video_acts_row,
    video_places_row,
)
from perceptic.world.places import COLUMNS, ROWS, place_words
from perceptic.world.plm_rows import Row, turns_of
from perceptic.world.randomness import seeded
from perceptic.world.wording import plural
from perceptic.world.words import VISIBLE, colour_now


def clips() -> Iterator[tuple[int, Clip]]:
    for seed in range(60):
        yield seed, sample_clip(seed, num_frames=32)


def scenes() -> Iterator[tuple[int, Scene]]:
    for seed in range(150):
        yield seed, sample_scene(seed)


def parts(row: Row | None) -> list[str]:
    """What the line of a row says, one after the other; nothing of a chart."""
    if row is None:
        return []
    ((_, line),) = turns_of(row["conversations"])
    return line.split(", ")


def test_a_scanned_place_shows_what_is_named_there() -> None:
    shown = empty = 0
    for seed, scene in scenes():
        rendered = render(scene, 64)
        row = image_scan_row("a.png", scene, rendered, seeded(seed, "test"))
        assert (row is None) == (scene.chart is not None)
        if row is None:
            continue
        for column, place, name in re.findall(r"(\w) (\w+) ([^,]+)", ", ".join(parts(row))):
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
            places = [" ".join(part.split()[:2]) for part in parts(row)]
            assert len(set(places)) == len(places) <= 24
            ordered += places == sorted(places)
    assert ordered <= 1


def test_each_object_is_told_once_with_all_that_it_is() -> None:
    by_colour = objects = 0
    for seed, scene in scenes():
        row = image_names_row("a.png", scene, seeded(seed, "test"))
        assert (row is None) == (scene.chart is not None)
        told = [frozenset(part.split()) for part in parts(row)]
        like = [{x.colour, x.shape, x.size, x.texture, *place_words(x).split()} for x in scene.objects]
        assert sorted(map(sorted, told)) == sorted(map(sorted, like))
        names = {item.colour for item in scene.objects}
        by_colour += sum(part.split()[0] in names for part in parts(row))
        objects += len(told)
    assert 0.4 < by_colour / objects < 0.6


def test_a_tally_counts_what_is_there_and_what_is_not() -> None:
    answers: Counter[str] = Counter()
    for seed, scene in scenes():
        row = image_tally_row("a.png", scene, seeded(seed, "test"))
        assert (row is None) == (scene.chart is not None)
        told = parts(row)
        assert len({part.rsplit(" ", 1)[0] for part in told}) >= len(told) - 1
        for things, answer in (part.rsplit(" ", 1) for part in told):
            answers[answer] += 1
            if answer in ("yes", "no"):
                there = any(f"{item.colour} {item.shape}" == things for item in scene.objects)
                assert answer == ("yes" if there else "no")
            else:
                of = [x for x in scene.objects if things in ("objects", plural(x.shape), f"{x.colour} objects")]
                assert answer == str(len(of))
    assert answers["yes"] > 300 < answers["no"]
    assert answers["2"] > 50 < answers["0"]


def test_an_act_is_what_the_named_object_does_up_to_the_frame() -> None:
    done = still = 0
    for seed, clip in clips():
        frames = told_frames(clip)
        for part in parts(video_acts_row("a.mp4", clip, seeded(seed, "test"))):
            number, colour, shape, act = part.split(" ")
            before, now = frames[int(number) - 1], frames[int(number)]
            objects = scene_at(clip, now).objects
            (index,) = [i for i, item in enumerate(objects) if (colour_now(item), item.shape) == (colour, shape)]
            assert act == acts_between(clip, before, now).get(index, STILL)
            done, still = done + (act != STILL), still + (act == STILL)
    assert done > 200
    assert still <= done + 60


def test_a_place_is_that_of_the_only_object_of_its_name_in_a_frame() -> None:
    asked = moved = gone = 0
    for seed, clip in clips():
        row = video_places_row("a.mp4", clip, seeded(seed, "test"))
        assert row is not None
        frames, before = told_frames(clip), ""
        for part in parts(row):
            number, colour, shape, place = part.split(" ", 3)
            objects = scene_at(clip, frames[int(number)]).objects
            (item,) = [item for item in objects if (colour_now(item), item.shape) == (colour, shape)]
            assert place == ("gone" if item.opacity < VISIBLE else place_words(item))
            gone += place == "gone"
            asked, moved, before = asked + 1, moved + (place != before), place
    assert moved > asked / 2, "a place is seldom the one before it"
    assert gone > 10
