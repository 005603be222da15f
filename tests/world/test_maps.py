"""Rows that answer for every patch: the words are those of what is drawn there."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from perceptic.media.sampling import plm_indices
from perceptic.world import render, render_clip_annotated, sample_clip, sample_scene
from perceptic.world.maps import image_map_row, image_patches_row, image_places_row, place_words, video_map_row
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


def test_a_clip_is_told_patch_by_patch_since_the_frame_before() -> None:
    seen: set[str] = set()
    for seed in range(60):
        clip = sample_clip(seed, num_frames=32, num_objects=1, num_events=1)
        rendered = render_clip_annotated(clip, 64)
        (event,) = clip.events
        ((ask, told),) = turns_of(video_map_row("a.mp4", clip, rendered)["conversations"])
        assert ask.startswith("<video>\n")
        words = np.array(told.split(" ")).reshape(7, 64)
        frames = plm_indices(32, 8.0, 8)
        for place in range(1, 8):
            found = set(words[place - 1]) - {"background"}
            if event.start_frame >= frames[place] or event.end_frame <= frames[place - 1]:
                assert found <= {"still"}
            elif event.start_frame <= frames[place - 1] and event.end_frame >= frames[place]:
                seen |= found
                assert found <= {event.kind.split()[-1], event.kind.split()[0]}
    assert {"left", "right", "up", "down", "grows", "clockwise", "changes"} <= seen


def test_who_is_gone_is_told_of_where_it_was() -> None:
    clips = (sample_clip(seed, num_frames=32, num_objects=2, kinds=("disappears", "shakes")) for seed in range(40))
    told = [
        turns_of(video_map_row("a.mp4", clip, render_clip_annotated(clip, 64))["conversations"])[0][1] for clip in clips
    ]
    assert sum("disappears" in words for words in told) > 10


def test_every_patch_is_told_all_that_it_shows() -> None:
    scene = sample_scene(3, num_objects=2, text_fraction=0.0)
    row = image_patches_row("a.png", scene, render(scene, 64))
    assert row is not None
    told = {ask.split()[-3]: answer.split(" ") for ask, answer in turns_of(row["conversations"])}
    assert list(told) == ["shape", "colour", "size", "texture", "column", "row"]
    assert {len(words) for words in told.values()} == {64}
    assert told["column"][:9] == [*"abcdefgh", "a"]
    assert told["row"][7:9] == ["one", "two"]
    empty = [[word == "background" for word in told[kind]] for kind in ("shape", "colour", "size", "texture")]
    assert empty[0] == empty[1] == empty[2] == empty[3]


def test_places_are_those_of_the_named_objects_in_every_form() -> None:
    forms: Counter[str] = Counter()
    for seed in range(120):
        scene = sample_scene(seed, num_objects=3)
        rendered = render(scene, 64)
        row = image_places_row("a.png", scene, rendered, seeded(seed, "test"))
        if row is None:
            continue
        turns = turns_of(row["conversations"])
        forms[turns[0][0].removeprefix("<image>\n").split()[0]] += 1
        said = [(ask.rsplit("the ", 1)[-1].rstrip("?"), place) for ask, place in turns]
        if "bbox" in row or (len(turns) == 1 and "Which object" in turns[0][0]):
            said = [named(part) for part in turns[0][1].split(", ")]
        for name, place in said:
            item = next(item for item in scene.objects if f"{item.colour} {item.shape}" == name)
            assert place == place_words(item)
        for number, part in enumerate(turns[0][1].split(", ") if "bbox" in row else []):
            item = next(item for item in scene.objects if f"{item.colour} {item.shape}" == named(part)[0])
            box = rendered.boxes[scene.objects.index(item)]
            assert box is not None
            assert list(box.xywh) == row["bbox"][number]
    assert set(forms) == {"Which", "In", "Name", "Give"}


def named(part: str) -> tuple[str, str]:
    """Name and place in "<|bbox0|> c four red circle" or "red circle c four <|bbox0|>"."""
    words = [word for word in part.split(" ") if not word.startswith("<|")]
    return (
        (" ".join(words[2:]), " ".join(words[:2])) if len(words[0]) == 1 else (" ".join(words[:2]), " ".join(words[2:]))
    )
