"""Rows that ask for everything at once: what they write down is there."""

from __future__ import annotations

import re

from perceptic.world import render, render_clip_annotated, sample_clip, sample_scene
from perceptic.world.plm_rows import turns_of
from perceptic.world.randomness import seeded
from perceptic.world.transcripts import image_boxes_row, image_transcript_row, video_transcript_row


def test_a_transcript_names_every_object_of_a_picture() -> None:
    for seed in range(40):
        scene = sample_scene(seed, num_objects=3, text_fraction=0.0)
        ((_, told),) = turns_of(image_transcript_row("a.png", scene)["conversations"])
        named = [part.rsplit(" ", 2)[0] for part in told.split("; ")[: len(scene.objects)]]
        assert sorted(named) == sorted(
            f"{item.size} {item.texture} {item.colour} {item.shape}" for item in scene.objects
        )


def test_charts_have_no_objects_to_write_down() -> None:
    chart = sample_scene(1, layout="chart")
    assert image_transcript_row("a.png", chart) is None
    assert image_boxes_row("a.png", chart, render(chart, 64), seeded(1, "test")) is None


def test_boxes_are_those_of_the_named_objects_in_both_orders() -> None:
    orders = set()
    for seed in range(40):
        scene = sample_scene(seed, num_objects=3)
        rendered = render(scene, 64)
        row = image_boxes_row("a.png", scene, rendered, seeded(seed, "test"))
        if row is None:
            continue
        ((_, told),) = turns_of(row["conversations"])
        orders.add(told.startswith("<|bbox0|>"))
        for part in told.split(", "):
            (number,) = re.findall(r"<\|bbox(\d)\|>", part)
            words = part.replace(f"<|bbox{number}|>", "").split()
            colour, shape = (word for word in words if not word.isdigit())
            (index,) = [n for n, item in enumerate(scene.objects) if (item.colour, item.shape) == (colour, shape)]
            item = scene.objects[index]
            assert [word for word in words if word.isdigit()] == [str(int(item.x * 8)), str(int(item.y * 8))]
            box = rendered.boxes[index]
            assert box is not None
            assert list(box.xywh) == row["bbox"][int(number)]
    assert orders == {True, False}


def test_a_clip_is_written_frame_by_frame_and_marks_the_boxed_object() -> None:
    boxed = 0
    for seed in range(20):
        clip = sample_clip(seed, num_frames=32)
        row = video_transcript_row("a.mp4", clip, render_clip_annotated(clip, 64), seeded(seed, "test"))
        ((ask, told),) = turns_of(row["conversations"])
        assert [line.split(":")[0] for line in told.splitlines()] == [str(frame) for frame in range(8)]
        assert ("boxed" in told) == ("bbox_map" in row) == ("red rectangle" in ask)
        boxed += "bbox_map" in row
    assert 0 < boxed < 20
