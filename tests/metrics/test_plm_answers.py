"""Answers and judges' replies of PLM-VideoBench, as the public harness reads them and as a careful person would."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perceptic.errors import ConfigError
from perceptic.metrics import (
    Mode,
    Stretch,
    fallback_stretch,
    judged_scores,
    parse_choice,
    parse_events,
    parse_score,
    parse_stretch,
    parse_verdict,
    soda_c,
)

FEW = settings(max_examples=200, deadline=None)
OPTIONS = ["right hand", "left hand"]
MODES: list[Mode] = ["compatible", "clean"]


class TestChoice:
    @pytest.mark.parametrize(
        "answer",
        ["(A)", "A", "a", "A.", "A)", "(A).", "(A) right hand", "Answer: A", "\n(A)", "A person walks", "Answer:A"],
    )
    def test_the_spec_s_right_answers(self, answer: str) -> None:
        assert parse_choice(answer, OPTIONS).letters == ("A",)

    @pytest.mark.parametrize(
        "answer", ["(B) left hand", "A,", "[A]", "*A*", "option A", "The answer is A", " A", "", "Answer:"]
    )
    def test_the_spec_s_wrong_answers(self, answer: str) -> None:
        assert not parse_choice(answer, OPTIONS).is_correct("A")

    @pytest.mark.parametrize("answer", ["(A)(B)", "(", "."])
    def test_the_spec_s_oddities_are_right_whatever_is(self, answer: str) -> None:
        assert parse_choice(answer, OPTIONS).letters == ("A", "B")
        clean = parse_choice(answer, OPTIONS, "clean")
        assert clean.letters == ()
        assert clean.failure

    def test_the_label_may_have_no_blank_after_it(self) -> None:
        assert parse_choice("Answer:B", OPTIONS).is_correct("B")

    @pytest.mark.parametrize(
        ("answer", "letters"),
        [
            ("(B) left hand", "B"),
            ("A,", "A"),
            ("[A]", "A"),
            ("*A*", "A"),
            ("**B**", "B"),
            ("option A", "A"),
            ("Option B is right", "B"),
            ("The answer is A", "A"),
            ("The answer is (b).", "B"),
            ("Answer: B", "B"),
            (" A", "A"),
            ("a", "A"),
            ("b.", "B"),
            ("A\nBecause it is", "A"),
            ("B: left hand", "B"),
            ("Left hand.", "B"),
            ("A person walks", ""),
            ("The answer is a person", ""),
            ("(A) or (B)", ""),
            ("(C)", ""),
            ("both hands", ""),
            ("", ""),
        ],
    )
    def test_clean_answers(self, answer: str, letters: str) -> None:
        choice = parse_choice(answer, OPTIONS, "clean")
        assert "".join(choice.letters) == letters
        assert (choice.failure is None) == bool(letters)

    def test_more_options(self) -> None:
        assert parse_choice("(D)", list("wxyz"), "clean").letters == ("D",)
        assert parse_choice("E", list("wxyz")).letters == ()

    def test_options_that_read_alike_name_nothing(self) -> None:
        assert "several" in str(parse_choice("left", ["Left", "left!"], "clean").failure)

    def test_too_few_options(self) -> None:
        with pytest.raises(ConfigError, match="2 to 26, got 1"):
            parse_choice("A", ["only"])


class TestStretch:
    @pytest.mark.parametrize(
        ("answer", "start", "end"),
        [
            ("[6, 15]", 6, 15),
            ("[15, 6]", 15, 6),
            ("[6.5, 15.0]", 6.5, 15),
            ("Frame [8, 15] shows it", 8, 15),
            ("[10,20]", 10, 20),
            ("[6, 15] or [0, 3]", 6, 15),
        ],
    )
    def test_the_spec_s_examples(self, answer: str, start: float, end: float) -> None:
        assert parse_stretch(answer).stretch == Stretch(start, end)

    @pytest.mark.parametrize("answer", ["frames 6 to 15", "(6, 15)", "[-1, 15]", "[6 , 15]", "[ 6, 15]", ""])
    def test_what_the_harness_cannot_read(self, answer: str) -> None:
        read = parse_stretch(answer)
        assert read.stretch is None
        assert read.failure

    def test_what_the_harness_puts_instead(self) -> None:
        assert fallback_stretch(60) == Stretch(70, 80)
        assert fallback_stretch(11) == Stretch(21, 31)

    @pytest.mark.parametrize(
        ("answer", "wanted"),
        [
            ("frames 6 to 15", (6, 15)),
            ("(6, 15)", (6, 15)),
            ("[6 , 15]", (6, 15)),
            ("6-15", (6, 15)),
            ("frame 6 until frame 15.", (6, 15)),
            ("[15, 6]", (6, 15)),
            ("[-1, 15]", (0, 15)),
            ("[6, 40]", (6, 31)),
            ("[6.5, 15.0]", (6.5, 15)),
            ("[6, 15] or [0, 3]", (6, 15)),
            ("[40, 50]", None),
            ("1, 2, 3", None),
            ("frame 6", None),
            ("2 and 3 people", None),
            ("", None),
        ],
    )
    def test_clean_answers(self, answer: str, wanted: tuple[float, float] | None) -> None:
        read = parse_stretch(answer, "clean")
        assert read.stretch == (None if wanted is None else Stretch(*wanted))
        assert (read.failure is None) == (wanted is not None)


class TestEvents:
    @pytest.mark.parametrize(
        ("answer", "wanted"),
        [
            (
                "Frame [0, 6]: Out of frame\nFrame [6, 15]: A man walks.",
                [(0, 6, "Out of frame"), (6, 15, "A man walks.")],
            ),
            ("[0, 6]: walks, [7,31]: sits", [(0, 6, "walks"), (7, 31, "sits")]),
            ("[0,6] - a dog [brown] runs\n[7, 31]: stops", [(0, 6, "- a dog"), (7, 31, "stops")]),
            ("[0, 6]: at 3:15 he turns", [(0, 6, "at 3 15 he turns")]),
            ("[0, 6]: a\nFrame 7 shows b", [(0, 6, "a7 shows b")]),
            ("[3, 9]", [(3, 9, "")]),
            ("[9, 3]: x", [(9, 3, "x")]),
            ("0-6: walks", []),
            ("[1.5, 6]: x", []),
            ("[ 0, 6]: x", []),
            ("[0 , 6]: x", []),
        ],
    )
    def test_the_spec_s_examples(self, answer: str, wanted: list[tuple[float, float, str]]) -> None:
        read = parse_events(answer)
        assert [(event.stretch.start, event.stretch.end, event.caption) for event in read.events] == wanted
        assert (read.failure is None) == bool(wanted)

    @pytest.mark.parametrize(
        ("answer", "wanted"),
        [
            (
                "Frame [6, 15]: A man walks.\nFrame [0, 6]: Out of frame",
                [(0, 6, "Out of frame"), (6, 15, "A man walks.")],
            ),
            ("[0, 6]: walks, [7,31]: sits", [(0, 6, "walks"), (7, 31, "sits")]),
            ("[0,6] - a dog [brown] runs\n[7, 31]: stops", [(0, 6, "a dog [brown] runs"), (7, 31, "stops")]),
            ("[0, 6]: at 3:15 he turns", [(0, 6, "at 3:15 he turns")]),
            ("[0, 6]: a\nFrame 7 shows b", [(0, 6, "a Frame 7 shows b")]),
            ("1. [0 , 6]: x\n2. (7, 9) y", [(0, 6, "x"), (7, 9, "y")]),
            ("Frames 0-6: walks\nFrames 7 to 12: sits", [(0, 6, "walks"), (7, 12, "sits")]),
            ("[9, 3]: x", [(3, 9, "x")]),
            ("[1.5, 6]: x", [(1.5, 6, "x")]),
            ("[20, 99]: x\n[40, 50]: y", [(20, 31, "x")]),
            ("Nothing happens.", []),
        ],
    )
    def test_clean_answers(self, answer: str, wanted: list[tuple[float, float, str]]) -> None:
        read = parse_events(answer, "clean")
        assert [(event.stretch.start, event.stretch.end, event.caption) for event in read.events] == wanted
        assert (read.failure is None) == bool(wanted)


class TestVerdicts:
    REPLIES = (
        ('{"pred": "yes", "score": 4}', True, True),
        ('{"pred": "no", "score": 1}', False, False),
        ("{'pred': 'yes', 'score': 4}", True, True),
        ('{"pred": "yes", "score": 4}}', True, True),
        ('{"pred": "Yes", "score": 5}', False, True),
        ("YES", False, True),
        ("not yes", True, None),
        ("", False, None),
        ('```json\n{"pred": "no"}\n```', False, False),
        ("No, the answer is not yes", True, False),
    )

    @pytest.mark.parametrize(("reply", "compatible", "clean"), REPLIES)
    def test_the_spec_s_examples(self, reply: str, compatible: bool, clean: bool | None) -> None:
        assert parse_verdict(reply).is_correct is compatible
        read = parse_verdict(reply, "clean")
        assert (read.is_correct, read.failure is None) == (bool(clean), clean is not None)

    def test_the_spec_s_accuracy(self) -> None:
        replies = [reply for reply, *_ in self.REPLIES[:7]]
        assert judged_scores([parse_verdict(reply) for reply in replies]).mean == pytest.approx(4 / 7)

    @pytest.mark.parametrize("reply", ['{"score": 4}', "[]", "3", '"yes"', "null"])
    def test_json_without_the_key_is_a_failure(self, reply: str) -> None:
        read = parse_verdict(reply)
        assert (read.is_correct, read.failure) == (False, "JSON without pred")


class TestScores:
    REPLIES = (
        ('{"score": 7, "explanation": "x"}', 0.7, 0.7),
        ('{"score": 10, "explanation": "x"}', 1.0, 1.0),
        ('```json\n{"score": 9, "explanation": "x"}\n```', None, 0.9),
        ("Score: 8", None, 0.8),
        ('{"score": 2.5, "explanation": "x"}', 0.25, 0.25),
        ('{"score": 15}', 1.5, None),
        ('{"score": "7"}', None, 0.7),
        ('{"score": NaN}', None, None),
        ('{"score": true}', None, None),
        ('{"score": null}', None, None),
        ("{'score': 4}", None, 0.4),
        ("8/10", None, 0.8),
        ("8 out of 10", None, 0.8),
        ("-3", None, None),
        ("The two captions agree", None, None),
        ("", None, None),
        ("[7]", None, None),
    )

    @pytest.mark.parametrize(("reply", "compatible", "clean"), REPLIES)
    @pytest.mark.parametrize("mode", MODES)
    def test_replies(self, reply: str, compatible: float | None, clean: float | None, mode: Mode) -> None:
        wanted = compatible if mode == "compatible" else clean
        read = parse_score(reply, mode)
        assert (read.score, read.failure is None) == (pytest.approx(wanted or 0.0), wanted is not None)

    def test_the_spec_s_mean_and_success_rate(self) -> None:
        scores = judged_scores([parse_score(reply, needs_explanation=True) for reply, *_ in self.REPLIES[:5]])
        assert scores.scores.tolist() == pytest.approx([0.7, 1.0, 0, 0, 0.25])
        assert (scores.mean, scores.success_rate) == (pytest.approx(0.39), pytest.approx(0.6))
        assert scores.mean_of_read == pytest.approx(1.95 / 3)

    def test_rcap_needs_an_explanation(self) -> None:
        assert parse_score('{"score": 7}').score == 0.7
        assert parse_score('{"score": 7}', needs_explanation=True).failure == "JSON without explanation"
        assert parse_score("{}", needs_explanation=True).failure == "JSON without score and explanation"


@FEW
@given(st.one_of(st.text(), st.text(alphabet="[]{}(),.:-0123456789 \nABframeyesnot'\"score", max_size=60)))
def test_whatever_a_model_writes_can_be_read_or_says_why(text: str) -> None:
    for mode in MODES:
        choice, stretch, events = parse_choice(text, OPTIONS, mode), parse_stretch(text, mode), parse_events(text, mode)
        assert (choice.failure is None) == bool(choice.letters)
        assert (stretch.failure is None) == (stretch.stretch is not None)
        assert (events.failure is None) == bool(events.events)
        verdict, score = parse_verdict(text, mode), parse_score(text, mode)
        assert verdict.failure is None or not verdict.is_correct
        assert score.failure is None or score.score == 0
        if mode == "clean":
            assert 0 <= score.score <= 1
            for event in events.events:
                assert 0 <= event.stretch.start <= event.stretch.end <= 31
    if stretch.stretch is not None:
        assert 0 <= stretch.stretch.start <= stretch.stretch.end <= 31


def test_numbers_without_end_are_read_as_nothing() -> None:
    endless = f"[{'9' * 5000}, {'9' * 5000}]: x"
    for mode in MODES:
        assert parse_stretch(endless, mode).stretch is None
        assert parse_events(endless, mode).events == ()
    assert parse_score(f'{{"score": {"9" * 400}}}').failure == "score is no number"


def test_a_mode_that_does_not_exist() -> None:
    for read in (parse_stretch, parse_events, parse_verdict, parse_score):
        with pytest.raises(ConfigError, match="mode must be one of compatible, clean, not 'loose'"):
            read("", "loose")  # type: ignore[operator]


def test_a_dense_caption_from_answer_to_score() -> None:
    read = parse_events("Frame [0, 10]: walks\nFrame [10, 31]: sits")
    stretches = [event.stretch for event in read.events]
    assert soda_c(stretches, stretches, [[1, 0], [0, 1]]).f_measure == pytest.approx(1, abs=1e-6)
