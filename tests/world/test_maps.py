"""Rows that answer for every patch: the words are those of what is drawn there."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from perceptic.media.sampling import plm_indices
from perceptic.world import Scene, render, render_clip_annotated, sample_clip, sample_scene
from perceptic.world.clip import Clip, scene_at
from perceptic.world.maps import image_map_row, image_patches_row, video_patches_row
from perceptic.world.places import COLUMNS, cell_of
from perceptic.world.plm_rows import turns_of
from perceptic.world.randomness import seeded


@pytest.mark.parametrize("size", [64, 66, 128])
def test_a_map_has_the_word_of_the_object_that_fills_a_patch(size: int) -> None:
    kinds: Counter[str] = Counter()
    for seed in range(30):
        scene = sample_scene(seed, num_objects=3, text_fraction=0.0)
        rendered = render(scene, size)
        for ask, told in turns_of(image_map_row("a.png", scene, rendered, seeded(seed, "test"))["conversations"]):
            (kind,) = (kind for kind in ("shape", "colour", "size", "texture") if kind in ask)
            kinds[kind] += 1
            words = told.split(" ")
            assert len(words) == 64
            for place, word in enumerate(words):
                row, column = divmod(place, 8)
                patch = rendered.owners[
                    row * size // 8 : (row + 1) * size // 8, column * size // 8 : (column + 1) * size // 8
                ]
                if (patch == -1).all():
                    assert word == "background"
                elif len(np.unique(patch)) == 1:
                    assert word == getattr(scene.objects[patch[0, 0]], kind)
    assert set(kinds) == {"shape", "colour", "size", "texture"}
    assert kinds["shape"] > kinds["size"]


def test_charts_have_no_map() -> None:
    chart = sample_scene(1, layout="chart")
    assert image_map_row("a.png", chart, render(chart, 64), seeded(1, "test")) is None


def told_of(clip: Clip, seed: int = 0) -> dict[str, np.ndarray]:
    """Question to words, frame by frame."""
    row = video_patches_row("a.mp4", clip, render_clip_annotated(clip, 64), seeded(seed, "test"))
    assert ("bbox_map" in row) == ("marked" in str(row["conversations"]))
    turns = turns_of(row["conversations"])
    assert turns[0][0].startswith("<video>\n")
    return {ask.removeprefix("<video>\n"): np.array(told.split(" ")).reshape(8, 64) for ask, told in turns}


def test_patches_of_a_clip_say_their_frame_their_object_and_whether_it_is_marked() -> None:
    marked = 0
    for seed in range(20):
        told = told_of(sample_clip(seed, num_frames=32, num_objects=2), seed)
        shape, colour = told["Which shape is where?"], told["Which colour is where?"]
        mark = told["Where is the object in the red rectangle?"]
        assert (told["Which frame is where?"] == np.arange(8).astype(str)[:, None]).all()
        assert ((shape == "background") == (colour == "background")).all()
        assert ((shape == "background") == (mark == "background")).all()
        names = {f"{one} {other}" for one, other in zip(colour[mark == "marked"], shape[mark == "marked"], strict=True)}
        marked += bool(names)
        # A change of colour gives one object two names.
        assert len(names) <= 2
    assert 0 < marked < 20


def test_patches_of_a_clip_say_where_their_object_is_in_their_frame() -> None:
    moved = 0
    for seed in range(20):
        clip = sample_clip(seed, num_frames=32, num_objects=1, kinds=("moves left", "moves right"))
        told = told_of(clip)
        shows, column = told["Which shape is where?"] != "background", told["Which column is where?"]
        assert ((column == "background") == ~shows).all()
        for number, frame in enumerate(plm_indices(32, 8.0, 8)):
            (item,) = scene_at(clip, frame).objects
            assert set(column[number][shows[number]]) <= {COLUMNS[cell_of(item)[0]]}
        moved += len(set(column[shows])) > 1
    assert moved > 5


def test_every_object_that_shows_has_one_middle() -> None:
    near = []
    for seed in range(30):
        scene = sample_scene(seed, num_objects=3, text_fraction=0.0)
        told = patches_of(scene)
        middle, shape = told["Where is the middle of an object?"], told["Which shape is where?"]
        assert ((middle == "background") == (shape == "background")).all()
        places = {divmod(int(place), 8)[::-1] for place in np.flatnonzero(middle == "middle")}
        assert 1 <= len(places) <= 3
        near.append(len(places & {cell_of(item) for item in scene.objects}) / 3)
    assert np.mean(near) > 0.7


def test_every_patch_is_told_all_that_it_shows() -> None:
    scene = sample_scene(3, num_objects=2, text_fraction=0.0)
    told = patches_of(scene)
    assert [ask.split("?")[0] for ask in told] == [
        "Which shape is where",
        "Which colour is where",
        "Which size is where",
        "Which texture is where",
        "Which column is where",
        "Which row is where",
        "Where is the middle of an object",
        "How many of the shape are there",
        "How many of the colour are there",
        "How many objects are there",
    ]
    *of_objects, everywhere = told.values()
    assert {len(words) for words in told.values()} == {64}
    assert set(everywhere) == {"2"}
    empty = of_objects[0] == "background"
    assert all(((words == "background") == empty).all() for words in of_objects)


def test_patches_say_how_many_there_are_like_their_object() -> None:
    several = 0
    for seed in range(60):
        scene = sample_scene(seed, num_objects=4, text_fraction=0.0)
        told = patches_of(scene)
        for kind, words in (("shape", "ABEFHI"), ("colour", "KLNOPR")):
            like = Counter(getattr(item, kind) for item in scene.objects)
            for word, number in zip(
                told[f"Which {kind} is where?"], told[f"How many of the {kind} are there?"], strict=True
            ):
                assert number == ("background" if word == "background" else words[like[word] - 1])
                several += word != "background" and like[word] > 1
    assert several > 100


def patches_of(scene: Scene) -> dict[str, np.ndarray]:
    """Question to words of a picture."""
    row = image_patches_row("a.png", scene, render(scene, 64))
    assert row is not None
    return {ask.removeprefix("<image>\n"): np.array(told.split(" ")) for ask, told in turns_of(row["conversations"])}
