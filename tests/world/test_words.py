"""The world in words: true, readable, and answered by what the words say."""

from __future__ import annotations

import re
from collections import Counter

from perceptic.text.region_prompts import REGION_PROMPT
from perceptic.world import render, sample_clip, sample_scene
from perceptic.world.acts import NUM_TOLD_FRAMES
from perceptic.world.clip import scene_at
from perceptic.world.places import COLUMNS, ROWS
from perceptic.world.plm_rows import Row
from perceptic.world.randomness import seeded
from perceptic.world.vocabulary import SHAPES
from perceptic.world.wording import plural
from perceptic.world.words import (
    box_word_rows,
    brief_word_rows,
    clip_word_rows,
    clip_words,
    count_word_row,
    scene_word_rows,
    scene_words,
)


def text(row: Row) -> str:
    ask, told = row["conversations"]
    assert ask == {"from": "human", "value": "Read."}
    assert told["from"] == "assistant"
    return str(told["value"])


def test_every_object_is_told_from_top_to_bottom() -> None:
    for seed in range(60):
        scene = sample_scene(seed, "train")
        place = re.compile(rf" [a-h] ({'|'.join(ROWS)})( says .+)?$")
        told = [found[1] for part in scene_words(scene).split("; ") if (found := place.search(part))]
        assert len(told) == len(scene.objects)
        rows = [ROWS.index(row) for row in told]
        assert rows == sorted(rows)
        for item in scene.objects:
            wanted = f"{item.size} {item.texture} {item.colour} {item.shape} "
            parts = scene_words(scene).split("; ")
            assert any(part.startswith(wanted) and (not item.text or part.endswith(item.text)) for part in parts)


def test_colours_are_answered_from_the_words() -> None:
    checked = 0
    for seed in range(60):
        scene = sample_scene(seed, "train")
        for row in [*scene_word_rows(scene, seeded(seed, "a")), *brief_word_rows(scene, seeded(seed, "b"))]:
            words, *lines = text(row).split("\n")
            for ask, answer in (line.split("? ") for line in lines if "? " in line):
                if match := re.fullmatch(r"What colour (?:is|are) the (\w+?)", ask):
                    shape = match[1]
                    known = [word for word in re.split(r"[;,]", words) if shape.rstrip("s").rstrip("e") in word]
                    if shape != "background" and known:
                        assert any(answer in part for part in known), (words, ask, answer)
                        checked += 1
    assert checked > 40


def test_brief_words_are_told_again_the_other_way_round() -> None:
    for seed in range(30):
        scene = sample_scene(seed, "train")
        rows = brief_word_rows(scene, seeded(seed, "a"))
        if scene.chart is not None:
            assert rows == []
            continue
        told, again = text(rows[0]).split("; ")
        assert sorted(told.split(", ")) == sorted(" ".join(reversed(pair.split())) for pair in again.split(", "))


def test_numbers_are_those_of_the_words_before_them() -> None:
    answers: Counter[str] = Counter()
    for seed in range(60):
        scene = sample_scene(seed)
        row = count_word_row(scene, seeded(seed, "a"))
        assert (row is None) == (scene.chart is not None)
        if row is None:
            continue
        words, *lines = text(row).split("\n")
        told = [word for pair in words.split(", ") for word in (*pair.split(), f"{pair.split()[0]} objects", "objects")]
        for ask, answer in (line.removeprefix("How many ").split(" are there? ") for line in lines):
            shapes = [shape for shape in SHAPES if plural(shape) == ask]
            assert answer == str(told.count(shapes[0] if shapes else ask))
            answers[answer] += 1
    assert answers["0"] > 60
    assert answers["2"] > 10


def test_a_clip_is_told_frame_by_frame() -> None:
    for seed in range(20):
        clip = sample_clip(seed, "train", num_frames=32)
        lines = clip_words(clip, boxed=0).split("\n")
        assert [line.split(":")[0] for line in lines] == [str(number) for number in range(NUM_TOLD_FRAMES)]
        visible = sum(item.opacity >= 0.3 for item in scene_at(clip, 0).objects)
        assert lines[0].count(",") == max(0, visible - 1)
        assert all(line.count("boxed") <= 1 for line in lines)
        assert any("boxed" in line for line in lines)
        acts = {part.split()[-1] for line in lines for part in line.split(", ")}
        assert "still" in acts
        assert len(acts) > 1


def test_boxes_are_read_with_the_places_of_their_middles() -> None:
    asked = 0
    for seed in range(20):
        scene = sample_scene(seed, "train")
        anywhere, *others = [text(row) for row in box_word_rows(scene, render(scene, 64), seeded(seed, "a"))]
        for part in anywhere.split("; "):
            box, column, row = part.split()
            left, top, right, bottom = (int(side) / 1000 for side in box.strip("[]").split(","))
            assert abs((left + right) / 2 - (COLUMNS.index(column) + 0.5) / 8) < 0.065
            assert abs((top + bottom) / 2 - (ROWS.index(row) + 0.5) / 8) < 0.065
        for other in others:
            assert other.startswith(scene_words(scene))
            assert REGION_PROMPT[:20] in other or "after its box" in other
            assert "<|bbox" not in other
            asked += 1
    assert asked > 20


def test_clips_are_asked_about_their_words() -> None:
    readings = [text(row) for seed in range(5) for row in clip_word_rows(sample_clip(seed, "train"), seeded(seed, "a"))]
    assert any("List the events in order. " in reading for reading in readings)
    assert any("red rectangle" in reading and "boxed" in reading for reading in readings)
    assert not any("<video>" in reading or "<image>" in reading for reading in readings)


def test_the_same_seed_tells_the_same() -> None:
    scene, clip = sample_scene(3, "train"), sample_clip(3, "train")
    assert scene_word_rows(scene, seeded(1, "a")) == scene_word_rows(scene, seeded(1, "a"))
    assert clip_word_rows(clip, seeded(1, "a")) == clip_word_rows(clip, seeded(1, "a"))
