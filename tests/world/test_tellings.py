"""Objects told several times: the same words of each every time, in another order."""

from __future__ import annotations

from collections.abc import Iterator

from perceptic.world import Scene, sample_clip, sample_scene
from perceptic.world.acts import told_frames
from perceptic.world.clip import scene_at
from perceptic.world.places import ROWS, column_word, place_words, row_word
from perceptic.world.plm_rows import Row, turns_of
from perceptic.world.randomness import seeded
from perceptic.world.tellings import clip_telling_row, place_telling_row, scene_telling_row
from perceptic.world.words import VISIBLE, colour_now


def tellings(row: Row | None) -> list[list[str]]:
    """Telling by telling, what is said of each object; nothing of a chart."""
    if row is None:
        return []
    ((ask, text),) = turns_of(row["conversations"])
    assert ask == "Read."
    return [telling.split(", ") for telling in text.split("; ")]


def scenes() -> Iterator[tuple[int, Scene]]:
    for seed in range(100):
        yield seed, sample_scene(seed)


def assert_the_same_things(told: list[list[str]], things: list[list[str]]) -> None:
    assert len(told) == 3
    for telling in told:
        assert sorted(sorted(thing.split()) for thing in telling) == sorted(map(sorted, things))


def test_places_are_told_in_one_piece() -> None:
    for seed, scene in scenes():
        row = place_telling_row(scene, seeded(seed, "test"))
        assert (row is None) == (scene.chart is not None)
        if row is not None:
            things = [[item.colour, item.shape, *place_words(item).split()] for item in scene.objects]
            assert_the_same_things(tellings(row), things)
            for telling, item in ((telling, item) for telling in tellings(row) for item in scene.objects):
                assert any(place_words(item) in thing for thing in telling)


def test_every_word_of_an_object_may_come_last() -> None:
    last: set[str] = set()
    sizes = 0
    for seed, scene in scenes():
        row = scene_telling_row(scene, seeded(seed, "test"))
        assert (row is None) == (scene.chart is not None)
        told = tellings(row)
        if told:
            things = [[x.colour, x.shape, column_word(x), row_word(x)] for x in scene.objects]
            if len(told[0][0].split()) == 6:
                things = [[*words, x.size, x.texture] for words, x in zip(things, scene.objects, strict=True)]
                sizes += 1
            assert_the_same_things(told, things)
            last |= {thing.split()[-1] for telling in told for thing in telling}
    assert {"red", "star", "c", "four", "small", "striped"} <= last
    assert 30 < sizes < 70


def test_frames_are_told_of_what_can_be_told_apart_and_seen_in_them() -> None:
    numbers: set[str] = set()
    for seed in range(60):
        clip = sample_clip(seed, num_frames=32)
        told = tellings(clip_telling_row(clip, seeded(seed, "test")))
        assert len({frozenset(frozenset(thing.split()) for thing in telling) for telling in told}) <= 1
        for words in (thing.split() for telling in told for thing in telling):
            (number,) = (word for word in words if word.isdigit())
            objects = scene_at(clip, told_frames(clip)[int(number)]).objects
            like = [{number, colour_now(x), x.shape, *place_words(x).split()} for x in objects if x.opacity >= VISIBLE]
            assert like.count(set(words)) == 1
            assert sum(word in ROWS for word in words) == 1
            numbers.add(number)
    assert numbers == set("01234567")
