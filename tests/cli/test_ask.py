"""`perceptic ask`: from the command line to an answer, and every way that can fail."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from perceptic.cli._answering import printable
from perceptic.cli.main import run
from perceptic.tasks.assistant import Assistant
from perceptic.weights import plm_card

Captured = pytest.CaptureFixture[str]
SHORT = ("--max-tokens", "5")


def ask(capsys: Captured, *arguments: str | Path) -> dict[str, Any]:
    """What `ask --json` prints."""
    status = run(["ask", *map(str, arguments), "--json"])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    found: dict[str, Any] = json.loads(captured.out)
    return found


def fails(capsys: Captured, *arguments: str | Path, status: int = 1) -> str:
    assert run(["ask", *map(str, arguments)]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_json_says_what_was_seen_and_how_long_it_took(plm: Path, shapes: Path, capsys: Captured) -> None:
    found = ask(capsys, shapes / "clip.mp4", "What happens?", "--model", plm, *SHORT, "--frames", "4")
    assert (found["model"], found["question"], found["answer_tokens"]) == ("noise", "What happens?", 5)
    assert found["finish_reason"] == "length"
    (medium,) = found["media"]
    assert (medium["kind"], medium["num_chunks"], medium["num_tokens"]) == ("video", 4, 4 * 64)
    assert len(medium["frame_seconds"]) == 4
    assert medium["frame_seconds"] == sorted(medium["frame_seconds"])
    assert set(found["seconds"]) == {"load", "look", "first_token", "generate"}


def test_the_terminal_shows_the_same_answer(plm: Path, shapes: Path, capsys: Captured) -> None:
    arguments = [shapes / "red-circle.png", "What is this?", "--model", plm, *SHORT]
    expected = ask(capsys, *arguments)["answer"]
    assert run(["ask", *map(str, arguments)]) == 0
    captured = capsys.readouterr()
    assert captured.out == printable(expected) + "\n"
    assert "cut after 5 tokens" in captured.err


def test_text_alone_and_a_system_prompt_of_ones_own(plm: Path, capsys: Captured) -> None:
    found = ask(capsys, "How are you?", "--model", plm, *SHORT)
    assert found["media"] == []
    shorter = ask(capsys, "How are you?", "--model", plm, "--system", "Be kind.", *SHORT)
    assert shorter["prompt_tokens"] < found["prompt_tokens"]


def test_several_media_in_the_order_given(plm: Path, shapes: Path, capsys: Captured) -> None:
    paths = [shapes / "yellow-star.png", shapes / "clip.mp4", shapes / "blue-square.png"]
    found = ask(capsys, *paths, "What differs?", "--model", plm, *SHORT)
    assert [medium["path"] for medium in found["media"]] == [str(path) for path in paths]


def test_tiles_and_times_are_the_options(plm: Path, shapes: Path, capsys: Captured) -> None:
    image, clip = shapes / "red-circle.png", shapes / "clip.mp4"
    assert ask(capsys, image, "?", "--tiles", "0", "--model", plm, *SHORT)["media"][0]["num_chunks"] == 1
    assert ask(capsys, image, "?", "--tiles", "4", "--model", plm, *SHORT)["media"][0]["num_chunks"] == 5
    part = ask(capsys, clip, "?", "--start", "0.5", "--end", "0:01", "--model", plm, *SHORT)["media"][0]
    assert 0.25 < part["frame_seconds"][0] <= 0.5
    assert part["frame_seconds"][-1] <= 1.0


def test_seeds_repeat_and_chance_differs(plm: Path, capsys: Captured) -> None:
    hot = ("Say something", "--model", plm, "--temperature", "5", "--top-k", "500", "--max-tokens", "12")
    answers = [ask(capsys, *hot, "--seed", seed)["answer"] for seed in ("1", "1", "2")]
    assert answers[0] == answers[1] != answers[2]


def test_a_stop_string_ends_the_answer(plm: Path, capsys: Captured) -> None:
    whole = ask(capsys, "Say something", "--model", plm, "--max-tokens", "6")["answer"]
    stopped = ask(capsys, "Say something", "--model", plm, "--max-tokens", "6", "--stop", whole[2:4])
    assert stopped["finish_reason"] == "stop_string"
    assert stopped["answer"] == whole[: whole.index(whole[2:4])]


def test_one_box_is_drawn(plm: Path, shapes: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = recorded(monkeypatch)
    for arguments in ((), ("--box", "10,10,60,60"), ("--box", "10,10,60,60.0")):
        ask(capsys, shapes / "red-circle.png", "What is in the red rectangle?", "--model", plm, *SHORT, *arguments)
    plain, drawn, again = (prompt.cells for prompt in prompts)  # a chunk is known by what is on it
    assert len(drawn) == len(plain)
    assert drawn == again != plain


def test_boxes_become_words_where_the_question_has_their_places(
    plm: Path, shapes: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = recorded(monkeypatch)
    boxes = ("--box", "0,0,64,64", "--box", "64,64,128,128")
    ask(capsys, shapes / "red-circle.png", "Compare <|bbox0|> and <|bbox1|>.", "--model", plm, *SHORT, *boxes)
    text = Assistant.load(plm).tokenizer.decode(prompts[0].token_ids)
    assert "Compare [000,000,500,500] and [500,500,999,999]." in text


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The prompts that are answered from now on."""
    prompts: list[Any] = []
    original = Assistant.stream

    def stream(self: Assistant, messages: Any, **options: Any) -> Any:
        prompts.append(messages.prompt)
        return original(self, messages, **options)

    monkeypatch.setattr(Assistant, "stream", stream)
    return prompts


