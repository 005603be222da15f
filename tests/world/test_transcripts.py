"""Rows that ask for everything at once: what they write down is there."""

from __future__ import annotations

from collections import Counter

from perceptic.world import render, sample_scene
from perceptic.world.places import place_words
from perceptic.world.plm_rows import turns_of
from perceptic.world.randomness import seeded
from perceptic.world.transcripts import image_places_row, image_transcript_row


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
    assert image_places_row("a.png", chart, render(chart, 64), seeded(1, "test")) is None


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
        if "bbox" in row or turns[0][0].endswith("in which column and row?"):
            said = [named(part) for part in turns[0][1].split(", ")]
        elif "Which object" in turns[0][0]:
            said = [(name, ask.rsplit("is in ", 1)[-1].rstrip("?")) for ask, name in turns]
        else:
            said = [(ask.rsplit("the ", 1)[-1].rstrip("?"), place) for ask, place in turns]
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
