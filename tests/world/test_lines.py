"""What a line says of a picture or clip is so, in random order."""

from __future__ import annotations

from collections.abc import Iterator

from perceptic.world import Clip, Scene, sample_clip, sample_scene
from perceptic.world.acts import told_frames
from perceptic.world.clip import scene_at
from perceptic.world.lines import image_names_row, video_places_row
from perceptic.world.places import COLUMNS, ROWS, place_words
from perceptic.world.plm_rows import Row, turns_of
from perceptic.world.randomness import seeded
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


def test_each_object_is_told_once_with_its_place_in_any_order() -> None:
    by_place = objects = with_looks = 0
    for seed, scene in scenes():
        row = image_names_row("a.png", scene, seeded(seed, "test"))
        assert (row is None) == (scene.chart is not None)
        told = [part.split() for part in parts(row)]
        has_looks = any(len(words) == 6 for words in told)
        like = [[x.colour, x.shape, *place_words(x).split()] for x in scene.objects]
        if has_looks:
            like = [[*words, x.size, x.texture] for words, x in zip(like, scene.objects, strict=True)]
        assert sorted(map(sorted, told)) == sorted(map(sorted, like))
        by_place += sum(words[0] in (*COLUMNS, *ROWS) for words in told)
        objects, with_looks = objects + len(told), with_looks + has_looks
    assert 0.3 < by_place / objects < 0.6
    assert 40 < with_looks < 110


def test_a_place_is_that_of_the_only_object_of_its_name_in_a_frame() -> None:
    asked = gone = 0
    for seed, clip in clips():
        row = video_places_row("a.mp4", clip, seeded(seed, "test"))
        assert row is not None
        frames, told = told_frames(clip), set()
        for part in parts(row):
            number, colour, shape, place = part.split(" ", 3)
            objects = scene_at(clip, frames[int(number)]).objects
            (item,) = [item for item in objects if (colour_now(item), item.shape) == (colour, shape)]
            assert place == ("gone" if item.opacity < VISIBLE else place_words(item))
            assert (colour, shape, place) not in told, "no place is told of an object twice"
            told.add((colour, shape, place))
            gone, asked = gone + (place == "gone"), asked + 1
    assert asked > 150
    assert gone > 10