def test_more_frames_than_trained_with_is_asked_for(plm: Path, shapes: Path, capsys: Captured) -> None:
    arguments = (shapes / "clip.mp4", "?", "--frames", "64", "--model", plm, *SHORT)
    assert "num_frames=64 is more than the 32" in fails(capsys, *arguments)
    assert run(["ask", *map(str, arguments), "--beyond-training"]) == 0
    capsys.readouterr()
    tiles = (shapes / "red-circle.png", "?", "--tiles", "40", "--beyond-training", "--model", plm, *SHORT)
    assert run(["ask", *map(str, tiles)]) == 0
    assert "Note: " in capsys.readouterr().err


def test_a_prompt_that_does_not_fit_says_what_takes_how_much(plm: Path, shapes: Path, capsys: Captured) -> None:
    error = fails(capsys, shapes / "red-circle.png", "why " * 5000, "--model", plm)
    assert "the prompt needs" in error
    assert "Shorten the text" in error or "shorten the text" in error


def test_files_that_cannot_be_read(plm: Path, shapes: Path, capsys: Captured, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "torn.mp4").write_bytes(b"not a video")
    for path, reason in (
        (tmp_path / "gone.png", "gone.png"),
        (tmp_path / "notes.txt", "neither an image nor a video"),
        (tmp_path / "torn.mp4", "torn.mp4: "),
        (shapes / "torn.png", "torn.png: "),
        ("https://example.com/a.png", "--allow-network"),
    ):
        assert reason in fails(capsys, path, "What?", "--model", plm)


def test_a_missing_file_is_found_before_the_model_is_loaded(tmp_path: Path, capsys: Captured) -> None:
    assert "gone.png" in fails(capsys, tmp_path / "gone.png", "What?", "--model", tmp_path / "no-model")


def test_the_default_model_says_what_to_do(
    capsys: Captured, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plm_card, "NANO_FOLDER", tmp_path)  # a package without its weights
    error = fails(capsys, shapes / "red-circle.png", "What?")
    assert "no trained weights" in error
    assert "--model Perception-LM-1B" in error
    assert "FAIR Noncommercial" in error
    assert "perceptic init PLM-Nano" in error


def test_what_a_model_takes_is_said_before_it_is_loaded(plm: Path, capsys: Captured, caplog: Any) -> None:
    with caplog.at_level("INFO", "perceptic"):
        ask(capsys, "hello", "--model", plm, *SHORT)
    assert any("noise in float32" in text and " MB on cpu" in text for text in caplog.messages)


def test_a_decoder_in_eight_bits(plm: Path, capsys: Captured) -> None:
    assert ask(capsys, "hello", "--model", plm, "--weights", "int8", *SHORT)["answer_tokens"] == 5


