"""`perceptic locate` and `perceptic describe`: times and boxes out of answers, and answers that cannot be read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from perceptic.cli.main import run
from perceptic.tasks.assistant import Assistant

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put words into the model's mouth; what it sees and is asked stays real. Prompts are kept in the list returned."""

    def put(text: str) -> list[str]:
        prompts: list[str] = []
        original = Assistant.generate

        def generate(self: Assistant, messages: Any, **options: Any) -> Any:
            prompts.append(messages[-1].parts[-1])
            return replace(original(self, messages, **options), text=text)

        monkeypatch.setattr(Assistant, "generate", generate)
        return prompts

    return put


def arguments(plm: Path, path: Path, *rest: str) -> list[str]:
    return [str(path), *rest, "--model", str(plm), "--max-tokens", "3"]


def test_times_are_those_of_the_frames_seen(plm: Path, shapes: Path, says: Any, capsys: Captured) -> None:
    prompts = says("It is [2, 5].")
    assert run(["locate", *arguments(plm, shapes / "clip.mp4", "the star moves", "--frames", "8", "--json")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["problem"] is None
    assert found["start_seconds"] == found["frame_seconds"][2]
    assert found["end_seconds"] == found["frame_seconds"][5]
    assert "when 'the star moves' happens" in prompts[0]
    assert "between 0 and 7 in this 8 frame video" in prompts[0]


def test_times_in_words(plm: Path, shapes: Path, says: Any, capsys: Captured) -> None:
    says("[0, 15]")
    assert run(["locate", *arguments(plm, shapes / "clip.mp4", "anything")]) == 0
    line = capsys.readouterr().out
    assert line.startswith("0.00 s to ")
    assert line.endswith("(frames 0 to 15 of 0 to 15 seen)\n")


def test_a_box_makes_it_about_the_red_rectangle(plm: Path, shapes: Path, says: Any, capsys: Captured) -> None:
    prompts = says("[1, 2]")
    assert run(["locate", *arguments(plm, shapes / "clip.mp4", "it moves", "--box", "5,5,30,30")]) == 0
    assert prompts[0].startswith("Given the region marked by the red rectangle in the video")


def test_an_answer_without_times_is_shown_and_fails(plm: Path, shapes: Path, says: Any, capsys: Captured) -> None:
    says("I cannot\x1b[31m say.")
    assert run(["locate", *arguments(plm, shapes / "clip.mp4", "anything")]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "the answer has no [start, end]. The model said: I cannot\ufffd[31m say." in captured.err


def test_an_answer_without_times_as_json(plm: Path, shapes: Path, capsys: Captured) -> None:
    assert run(["locate", *arguments(plm, shapes / "clip.mp4", "anything", "--json")]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["start_seconds"] is None
    assert found["problem"]
    assert found["text"]


def test_in_a_picture_a_box_is_found(plm: Path, shapes: Path, says: Any, capsys: Captured) -> None:
    says("[250,250,750,500]")
    assert run(["locate", *arguments(plm, shapes / "red-circle.png", "the circle")]) == 0
    assert capsys.readouterr().out == "32,32,96,64\n"
    assert run(["locate", *arguments(plm, shapes / "red-circle.png", "the circle", "--json")]) == 0
    assert json.loads(capsys.readouterr().out)["box"] == {"left": 32.0, "top": 32.0, "right": 96.0, "bottom": 64.0}


@pytest.mark.parametrize(
    ("rest", "status", "message"),
    [
        (["clip.mp4", "x", "--box", "1,2,3,4", "--box", "1,2,3,4"], 2, "give one --box"),
        (["red-circle.png", "x", "--box", "1,2,3,4"], 2, "--box is for videos"),
        (["clip.mp4", "x", "--box", "900,900,950,950"], 1, "lies outside"),
        (["clip.mp4", "x", "--frames", "64"], 1, "more than the 32"),
        (["gone.mp4", "x"], 1, "no such file"),
        (["torn.png", "x"], 1, "torn.png"),
        (["clip.mp4"], 2, "Missing argument 'TEXT'"),
    ],
)
def test_what_cannot_be_located(
    rest: list[str], status: int, message: str, plm: Path, shapes: Path, capsys: Captured
) -> None:
    assert run(["locate", *arguments(plm, shapes / rest[0], *rest[1:])]) == status
    assert message in capsys.readouterr().err


def test_describe_asks_in_the_models_words(plm: Path, shapes: Path, says: Any, capsys: Captured) -> None:
    prompts = says("A star.")
    image, clip = shapes / "red-circle.png", shapes / "clip.mp4"
    for path, rest in ((image, []), (clip, []), (image, ["--box", "0,0,64,64"]), (clip, ["--box", "5,5,30,30"])):
        assert run(["describe", *arguments(plm, path, *rest)]) == 0
    assert run(["describe", *arguments(plm, image, "--box", "0,0,64,64", "--drawn")]) == 0
    assert capsys.readouterr().out == "A star.\n" * 5
    assert prompts[:2] == ["Describe the image in details.", "What is happening in the video?"]
    assert "the region ([000,000,500,500]) in details" in prompts[2]
    assert "the region marked by the red rectangle within frames [0, 15]" in prompts[3]
    assert prompts[4] == "Please describe the region inside the rec rectangle."


def test_describe_as_json(plm: Path, shapes: Path, says: Any, capsys: Captured) -> None:
    says("A star.")
    assert run(["describe", *arguments(plm, shapes / "red-circle.png", "--json")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["text"], found["model"], found["media"][0]["kind"]) == ("A star.", "noise", "image")


def test_dense_lists_events_and_says_what_it_could_not_read(
    plm: Path, shapes: Path, says: Any, capsys: Captured
) -> None:
    says("Frame [0, 5]: The star moves.\nFrame [9, 40]: It goes.\nFrame [5, 15]: It rests.")
    assert run(["describe", *arguments(plm, shapes / "clip.mp4", "--dense")]) == 0
    captured = capsys.readouterr()
    assert [line.split("  ")[-1].split(" ")[0] for line in captured.out.splitlines()] == ["The", "It"]
    assert "Not all could be read: [9, 40]" in captured.err
    assert run(["describe", *arguments(plm, shapes / "clip.mp4", "--dense", "--json")]) == 0
    assert len(json.loads(capsys.readouterr().out)["events"]) == 2


def test_dense_without_any_event_fails_and_shows_the_answer(
    plm: Path, shapes: Path, says: Any, capsys: Captured
) -> None:
    says("Nothing happens.")
    assert run(["describe", *arguments(plm, shapes / "clip.mp4", "--dense")]) == 1
    assert "The model said: Nothing happens." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rest", "status", "message"),
    [
        (["red-circle.png", "--dense"], 2, "this is a picture"),
        (["clip.mp4", "--box", "1,2,3,4", "--box", "1,2,3,4"], 2, "give one --box"),
        (["gone.mp4"], 1, "no such file"),
        (["torn.png"], 1, "torn.png"),
    ],
)
def test_what_cannot_be_described(
    rest: list[str], status: int, message: str, plm: Path, shapes: Path, capsys: Captured
) -> None:
    assert run(["describe", *arguments(plm, shapes / rest[0], *rest[1:])]) == status
    assert message in capsys.readouterr().err
