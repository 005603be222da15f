"""POPE and MME."""

from __future__ import annotations

import math
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perceptic.errors import ConfigError, DataError
from perceptic.metrics import mme_scores, parse_mme, parse_pope, yes_no_scores

FEW = settings(max_examples=60, deadline=None)


@pytest.mark.parametrize(
    ("text", "compatible", "clean"),
    [
        ("yes", True, True),
        (" No\n", False, False),
        ("Yes.", None, True),
        ("yes, there is", None, True),
        ("The answer is: no.", None, False),
        ("Answer: yes", None, True),
        ("N/A", None, None),
        ("nothing", None, None),
        ("maybe", None, None),
        ("", None, None),
    ],
)
def test_answers_to_pope(text: str, compatible: bool | None, clean: bool | None) -> None:
    assert parse_pope(text) is compatible
    assert parse_pope(text, "clean") is clean


@pytest.mark.parametrize(
    ("text", "compatible", "clean"),
    [
        ("Yes.", True, True),
        ("y", True, True),
        ("N.", False, False),
        ("yes, it is", True, True),
        ("No, it is not", False, False),
        ("not sure", False, None),
        ("note", False, None),
        ("The answer is yes", None, True),
        ("I am unsure", None, None),
        ("", None, None),
    ],
)
def test_answers_to_mme(text: str, compatible: bool | None, clean: bool | None) -> None:
    assert parse_mme(text) is compatible
    assert parse_mme(text, "clean") is clean


def test_the_spec_s_example_of_pope() -> None:
    targets = [True, True, False, False, True, False, True]
    answers = [parse_pope(text) for text in ("yes", "no", "yes", "no", "yes, there is", "no", "yes")]
    scores = yes_no_scores(answers, targets)
    assert scores.accuracy == pytest.approx(0.571429, abs=1e-6)
    assert [scores.precision, scores.recall, scores.f1] == pytest.approx([0.666667] * 3, abs=1e-6)
    assert scores.target_yes_ratio == pytest.approx(4 / 7)
    assert scores.yes_ratio == pytest.approx(3 / 7)
    assert scores.num_unparsed == 1
    clean = yes_no_scores(answers, targets, "clean")
    assert (clean.precision, clean.recall) == pytest.approx((2 / 3, 1 / 2))


@FEW
@given(st.lists(st.tuples(st.sampled_from([True, False, None]), st.booleans()), min_size=1), st.booleans())
def test_pope_agrees_with_plain_counting(pairs: list[tuple[bool | None, bool]], is_clean: bool) -> None:
    answers, targets = (list(column) for column in zip(*pairs, strict=True))
    scores = yes_no_scores(answers, targets, "clean" if is_clean else "compatible")
    true_yes = pairs.count((True, True))
    said, true = sum(answer is True for answer, _ in pairs), pairs.count((False, True)) + true_yes
    true += pairs.count((None, True)) if is_clean else 0
    assert scores.accuracy == pytest.approx(sum(answer is target for answer, target in pairs) / len(pairs))
    assert scores.precision == pytest.approx(true_yes / said if said else math.nan, nan_ok=True)
    assert scores.recall == pytest.approx(true_yes / true if true else math.nan, nan_ok=True)
    assert scores.f1 == pytest.approx(2 * true_yes / (said + true) if said + true else math.nan, nan_ok=True)
    backwards = yes_no_scores(answers[::-1], targets[::-1], "clean" if is_clean else "compatible")
    assert astuple(scores) == pytest.approx(astuple(backwards), nan_ok=True)


def test_one_class_and_perfection() -> None:
    always_no = yes_no_scores([False, False], [True, False])
    assert (always_no.f1, always_no.recall, always_no.accuracy) == (0.0, 0.0, 0.5)
    assert math.isnan(always_no.precision)
    nobody = yes_no_scores([False, False], [False, False])
    assert nobody.accuracy == 1.0
    assert math.isnan(nobody.f1), "nothing is yes, said or true"
    perfect = yes_no_scores([True, False], [True, False])
    assert (perfect.accuracy, perfect.precision, perfect.recall, perfect.f1) == (1, 1, 1, 1)


def test_pope_of_shuffled_labels_is_at_chance() -> None:
    rng = np.random.default_rng(0)
    targets = rng.random(4000) < 0.5
    scores = yes_no_scores(targets.tolist(), rng.permutation(targets))
    assert [scores.accuracy, scores.precision, scores.recall, scores.f1] == pytest.approx([0.5] * 4, abs=0.03)


def test_what_has_no_pope_score() -> None:
    with pytest.raises(DataError, match="at least one of questions"):
        yes_no_scores([], [])
    with pytest.raises(DataError, match="1 answers, 2 targets"):
        yes_no_scores([True], [True, False])
    with pytest.raises(DataError, match="parse_pope reads texts"):
        yes_no_scores(["yes"], [True])  # type: ignore[list-item]
    with pytest.raises(DataError, match="0 and 1"):
        yes_no_scores([True], [math.nan])
    with pytest.raises(ConfigError, match="mode must be one of compatible, clean"):
        yes_no_scores([True], [True], "strict")  # type: ignore[arg-type]


def test_the_spec_s_example_of_mme() -> None:
    categories = ["existence"] * 4 + ["count"] * 4
    images = ["a", "a", "b", "b"] * 2
    scores = mme_scores(categories, images, [1, 1, 1, 0, 0, 0, 1, 1])
    assert {name: part.score for name, part in scores.categories.items()} == {"existence": 125, "count": 100}
    assert scores.categories["existence"].num_images == 2
    assert (scores.perception, scores.cognition, scores.total) == (225, 0, 225)


def test_categories_go_to_their_half() -> None:
    scores = mme_scores(["OCR", "OCR", "code_reasoning", "code_reasoning", "world", "world"], list("aabbcc"), [1] * 6)
    assert (scores.perception, scores.cognition, scores.total) == (200, 200, 600)


@FEW
@given(st.lists(st.tuples(st.sampled_from("xyz"), st.booleans(), st.booleans()), min_size=1), st.integers(0, 99))
def test_mme_agrees_with_plain_counting_in_any_order(rows: list[tuple[str, bool, bool]], seed: int) -> None:
    questions = [(name, number, right) for number, (name, *both) in enumerate(rows) for right in both]
    order = np.random.default_rng(seed).permutation(len(questions))
    categories, images, correct = zip(*(questions[place] for place in order), strict=True)
    scores = mme_scores(categories, images, correct)
    for name, part in scores.categories.items():
        pairs = [both for other, *both in rows if other == name]
        wanted = 100 * sum(sum(pair) / 2 + all(pair) for pair in pairs) / len(pairs)
        assert part.score == pytest.approx(wanted)
        assert 0 <= part.accuracy_plus <= part.accuracy <= 1


def test_what_has_no_mme_score() -> None:
    with pytest.raises(DataError, match=r"two questions for each, .*'b'.* has 1"):
        mme_scores(["count"] * 3, ["a", "a", "b"], [1, 1, 1])
    with pytest.raises(DataError, match="at least one of questions"):
        mme_scores([], [], [])
