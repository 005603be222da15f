"""`perceptic chat`: piped sessions line by line, commands that fail alone, and Ctrl-C that stops only the answer."""

from __future__ import annotations

import contextlib
import io
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perceptic.cli._answering import printable
from perceptic.cli._chat_session import ChatSession, Settings
from perceptic.cli.main import run
from perceptic.errors import PercepticError
from perceptic.inference.sampling import GenerationOptions
from perceptic.tasks.assistant import Assistant
from perceptic.tasks.messages import parse_messages
from perceptic.tasks.seeing import Seeing

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def chat(plm: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> Any:
    """Pipe lines into a session; returns (status, answers, remarks)."""

    def talk(lines: list[str], *arguments: str | Path) -> tuple[int, str, str]:
        text = "".join(f"{line}\n" for line in lines)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        status = run(["chat", *map(str, arguments), "--model", str(plm), "--max-tokens", "4"])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return talk


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The conversations that the model is given, as they come."""
    conversations: list[Any] = []
    original = Assistant.prepare

    def prepare(self: Assistant, messages: Any, *rest: Any, **options: Any) -> Any:
        conversations.append(messages)
        return original(self, messages, *rest, **options)

    monkeypatch.setattr(Assistant, "prepare", prepare)
    return conversations


def roles(conversation: Any) -> list[str]:
    return [message.role for message in conversation]


def test_questions_build_a_conversation(chat: Any, asked: list[Any]) -> None:
    status, answers, _ = chat(["What?", "", "And then?", "/quit", "never asked"])
    assert status == 0
    assert [roles(one) for one in asked] == [["user"], ["user", "assistant", "user"]]
    assert answers.startswith(printable(asked[1][1].parts[0]) + "\n")


def test_pictures_and_videos_go_with_the_next_question(chat: Any, asked: list[Any], shapes: Path) -> None:
    lines = [f"/image {shapes / 'red-circle.png'}", "What?", f"/video '{shapes / 'clip.mp4'}'", "And this?", "So?"]
    status, _, remarks = chat(lines)
    assert status == 0
    assert [[len(message.media) for message in one] for one in asked] == [[1], [1, 0, 1], [1, 0, 1, 0, 0]]
    assert "red-circle.png: 128 x 128, " in remarks
    assert "clip.mp4: 64 x 64, 16 frames from 0.0 s" in remarks


def test_paths_on_the_command_line_are_shown_first(chat: Any, asked: list[Any], shapes: Path) -> None:
    status, _, _ = chat(["What?"], shapes / "clip.mp4")
    assert status == 0
    assert asked[0][0].media[0].kind == "video"


def test_the_system_prompt_can_be_replaced(chat: Any, asked: list[Any]) -> None:
    _, _, remarks = chat(["/system", "/system Be brief.", "What?", "/system"], "--system", "Be kind.")
    assert asked[0][0].parts == ("Be brief.",)
    assert remarks.count("System prompt: Be kind.") == 1
    assert remarks.count("System prompt: Be brief.") == 2


def test_reset_forgets_everything_said_and_shown(chat: Any, asked: list[Any], shapes: Path) -> None:
    chat(["One?", f"/image {shapes / 'red-circle.png'}", "/reset", "Two?"])
    assert [roles(one) for one in asked] == [["user"], ["user"]]
    assert not asked[1][0].media


def test_two_slashes_ask_about_one(chat: Any, asked: list[Any]) -> None:
    chat(["//etc is what?"])
    assert asked[0][0].parts == ("/etc is what?",)


def test_a_saved_conversation_can_be_read_and_is_not_overwritten(chat: Any, shapes: Path, tmp_path: Path) -> None:
    saved, other = tmp_path / "talk.json", tmp_path / "other.json"
    other.write_text("mine")
    lines = [f"/image {shapes / 'red-circle.png'}", "What?", f"/save {saved}", "More?", f"/save {saved}"]
    status, answers, remarks = chat([*lines, f"/save {other}", "/save"], "--system", "Be kind.")
    assert status == 1
    assert "other.json: exists" in remarks
    assert "/save needs the name of a file" in remarks
    assert other.read_text() == "mine"
    found = json.loads(saved.read_text())
    assert found["model"] == "noise"
    messages = parse_messages([*found["messages"], {"role": "user", "content": "Go on"}])
    assert roles(messages) == ["system", "user", "assistant", "user", "assistant", "user"]
    assert messages[1].media[0].source == shapes / "red-circle.png"
    assert answers.startswith(printable(messages[2].parts[0]) + "\n")


def test_what_fails_leaves_the_conversation_as_it_was(chat: Any, asked: list[Any], shapes: Path) -> None:
    lines = [
        "One?",
        "/dance",
        "/image",
        f"/image {shapes / 'gone.png'}",
        f"/image {shapes / 'torn.png'}",
        f"/image {shapes / 'clip.mp4'}",
        f"/video {shapes / 'red-circle.png'}",
        "/image https://example.com/a.png",
        "why " * 5000,
        "Two?",
    ]
    status, _, remarks = chat(lines)
    assert status == 1
    assert remarks.count("Error: ") == 8
    for reason in ("no command /dance", "name a file", "gone.png", "torn.png", "is a video; show it with /video"):
        assert reason in remarks
    assert "is an image; show it with /image" in remarks
    assert "--allow-network" in remarks
    assert [one[-1].parts for one in asked[-2:]] == [(("why " * 5000).strip(),), ("Two?",)]
    assert roles(asked[-1]) == ["user", "assistant", "user"]
    assert not asked[-1][-1].media


def test_media_that_do_not_fit_are_refused_when_shown(chat: Any, shapes: Path) -> None:
    status, _, remarks = chat([f"/video {shapes / 'clip.mp4'}"] * 20, "--frames", "16", "--beyond-training")
    assert status == 1
    assert "the prompt needs" in remarks


def test_a_missing_first_file_ends_it(chat: Any, tmp_path: Path) -> None:
    status, answers, remarks = chat(["What?"], tmp_path / "gone.png")
    assert (status, answers) == (1, "")
    assert "gone.png" in remarks


def test_help_lists_every_command(chat: Any) -> None:
    _, _, remarks = chat(["/help"])
    for name in ("/image", "/video", "/system", "/reset", "/save", "/quit"):
        assert f"\n{name} " in f"\n{remarks}"


def test_bytes_that_are_no_text_are_asked_anyway(plm: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9?\n")))
    assert run(["chat", "--model", str(plm), "--max-tokens", "2"]) == 0


def test_a_stopped_answer_stays_as_far_as_it_came(chat: Any, asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    original = Assistant.stream

    def stream(self: Assistant, messages: Any, **options: Any) -> Any:
        for number, token in enumerate(original(self, messages, **options)):
            if number == len(asked) % 2 * 3:
                raise KeyboardInterrupt
            yield token

    monkeypatch.setattr(Assistant, "stream", stream)
    status, _, remarks = chat(["One?", "Two?", "Three?"])
    assert status == 0
    # The first stops after three tokens and is kept, the second before any and is forgotten.
    assert [roles(one) for one in asked] == [["user"], ["user", "assistant", "user"], ["user", "assistant", "user"]]
    assert asked[2][2].parts == ("Three?",)
    assert remarks.count("Stopped.\n") == 2
    assert remarks.count("Stopped before an answer") == 1


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["", "/image ", "/video ", "/system ", "/", "//", "/save "]), st.text(max_size=40))
def test_any_line_is_done_or_refused(session: ChatSession, command: str, text: str) -> None:
    with contextlib.suppress(PercepticError):
        session.take_line(command + text)
    session.take_line("/reset")


@pytest.fixture
def session(plm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ChatSession:
    monkeypatch.chdir(tmp_path)
    chosen = Settings(Seeing(), GenerationOptions(max_new_tokens=1))
    return ChatSession(Assistant.load(plm), chosen, None, lambda text: None, lambda text: None)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_in_a_terminal_ctrl_c_stops_the_answer_and_not_the_session(plm: Path) -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "perceptic.cli.main", "chat", "--model", str(plm), "--max-tokens", "3900"]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        screen = _Screen(ours)
        screen.wait_for("> ")
        os.write(ours, b"Tell me a story\n")
        screen.wait_for("story\r\n")
        screen.wait_for("Reading the prompt")
        screen.wait_for("\x1b[?25h", more=40)  # the cursor comes back, and the answer
        process.send_signal(signal.SIGINT)
        screen.wait_for("Stopped.")
        os.write(ours, b"/system\n")
        screen.wait_for("System prompt: the one")
        screen.wait_for("> ")
        # A signal that comes between the prompt and the wait behind it is acted on with the next one.
        while not screen.has("/quit or Ctrl-D leaves.", within_seconds=2):
            process.send_signal(signal.SIGINT)
        screen.wait_for("/quit or Ctrl-D leaves.")
        os.write(ours, b"/quit\n")
        assert process.wait(60) == 0
    os.close(ours)


class _Screen:
    """What a program writes to its terminal, read as it comes."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self._text = ""

    def has(self, text: str, within_seconds: float) -> bool:
        """Whether a text is there, or comes in pieces no further apart than that."""
        while text not in self._text and select.select([self._terminal], [], [], within_seconds)[0]:
            self._text += os.read(self._terminal, 1024).decode(errors="replace")
        return text in self._text

    def wait_for(self, text: str, more: int = 0) -> None:
        """Read on to a text and so many characters behind it."""
        while text not in self._text or len(self._text) < self._text.index(text) + len(text) + more:
            assert select.select([self._terminal], [], [], 120)[0], f"nothing more comes after {self._text!r}"
            self._text += os.read(self._terminal, 1024).decode(errors="replace")
        self._text = self._text[self._text.index(text) + len(text) :]
