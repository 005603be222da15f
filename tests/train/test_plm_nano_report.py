"""The report of a language model: which numbers it gives, and that its page shows the mistakes."""

from __future__ import annotations

import pytest

from perceptic import world
from perceptic.media.boxes import Box
from perceptic.tasks.media_parts import MediaPart
from perceptic.tasks.world_exam import ExamAnswer, ExamScore
from perceptic.tasks.world_exam_items import ExamItem, ExamWorld
from perceptic.train import plm_nano_report
from perceptic.train.plm_nano_page import mistakes_page
from perceptic.train.plm_nano_report import PlmReport, plm_report


@pytest.fixture(scope="module")
def source() -> ExamWorld:
    return ExamWorld()


def score(section: str, part: MediaPart, points: tuple[float, ...], shuffled: float | None = None) -> ExamScore:
    answers = [
        ExamAnswer(ExamItem(part, f"asked <{n}>?", "wanted"), f"given {n}", value, None, shuffled)
        for n, value in enumerate(points)
    ]
    return ExamScore(section, tuple(answers), 0.25)


@pytest.fixture(scope="module")
def picture(source: ExamWorld) -> MediaPart:
    return source.picture(source.scene(1), "scene-1")


@pytest.fixture(scope="module")
def clip(source: ExamWorld) -> MediaPart:
    part = source.video(source.clip(1), "clip-1")
    return MediaPart("video", part.source, part.name, boxes={frame: Box(8, 8, 40, 40) for frame in range(32)})


def test_every_section_is_measured_and_controls_come_last(picture: MediaPart, clip: MediaPart) -> None:
    seen = (score("colour", picture, (1.0, 0.0, 1.0, 1.0), 0.0), score("rtloc", clip, (0.5, 0.25), 0.25))
    measures = PlmReport(seen, (score("colour", picture, (1.0, 0.0)),)).measures
    assert [(m.name, m.value, m.chance, m.aim) for m in measures] == [
        ("colour", 75.0, 25.0, 85.0),
        ("RTLoc, mean recall", 37.5, 25.0, 50.0),
        ("colour, unseen pairs", 50.0, 25.0, None),
        ("colour, another's picture (control)", 0.0, 25.0, None),
        ("RTLoc, mean recall, another's picture (control)", 25.0, 25.0, None),
    ]


def test_the_page_shows_mistakes_and_only_those(picture: MediaPart, clip: MediaPart) -> None:
    seen = (score("colour", picture, (1.0, 0.0)), score("rtloc", clip, (0.25,)))
    html = mistakes_page("PLM-Nano", PlmReport(seen, ()), num_frames=3)
    assert html.count("<section>") == 2
    assert html.count("data:image/png;base64,") == 1 + 3
    assert "asked &lt;1&gt;?" in html
    assert "asked &lt;0&gt;?\n\nanswered  given 0\nwanted" in html  # of the clip
    assert "1 of 2 wrong" in html


def test_a_page_without_mistakes_says_so(picture: MediaPart) -> None:
    assert "Nothing." in mistakes_page("PLM-Nano", PlmReport((score("colour", picture, (1.0,)),), ()))


def test_exams_are_of_held_out_splits(monkeypatch: pytest.MonkeyPatch, picture: MediaPart) -> None:
    asked: list[dict[str, object]] = []

    def exam(assistant: object, **options: object) -> list[ExamScore]:
        asked.append(options)
        return [score("colour", picture, (1.0,))]

    monkeypatch.setattr(plm_nano_report, "load_assistant", lambda model, **options: model)
    monkeypatch.setattr(plm_nano_report, "take_world_exam", exam)
    assert len(plm_report("any", count=5, seed=3).measures) == 2
    assert [(one.get("split", "validation"), one["num_items"], one["seed"]) for one in asked] == [
        ("validation", 5, 3),
        ("heldout_pairs", 5, 3),
    ]
    assert {"validation", "heldout_pairs"} <= set(world.SPLITS)
