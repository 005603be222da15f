"""The world's exam: a model that knows everything is right everywhere, one that does not look is at chance."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from perceptic.errors import ConfigError
from perceptic.inference.sampling import GenerationOptions
from perceptic.tasks.assistant import Assistant
from perceptic.tasks.messages import ChatMessage
from perceptic.tasks.seeing import Seeing
from perceptic.tasks.world_exam import SCORES, ExamScore, chance_of, take_world_exam
from perceptic.tasks.world_exam_items import SECTIONS, ExamWorld

PICTURES = ("existence", "colour", "shape", "count", "size", "texture", "location", "ocr", "chart", "boxed_name")
CLIPS = ("motion_direction", "event_order", "rtloc", "rcap", "rdcap")
FEW = 8


class Examinee:
    """Answers by what `know` makes of a question and the bytes of the picture."""

    def __init__(self, know: Any) -> None:
        self.know = know
        self.options: list[GenerationOptions] = []

    def generate_many(
        self, conversations: Sequence[Sequence[ChatMessage]], *, seeing: Seeing, options: GenerationOptions, **_: Any
    ) -> list[Any]:
        self.options.append(options)
        parts = [message.parts for (message,) in conversations]
        return [SimpleNamespace(text=self.know(question, part.source)) for part, question in parts]


def exam(know: Any, sections: Sequence[str], **settings: Any) -> list[ExamScore]:
    return take_world_exam(cast(Assistant, Examinee(know)), num_items=FEW, sections=sections, **settings)


def answers_of(name: str, seed: int = 0) -> dict[tuple[str, bytes], str]:
    items = SECTIONS[name].items(ExamWorld(), FEW, seed)
    return {(item.question, cast(bytes, item.part.source)): item.wanted for item in items}


@pytest.mark.parametrize("name", [*PICTURES, *CLIPS])
def test_one_who_knows_is_right_and_falls_when_pictures_are_exchanged(name: str) -> None:
    known = answers_of(name)
    (score,) = exam(lambda question, source: known.get((question, source), "I cannot see it."), [name])
    assert len(score.answers) == FEW
    assert score.mean == pytest.approx(1.0, abs=1e-6)
    assert score.shuffled_mean == pytest.approx(0.0, abs=0.35)
    assert 0 < score.chance < 0.75


@pytest.mark.parametrize("name", ["caption", "clip_caption"])
def test_a_caption_of_another_picture_is_worth_what_guessing_is(name: str) -> None:
    known = answers_of(name)
    (score,) = exam(lambda question, source: known[question, source], [name])
    assert score.mean == pytest.approx(1.0, abs=1e-6)
    assert score.shuffled_mean == pytest.approx(score.chance)
    assert score.chance < 0.7


def test_one_who_does_not_look_is_at_chance_with_any_picture() -> None:
    (score,) = take_world_exam(
        cast(Assistant, Examinee(lambda question, source: "yes")), num_items=60, sections=["existence"]
    )
    assert score.scores == score.shuffled_scores
    assert score.mean <= score.chance


def test_every_section_holds_what_it_says() -> None:
    source = ExamWorld()
    counts = [item.wanted for item in SECTIONS["count"].items(source, 40, 0)]
    assert set(counts) <= {"0", "1", "2", "3", "4"}
    assert len(set(counts)) >= 3
    moves = SECTIONS["motion_direction"].items(source, 12, 0)
    assert {item.wanted for item in moves} <= {"left", "right", "up", "down"}
    for item in SECTIONS["rtloc"].items(source, 4, 0):
        assert item.wanted.startswith("[")
        assert "32 frame video" in item.question
        assert item.part.boxes
    for item in SECTIONS["boxed_name"].items(source, 4, 0):
        assert "<|bbox" not in item.question
        assert "<image>" not in item.question


def test_items_depend_on_seed_and_split_alone() -> None:
    def questions(name: str, seed: int, split: str = "validation") -> list[tuple[str, Any]]:
        return [(item.question, item.part.source) for item in SECTIONS[name].items(ExamWorld(split), 5, seed)]

    assert questions("ocr", 0) == questions("ocr", 0)
    assert not set(questions("ocr", 0)) & set(questions("ocr", 1))
    assert not set(questions("colour", 0)) & set(questions("colour", 0, "train"))


@pytest.mark.parametrize(
    ("kind", "given", "wanted", "score"),
    [
        ("exact", "Yes.", "yes", 1.0),
        ("exact", "yes, there is", "yes", 0.0),
        ("exact", "0 c four, 7 f four: right", "right", 1.0),
        ("exact", "0 c four, 7 f four: left", "right", 0.0),
        ("names", "A small shaded pink ring.", "A pink ring.", 1.0),
        ("names", "A ring and a pink star.", "A pink star.", 0.0),
        ("names", "c two white circle, small", "A tiny white disc.", 1.0),
        ("names", "A red lightning bolt.", "A red bolt.", 1.0),
        ("names", "A white drop.", "A tiny white disc.", 0.0),
        ("names", "Nothing.", "A pink ring.", 0.0),
        ("stretch", "[3, 10]", "[3, 10]", 1.0),
        ("stretch", "no idea", "[3, 10]", 0.0),
        ("stretch", "[0, 10]", "[5, 10]", 0.25),
        ("words", "The star grows.", "The star shrinks.", 2 / 3),
        ("events", "Frame [0, 10]: a b", "Frame [0, 10]: a b\nFrame [10, 31]: c", 2 / 3),
        ("events", "nothing", "Frame [0, 10]: a b", 0.0),
    ],
)
def test_readings(kind: str, given: str, wanted: str, score: float) -> None:
    assert SCORES[kind](given, wanted) == pytest.approx(score, abs=1e-6)


def test_chance_is_the_best_constant_answer() -> None:
    section, items = SECTIONS["existence"], SECTIONS["existence"].items(ExamWorld(), 30, 0)
    share_of_yes = sum(item.wanted == "yes" for item in items) / 30
    assert chance_of(section, items) == max(share_of_yes, 1 - share_of_yes)


def test_without_the_control_and_what_is_refused() -> None:
    (score,) = exam(lambda question, source: "no", ["existence"], shuffled=False)
    assert score.shuffled_scores is None
    assert score.shuffled_mean is None
    with pytest.raises(ConfigError, match="section 'smell' does not exist; choose among existence"):
        exam(str, ["smell"])
    with pytest.raises(ConfigError, match="at least 2"):
        take_world_exam(cast(Assistant, Examinee(str)), num_items=1)


def test_a_real_model_takes_it(assistant: Assistant) -> None:
    seen: list[str] = []
    scores = take_world_exam(
        assistant, num_items=2, sections=["colour", "motion_direction"], on_section=lambda one: seen.append(one.section)
    )
    assert seen == ["colour", "motion_direction"]
    assert all(0 <= score.mean <= 1 for score in scores)
