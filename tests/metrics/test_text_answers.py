"""ANLS, relaxed accuracy, OCRBench hits, VQA accuracy."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perceptic.errors import ConfigError, DataError
from perceptic.metrics import (
    anls_score,
    anls_scores,
    normalise_answer,
    ocrbench_hit,
    relaxed_match,
    relaxed_matches,
    token_f1,
    vqa_score,
    vqa_scores,
)
from perceptic.metrics.text_answers import edit_distance

FEW = settings(max_examples=60, deadline=None)
SHORT = st.text(alphabet="aAb .1", max_size=7)


class TestAnls:
    @pytest.mark.parametrize(
        ("references", "prediction", "score"),
        [
            (["March 4, 1998"], "march 4, 1998", 1),
            (["$1,250"], "1250", 0.666667),
            (["North Carolina"], "South Carolina", 0.857143),
            (["12.5%", "12.5"], "12.5", 1),
            (["abcd"], "abxy", 0.5),
            (["blue"], "red", 0),
            (["ITC Limited"], "ITC", 0),
            (["kitten"], "sitting", 0.571429),
            ([""], "", 1),
        ],
    )
    def test_the_spec_s_examples(self, references: list[str], prediction: str, score: float) -> None:
        assert anls_score(prediction, references) == pytest.approx(score, abs=1e-6)

    def test_lengths_are_those_of_the_text_as_it_stands(self) -> None:
        assert anls_score("ab", ["ac     "]) == pytest.approx(1 - 1 / 7)

    def test_a_set_gives_one_score_a_question(self) -> None:
        assert anls_scores(["a", "red"], [["a"], ["blue"]]).tolist() == [1.0, 0.0]

    @FEW
    @given(SHORT, SHORT)
    def test_distances_agree_with_the_recursion(self, first: str, second: str) -> None:
        @cache
        def naive(i: int, j: int) -> int:
            if not i or not j:
                return i + j
            return min(naive(i - 1, j) + 1, naive(i, j - 1) + 1, naive(i - 1, j - 1) + (first[i - 1] != second[j - 1]))

        assert edit_distance(first, second) == edit_distance(second, first) == naive(len(first), len(second))

    @FEW
    @given(st.text(max_size=9), st.lists(st.text(max_size=9), min_size=1, max_size=4))
    def test_properties(self, prediction: str, references: list[str]) -> None:
        score = anls_score(prediction, references)
        assert score == 0 or 0.5 <= score <= 1
        assert score == anls_score(prediction, references[::-1])
        assert anls_score(references[0], references) == 1

    def test_answers_of_other_questions_score_near_nothing(self) -> None:
        rng = np.random.default_rng(0)
        words = ["".join(word) for word in rng.choice(list("abcdefghijklmnopqrstuvwxyz"), (300, 8))]
        assert anls_scores(words, [[word] for word in words]).mean() == 1
        assert anls_scores(rng.permutation(words).tolist(), [[word] for word in words]).mean() < 0.02

    def test_what_has_no_score(self) -> None:
        with pytest.raises(DataError, match="at least one text, got"):
            anls_score("a", [])
        with pytest.raises(DataError, match="at least one text, got 'a'"):
            anls_score("a", "a")
        with pytest.raises(DataError, match="at least one sample"):
            anls_scores([], [])
        with pytest.raises(DataError, match="1 predictions, 2 references"):
            anls_scores(["a"], [["a"], ["b"]])


class TestRelaxedAccuracy:
    @pytest.mark.parametrize(
        ("prediction", "target", "is_correct"),
        [
            ("105", "100", True),
            ("95", "100", True),
            ("105.1", "100", False),
            ("0.5", "50%", True),
            ("50", "50%", False),
            ("1,000", "1000", False),
            ("Blue", "blue", True),
            ("0", "0", True),
            ("0.0", "0", False),
            ("2014", "2010", True),
            ("[Yes]", "Yes", False),
            (" Yes", "Yes", False),
            ("-95", "-100", True),
            ("NaN", "nan", True),
            ("inf", "5", False),
            ("%", "%", True),
            ("", "", True),
        ],
    )
    def test_the_spec_s_examples_and_corners(self, prediction: str, target: str, is_correct: bool) -> None:
        assert relaxed_match(prediction, target) is is_correct

    @FEW
    @given(st.text(max_size=8))
    def test_the_target_itself_is_right(self, text: str) -> None:
        assert relaxed_match(text, text)

    def test_sets(self) -> None:
        assert relaxed_matches(["1", "b"], ["1", "c"]).tolist() == [True, False]
        with pytest.raises(DataError, match="at least one sample"):
            relaxed_matches([], [])


class TestOcrBench:
    def test_hits(self) -> None:
        assert ocrbench_hit("The sign says STOP\nHERE.", ["stop here"])
        assert ocrbench_hit("total: １２３", ["123"])
        assert not ocrbench_hit("go", ["stop", "halt"])
        assert ocrbench_hit("x ^ 2 + 1", ["x^2+1"], is_formula=True)
        assert not ocrbench_hit("X^2", ["x^2"], is_formula=True)
        with pytest.raises(DataError, match="at least one text"):
            ocrbench_hit("a", [])


class TestVqaAccuracy:
    @pytest.mark.parametrize(("matching", "score"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (7, 1), (10, 1)])
    def test_the_spec_s_table(self, matching: int, score: float) -> None:
        answers = ["red"] * matching + [f"other {n}" for n in range(10 - matching)]
        assert vqa_score("Red.", answers) == pytest.approx(score)

    @pytest.mark.parametrize(
        ("answer", "plain"),
        [
            ("The  Dog", "dog"),
            ("two dogs", "2 dogs"),
            ("None", "0"),
            ("dont", "don't"),
            ("couldntve", "couldntve"),
            ("couldnt've", "couldn't've"),
            ("well", "well"),
            ("its", "its"),
            ("dog's bowl", "dog 's bowl"),
            ("1,000", "1000"),
            ("yes, it is?", "yes it is"),
            ("St. John", "st john"),
            ("3.5", "3.5"),
            ("black-and-white", "black and white"),
            ("black - and-white", "black andwhite"),
            ("a\tb\nan", "b"),
            ("the", ""),
        ],
    )
    def test_normalisation(self, answer: str, plain: str) -> None:
        assert normalise_answer(answer) == plain

    def test_vqav2_keeps_the_possessive_and_deletes_marks_beside_digits(self) -> None:
        assert normalise_answer("Dog's", "vqav2") == "dog's"
        assert normalise_answer("1,000", "vqav2") == "1000"
        assert normalise_answer("red,blue", "vqav2") == "red blue"
        assert normalise_answer("red,blue") == "redblue"

    @FEW
    @given(st.text(max_size=12), st.lists(st.text(max_size=6), min_size=4, max_size=12))
    def test_agrees_with_leaving_each_out(self, prediction: str, answers: list[str]) -> None:
        wanted, plain = normalise_answer(prediction), [normalise_answer(answer) for answer in answers]
        naive = [
            min(1.0, sum(other == wanted for j, other in enumerate(plain) if j != i) / 3) for i in range(len(plain))
        ]
        score = vqa_score(prediction, answers)
        assert score == pytest.approx(sum(naive) / len(naive))
        assert score == pytest.approx(vqa_score(prediction, answers[::-1]))
        assert 0 <= score <= 1

    def test_everyone_agreeing_is_one_and_answers_of_other_questions_are_nothing(self) -> None:
        answers = [[f"answer {number}"] * 10 for number in range(50)]
        said = [wanted[0] for wanted in answers]
        assert vqa_scores(said, answers).mean() == 1
        assert vqa_scores(np.roll(said, 1).tolist(), answers).mean() == 0

    def test_what_has_no_score(self) -> None:
        with pytest.raises(DataError, match="at least 4 human answers"):
            vqa_score("a", ["a"])
        with pytest.raises(DataError, match="at least 4 human answers"):
            vqa_score("a", "aaaaaaaaaa")
        with pytest.raises(DataError, match="at least one sample"):
            vqa_scores([], [])
        with pytest.raises(ConfigError, match="evalai or vqav2"):
            normalise_answer("a", "other")  # type: ignore[arg-type]


class TestTokenF1:
    @pytest.mark.parametrize(
        ("prediction", "reference", "score"),
        [
            ("The red star moves left.", "the red star moves left", 1.0),
            ("left moves star red the", "the red star moves left", 1.0),
            ("a b", "b c d", 0.4),
            ("red red red", "red", 0.5),
            ("blue", "red", 0.0),
            ("", "red", 0.0),
            ("...", "", 1.0),
        ],
    )
    def test_by_hand(self, prediction: str, reference: str, score: float) -> None:
        assert token_f1(prediction, reference) == pytest.approx(score)

    @FEW
    @given(st.text(max_size=20), st.text(max_size=20))
    def test_symmetric_and_bounded(self, first: str, second: str) -> None:
        assert 0 <= token_f1(first, second) <= 1
        assert token_f1(first, second) == token_f1(second, first)
        assert token_f1(first, first) == 1
