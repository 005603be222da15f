"""Answers are checked against the scene by other means than those that made them."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise

from perceptic.world import (
    COLOURS,
    EVENT_KINDS,
    HELDOUT_PAIRS,
    SHAPES,
    Question,
    Scene,
    holds,
    location,
    questions,
    sample_clip,
    sample_scene,
    scene_at,
)

SEEDS = range(250)
PAIR = re.compile(rf"({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})(?:es|s)?\b")
RELATION = re.compile(r"to the (?:left|right) of|above|below|in front of|behind|inside|around")


def matching(scene: Scene, words: str) -> list[object]:
    """Objects that fit every colour and shape word in `words`."""
    colours = [colour for colour in COLOURS if re.search(rf"\b{colour}\b", words)]
    shapes = [shape for shape in SHAPES if re.search(rf"\b{shape}(?:es|s)?\b", words)]
    return [item for item in scene.objects if item.colour in (colours or COLOURS) and item.shape in (shapes or SHAPES)]


def check(scene: Scene, question: Question) -> bool:
    """Whether the answer is the right one."""
    text, answer = question.question, question.answer
    found = matching(scene, text)
    if question.kind == "existence":
        return (answer == "yes") == bool(found)
    if question.kind in ("colour", "shape", "size", "texture"):
        return {getattr(item, question.kind) for item in found} == {answer}
    if question.kind == "count":
        return int(answer) == len(found)
    if question.kind == "location":
        return [location(item) for item in found] == [answer]  # type: ignore[arg-type]
    if question.kind == "background":
        return scene.background.colour == answer and scene.background.pattern == "plain"
    if question.kind == "reading":
        return answer in scene.texts and (not text.startswith("What word is written") or answer == scene.sign.text)  # type: ignore[union-attr]
    assert question.kind == "relation"
    return _check_relation(scene, text, answer)


def _check_relation(scene: Scene, text: str, answer: str) -> bool:
    first, second = (
        next(item for item in scene.objects if (item.colour, item.shape) == match.groups())
        for match in PAIR.finditer(text)
    )
    asked = [relation.group().removeprefix("to the ") for relation in RELATION.finditer(text)]
    if answer in ("yes", "no"):
        return (answer == "yes") == holds(first, asked[0], second)  # type: ignore[arg-type]
    return [relation for relation in asked if holds(first, relation, second)] == [answer]  # type: ignore[arg-type]


def test_scene_answers_are_right() -> None:
    kinds: Counter[str] = Counter()
    for split in ("train", "heldout_pairs", "heldout_words"):
        for seed in SEEDS:
            scene = sample_scene(seed, split)
            if scene.chart is None:
                for question in questions(scene, seed):
                    kinds[question.kind] += 1
                    assert check(scene, question), (split, seed, question)
                    assert not question.choices or question.answer in question.choices
    assert set(kinds) == {
        "existence", "colour", "shape", "size", "texture", "count", "relation", "location", "reading", "background",
    }  # fmt: skip


def test_chart_answers_are_right() -> None:
    for seed in range(200):
        chart = sample_scene(seed, layout="chart").chart
        assert chart is not None
        values = dict(zip(chart.labels, chart.values, strict=False))
        for question in questions(sample_scene(seed, layout="chart"), seed):
            text, answer = question.question, question.answer
            named = [label for label in chart.labels if f"the {label} " in text]
            if chart.kind != "line" and question.kind == "chart_value":
                assert int(answer.split()[0]) == values[named[0]]
            elif "Which" in text:
                extreme = max if ("highest" in text or "largest" in text) else min
                assert values[answer] == extreme(chart.values)
            elif "than" in text:
                first, second = sorted(named, key=text.index)
                assert (answer == "yes") == (values[first] > values[second])
            elif question.kind == "chart_count":
                assert int(answer) == len(chart.values)
            elif question.kind == "chart_value":
                wanted = {"highest": max(chart.values), "lowest": min(chart.values)}
                wanted |= {"first": chart.values[0], "last": chart.values[-1]}
                assert int(answer) == wanted[text.split()[3]]
            elif question.kind == "chart_trend":
                rise = chart.values[-1] - chart.values[0]
                assert answer == ("rises" if rise > 0 else "falls" if rise < 0 else "ends where it starts")


def test_clip_answers_are_right() -> None:
    kinds: Counter[str] = Counter()
    for seed in SEEDS:
        clip = sample_clip(seed)
        last = scene_at(clip, clip.num_frames - 1).objects
        for question in questions(clip, seed):
            kinds[question.kind] += 1
            assert not question.choices or question.answer in question.choices
            own = [event for event in clip.events if event.object_index == question.object_index]
            if question.kind == "motion_direction":
                verb = "moves" if "move?" in question.question else "turns"
                assert [e.kind for e in own if e.kind.startswith(verb)] == [f"{verb} {question.answer}"]
            elif question.kind == "event_kind":
                assert [event.kind for event in own] == [question.answer]
            elif question.kind == "event_interval":
                start, end = map(float, question.answer.strip("[]").split(", "))
                assert any(
                    abs(start - clip.start_seconds(e)) <= 0.051 and abs(end - clip.end_seconds(e)) <= 0.051 for e in own
                )
            elif question.kind == "final_state" and "colour" in question.question:
                assert last[question.object_index or 0].colour == question.answer
            elif question.kind == "final_state":
                assert last[question.object_index or 0].size == question.answer
            elif question.kind == "stillness":
                assert not own
    assert set(kinds) == {
        "motion_direction", "event_kind", "event_actor", "event_order", "event_interval", "final_state", "stillness",
    }  # fmt: skip


def test_order_answers_follow_the_events() -> None:
    checked = 0
    for seed in range(400):
        clip = sample_clip(seed, num_objects=1, kinds=tuple(k for k in EVENT_KINDS if k.startswith(("moves", "turns"))))
        told = [event.kind for event in clip.events]
        for question in questions(clip, seed):
            if question.kind == "event_order" and len(set(told)) == len(told):
                checked += 1
                answer = re.sub(r"^the \w+ ", "", question.answer)
                if "right after" in question.question:
                    before = re.search(r"after the \w+ (.*)\?", question.question)
                    assert before is not None
                    assert (before[1], answer) in set(pairwise(told))
                else:
                    options = [re.sub(r"^the \w+ ", "", choice) for choice in question.choices]
                    ordered = sorted(options, key=told.index)
                    assert answer == ordered[0 if "first" in question.question else -1]
    assert checked > 200


def test_yes_and_no_are_balanced() -> None:
    answers = Counter(
        (question.kind, question.answer)
        for seed in range(600)
        for question in questions(sample_scene(seed), seed)
        if question.answer in ("yes", "no")
    )
    for kind in ("existence", "relation"):
        assert 0.85 < answers[kind, "yes"] / answers[kind, "no"] < 1.18


def test_training_questions_never_name_what_is_held_out() -> None:
    for seed in range(500):
        for question in questions(sample_scene(seed), seed):
            assert not set(PAIR.findall(f"{question.question} {question.answer}")) & HELDOUT_PAIRS


def test_limits_keep_kinds_mixed() -> None:
    for seed in range(60):
        scene = sample_scene(seed, layout="objects", num_objects=3)
        few = questions(scene, seed, limit=6)
        assert len({question.kind for question in few}) == len(few) == 6
        assert questions(scene, seed)[:6] == few
