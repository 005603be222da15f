"""The world in words: true, readable, and answered by what the words say."""

from __future__ import annotations

import re

from perceptic.world import sample_clip, sample_scene
from perceptic.world.clip import scene_at
from perceptic.world.plm_rows import Row
from perceptic.world.randomness import seeded
from perceptic.world.words import (
    NUM_TOLD_FRAMES,
    brief_word_rows,
    clip_word_rows,
    clip_words,
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
        told = [part for part in scene_words(scene).split("; ") if re.search(r" \d \d( says .+)?$", part)]
        assert len(told) == len(scene.objects)
        rows = [int(re.search(r"(\d) (\d)", part)[2]) for part in told]  # type: ignore[index]
        assert rows == sorted(rows)
        for item in scene.objects:
            wanted = f"{item.size} {item.texture} {item.colour} {item.shape} "
            assert any(part.startswith(wanted) and (not item.text or part.endswith(item.text)) for part in told)


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


def test_a_clip_is_told_frame_by_frame() -> None:
    for seed in range(20):
        clip = sample_clip(seed, "train", num_frames=32)
        lines = clip_words(clip, boxed=0).split("\n")
        assert [line.split(":")[0] for line in lines] == [str(number) for number in range(NUM_TOLD_FRAMES)]
        visible = sum(item.opacity >= 0.3 for item in scene_at(clip, 0).objects)
        assert lines[0].count(",") == max(0, visible - 1)
        assert all(line.count("boxed") <= 1 for line in lines)
        assert any("boxed" in line for line in lines)


def test_clips_are_asked_about_their_words() -> None:
    readings = [text(row) for seed in range(5) for row in clip_word_rows(sample_clip(seed, "train"), seeded(seed, "a"))]
    assert any("List the events in order. " in reading for reading in readings)
    assert any("red rectangle" in reading and "boxed" in reading for reading in readings)
    assert not any("<video>" in reading or "<image>" in reading for reading in readings)


def test_the_same_seed_tells_the_same() -> None:
    scene, clip = sample_scene(3, "train"), sample_clip(3, "train")
    assert scene_word_rows(scene, seeded(1, "a")) == scene_word_rows(scene, seeded(1, "a"))
    assert clip_word_rows(clip, seeded(1, "a")) == clip_word_rows(clip, seeded(1, "a"))
