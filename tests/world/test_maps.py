"""Rows that answer for every patch: the words are those of what is drawn there."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from perceptic.media.sampling import plm_indices
from perceptic.world import render, render_clip_annotated, sample_clip, sample_scene
from perceptic.world.clip import Clip, scene_at
from perceptic.world.maps import image_map_row, image_patches_row, video_patches_row
from perceptic.world.places import cell_of
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


def test_a_clip_is_told_patch_by_patch_since_the_frame_before() -> None:
    seen: set[str] = set()
    for seed in range(60):
        clip = sample_clip(seed, num_frames=32, num_objects=1, num_events=1)
        (event,) = clip.events
        words = told_of(clip)["What happens where?"]
        assert set(words[0]) <= {"still", "background"}
        frames = plm_indices(32, 8.0, 8)
        for place in range(1, 8):
            found = set(words[place]) - {"background"}
            if event.start_frame >= frames[place] or event.end_frame <= frames[place - 1]:
                assert found <= {"still"}
            elif event.start_frame <= frames[place - 1] and event.end_frame >= frames[place]:
                seen |= found
                assert found <= {event.kind.split()[-1], event.kind.split()[0]}
    assert {"left", "right", "up", "down", "grows", "clockwise", "changes"} <= seen


def test_who_is_gone_is_told_of_where_it_was() -> None:
    clips = (sample_clip(seed, num_frames=32, num_objects=2, kinds=("disappears", "shakes")) for seed in range(40))
    assert sum("disappears" in told_of(clip)["What happens where?"] for clip in clips) > 10


def test_patches_of_a_clip_say_their_frame_their_object_and_whether_it_is_marked() -> None:
    marked = 0
    for seed in range(20):
        told = told_of(sample_clip(seed, num_frames=32, num_objects=2), seed)
        shape, colour = told["Which shape is where?"], told["Which colour is where?"]
        act, mark = told["What happens where?"], told["Where is the object in the red rectangle?"]
        assert (told["Which frame is where?"] == np.arange(8).astype(str)[:, None]).all()
        assert ((shape == "background") == (colour == "background")).all()
        assert ((shape == "background") == (mark == "background")).all()
        assert ((act == "background") <= (shape == "background")).all()
        names = {f"{one} {other}" for one, other in zip(colour[mark == "marked"], shape[mark == "marked"], strict=True)}
        marked += bool(names)
        # A change of colour gives one object two names.
        assert len(names) <= 2
    assert 0 < marked < 20


def test_patches_of_a_clip_say_where_their_object_was() -> None:
    moved = 0
    for seed in range(20):
        clip = sample_clip(seed, num_frames=32, num_objects=1, kinds=("moves left", "moves right"))
        told = told_of(clip)
        shows = told["Which shape is where?"] != "background"
        was = told["Which column was its middle in?"]
        assert (was[~shows] == "background").all()
        frames = plm_indices(32, 8.0, 8)
        for place in range(1, 8):
            # A small object between patches fills none of them.
            for column in set(was[place][shows[place]]) - {"background"}:
                wanted = cell_of(scene_at(clip, frames[place - 1]).objects[0])[0]
                assert abs("ijklmnop".index(column) - wanted) <= 1
        moved += len(set(was[shows])) > 1
    assert moved > 5


def test_every_object_that_shows_has_one_middle() -> None:
    near = []
    for seed in range(30):
        scene = sample_scene(seed, num_objects=3, text_fraction=0.0)
        row = image_patches_row("a.png", scene, render(scene, 64))
        assert row is not None
        told = {ask: np.array(answer.split(" ")) for ask, answer in turns_of(row["conversations"])}
        middle, shape = told["Where is the middle of an object?"], told["<image>\nWhich shape is where?"]
        assert ((middle == "background") == (shape == "background")).all()
        places = {divmod(int(place), 8)[::-1] for place in np.flatnonzero(middle == "middle")}
        assert 1 <= len(places) <= 3
        near.append(len(places & {cell_of(item) for item in scene.objects}) / 3)
    assert np.mean(near) > 0.7


def test_every_patch_is_told_all_that_it_shows() -> None:
    scene = sample_scene(3, num_objects=2, text_fraction=0.0)
    row = image_patches_row("a.png", scene, render(scene, 64))
    assert row is not None
    told = {ask.split()[-3]: answer.split(" ") for ask, answer in turns_of(row["conversations"])}
    assert list(told) == ["shape", "colour", "size", "texture", "column", "row", "of"]
    assert {len(words) for words in told.values()} == {64}
    assert told["column"][:9] == [*"abcdefgh", "a"]
    assert told["row"][7:9] == ["one", "two"]
    empty = [[word == "background" for word in told[kind]] for kind in ("shape", "colour", "size", "texture")]
    assert empty[0] == empty[1] == empty[2] == empty[3]
