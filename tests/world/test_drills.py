"""Rows that ask much about little: what they ask is true, and times count as the prompt says."""

from __future__ import annotations

import re
from collections import Counter

from perceptic.world import render, render_clip_annotated, sample_clip, sample_scene
from perceptic.world.drills import (
    CLIP_QUESTIONS,
    IMAGE_QUESTIONS,
    event_listing_row,
    existence_row,
    frame_in,
    image_counts_row,
    image_drill_row,
    label_row,
    listing_row,
    region_drill_rows,
    tube_row,
    video_drill_row,
    video_locate_row,
    whole_story,
)
from perceptic.world.places import place_words
from perceptic.world.plm_rows import Row
from perceptic.world.randomness import seeded
from perceptic.world.wording import plural

SPAN = re.compile(r"\[(\d+), (\d+)\]")


def pairs(row: Row | None) -> list[tuple[str, str]]:
    assert row is not None
    said = [turn["value"] for turn in row["conversations"]]
    return list(zip(said[::2], said[1::2], strict=True))


def test_existence_is_asked_most_and_answered_both_ways() -> None:
    answers = []
    for seed in range(60):
        scene = sample_scene(seed, num_objects=3)
        asked = pairs(existence_row("a.png", scene, seeded(seed, "test")))
        questions = [question.removeprefix("<image>\n") for question, _ in asked]
        assert len(set(questions)) == len(questions)
        answers += [answer for question, answer in asked if "Is there a" in question]
    assert len(answers) > 120
    assert 0.3 < answers.count("yes") / len(answers) < 0.7


def test_no_answer_stands_in_an_earlier_question() -> None:
    for seed in range(60):
        row = image_drill_row("a.png", sample_scene(seed, num_objects=3), seeded(seed, "test"))
        asked = pairs(row)
        assert 1 <= len(asked) <= IMAGE_QUESTIONS
        naming = [
            place for place, (question, _) in enumerate(asked) if re.search("What (colour|shape) (is|are)", question)
        ]
        naming = [place for place in naming if "background" not in asked[place][0]]
        named = [place for place, (question, _) in enumerate(asked) if question.startswith(("What size", "Where"))]
        assert not naming or not named or max(naming) < min(named)


def test_labels_are_of_pictures_of_one_object() -> None:
    assert label_row("a.png", sample_scene(1, num_objects=2), seeded(1, "test")) is None
    scene = sample_scene(1, num_objects=1)
    answers = dict(pairs(label_row("a.png", scene, seeded(1, "test"))))
    assert scene.objects[0].shape in answers.values()
    assert scene.objects[0].colour in answers.values()


def test_regions_have_a_box_for_every_marker() -> None:
    for seed in range(30):
        scene = sample_scene(seed)
        for row in region_drill_rows("a.png", scene, render(scene, 64), seeded(seed, "test")):
            markers = set(re.findall(r"<\|bbox(\d+)\|>", str(row["conversations"])))
            assert markers == {str(number) for number in range(len(row["bbox"]))}


def test_a_box_is_described_by_its_place_and_what_is_there() -> None:
    told = 0
    for seed in range(30):
        scene = sample_scene(seed)
        rendered = render(scene, 64)
        for row in region_drill_rows("a.png", scene, rendered, seeded(seed, "test"))[:1]:
            for (_, answer), box in zip(pairs(row), row["bbox"], strict=True):
                boxes = [None if found is None else list(found.xywh) for found in rendered.boxes]
                item = scene.objects[boxes.index(box)]
                assert answer == f"{place_words(item)} {item.colour} {item.shape}, {item.size}"
                told += 1
    assert told > 20


def test_times_are_those_of_the_events_in_the_frames_of_the_prompt() -> None:
    for seed in range(40):
        clip = sample_clip(seed, num_frames=32)
        if video_locate_row("a.mp4", clip, seeded(seed, "test")) is None:
            continue
        for question, answer in pairs(video_locate_row("a.mp4", clip, seeded(seed, "test"))):
            total = int(re.findall(r"(\d+) frame video", question)[0])
            spans = {(frame_in(clip, e.start_frame, total), frame_in(clip, e.end_frame, total)) for e in clip.events}
            match = SPAN.fullmatch(answer)
            assert match is not None
            assert (int(match[1]), int(match[2])) in spans
            assert int(match[2]) < total


def test_a_tube_is_named_by_what_it_shows() -> None:
    for seed in range(40):
        clip = sample_clip(seed, num_frames=32)
        row = tube_row("a.mp4", clip, render_clip_annotated(clip, 64), seeded(seed, "test"))
        (_, story), *others = pairs(row)
        assert any(story.startswith(f"The {e.before.colour} {e.before.shape} ") for e in clip.events)
        assert not any("start and end frame of when" in ask for ask, _ in others)


def test_a_story_tells_all_events_of_one_object() -> None:
    clip = next(c for c in (sample_clip(s, num_objects=1, num_events=3) for s in range(50)) if len(c.events) == 3)
    story = whole_story(clip.events)
    assert story.endswith(".")
    assert story.count(f"The {clip.events[0].before.colour} ") == 1
    assert " and " in story


def test_events_are_listed_in_order() -> None:
    clip = next(c for c in map(sample_clip, range(50)) if len(c.events) == 3)
    ((_, answer),) = pairs(event_listing_row("a.mp4", clip))
    listed = answer.split(", ")
    assert [text.split(" ")[:2] for text in listed] == [[e.before.colour, e.before.shape] for e in clip.events]


def test_clips_are_asked_a_few_questions() -> None:
    for seed in range(20):
        row = video_drill_row("a.mp4", sample_clip(seed), seeded(seed, "test"))
        if row is not None:
            assert len(pairs(row)) <= CLIP_QUESTIONS


def test_lists_name_every_object_once_from_left_to_right() -> None:
    forms = set()
    for seed in range(20):
        scene = sample_scene(seed, num_objects=3)
        ((question, answer),) = pairs(listing_row("a.png", scene, seeded(seed, "test")))
        forms.add(question)
        ordered = sorted(scene.objects, key=lambda item: item.x)
        assert [set(pair.split()) for pair in answer.split(", ")] == [{item.colour, item.shape} for item in ordered]
    assert len(forms) == 2


def test_everything_is_counted_that_is_there_and_something_that_is_not() -> None:
    answers: Counter[str] = Counter()
    for seed in range(150):
        scene = sample_scene(seed)
        row = image_counts_row("a.png", scene, seeded(seed, "test"))
        assert (row is None) == (scene.chart is not None)
        told = pairs(row) if row else []
        assert len({ask for ask, _ in told}) == len(told)
        for ask, answer in told:
            asked = re.search(r"How many (.+) are there", ask)
            assert asked is not None
            things = asked.group(1)
            of = [x for x in scene.objects if things in ("objects", plural(x.shape), f"{x.colour} objects")]
            assert answer == str(len(of))
            answers[answer] += 1
    assert answers["2"] > 60
    assert answers["0"] > 100