def test_a_model_that_does_not_fit_is_refused_with_the_options_that_help(
    plm: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perceptic.weights.plm_memory.available_bytes", lambda device: 30_000_000)
    error = fails(capsys, "hello", "--model", plm)
    assert "it does not fit on cpu" in error
    assert "--weights int8, --ignore-memory" in error
    assert ask(capsys, "hello", "--model", plm, "--ignore-memory", *SHORT)["answer_tokens"] == 5


def test_unknown_models_name_the_nearest(capsys: Captured) -> None:
    assert "did you mean 'Perception-LM-1B'?" in fails(capsys, "hello", "--model", "Perception-LM-1")
    assert "no such folder" in fails(capsys, "hello", "--model", "zzz")


def test_a_folder_of_another_kind_is_no_language_model(capsys: Captured, shapes: Path) -> None:
    assert "no PerceptionLM in this folder" in fails(capsys, "hello", "--model", shapes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x.png", "?", "--box", "1,2,3"], "is not four numbers"),
        (["x.png", "?", "--box", "1,2,3,x"], "is not four numbers"),
        (["x.png", "?", "--box", "30,2,3,40"], "left <= right"),
        (["x.png", "?", "--box", "nan,2,3,40"], "left <= right"),
        (["x.png", "?", "--box", "1,2,3,4", "--box", "1,2,3,4"], "several --box need their places"),
        (["x.png", "?", "--start", "soon"], "is no time"),
        (["x.png", "?", "--end", "-4"], "is no time"),
        (["x.png", "?", "--frames", "0"], "--frames"),
        (["x.png", "?", "--temperature", "-1"], "--temperature"),
        (["x.png", "?", "--top-p", "1.5"], "--top-p"),
        (["x.png", "?", "--max-tokens", "0"], "--max-tokens"),
        (["x.png", " "], "the question is empty"),
        ([], "Missing argument"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str, capsys: Captured) -> None:
    assert message in fails(capsys, *arguments, status=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--start", "3", "--end", "1"], "end_seconds=1 is before start_seconds=3"),
        (["--box", "500,500,600,600"], "lies outside"),
        (["--device", "cuda:99"], "cuda:99"),
    ],
)
def test_settings_that_cannot_be(arguments: list[str], message: str, plm: Path, shapes: Path, capsys: Captured) -> None:
    assert message in fails(capsys, shapes / "clip.mp4", "?", "--model", plm, *arguments)


def test_a_box_needs_one_medium(plm: Path, shapes: Path, capsys: Captured) -> None:
    paths = (shapes / "red-circle.png", shapes / "clip.mp4")
    assert "exactly one" in fails(capsys, *paths, "?", "--box", "1,2,3,4", "--model", plm)
    assert "exactly one" in fails(capsys, "<|bbox0|>?", "--box", "1,2,3,4", "--model", plm)
    assert "there are 1 boxes" in fails(capsys, paths[0], "<|bbox1|>?", "--box", "1,2,3,4", "--model", plm)


def test_a_lone_path_is_no_question(shapes: Path, capsys: Captured) -> None:
    assert "what do you want to know?" in fails(capsys, shapes / "clip.mp4", status=2)


def test_a_long_question_is_no_path(plm: Path, capsys: Captured) -> None:
    assert ask(capsys, "why? " * 300, "--model", plm, *SHORT)["prompt_tokens"] > 300


def test_options_that_do_nothing_are_named(plm: Path, capsys: Captured) -> None:
    assert run(["ask", "hello", "--model", str(plm), "--top-p", "0.9", *SHORT]) == 0
    assert "nothing is left to chance" in capsys.readouterr().err


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert printable("a\x1b[2J\x07b\n\tc\r\x9bd\u202fé") == "a\ufffd[2J\ufffdb\n\tc\ufffd\ufffdd\u202fé"


def test_ctrl_c_ends_the_answer_and_keeps_what_has_come(plm: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "perceptic.cli.main", "ask", "-", "--model", str(plm), "--max-tokens", "3900"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"Tell me a long story\n")
        process.stdin.close()
        process.stdin = None
        begun = process.stdout.read(8)
        process.send_signal(signal.SIGINT)
        rest, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert len(begun) == 8
    assert rest.endswith(b"\n")
    assert error.decode().splitlines()[-1] == "Interrupted. The answer is not complete."


def test_ctrl_c_with_json_still_prints_the_object(plm: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Assistant.stream

    def stream(self: Assistant, messages: Any, **options: Any) -> Any:
        for number, token in enumerate(original(self, messages, **options)):
            if number == 3:
                raise KeyboardInterrupt
            yield token

    monkeypatch.setattr(Assistant, "stream", stream)
    assert run(["ask", "hello", "--model", str(plm), "--json"]) == 130
    found = json.loads(capsys.readouterr().out)
    assert (found["finish_reason"], found["answer_tokens"]) == ("cancelled", 3)


def test_the_options_are_explained(capsys: Captured) -> None:
    assert run(["ask", "--help"]) == 0
    text = re.sub(r"\s+", " ", capsys.readouterr().out)
    for option in ("--frames", "--tiles", "--start", "--end", "--box", "--system", "--json", "--vision-device"):
        assert option in text
