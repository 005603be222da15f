"""A conversation in a terminal: what was said, what is shown next, and the commands that change it.

Reading lines and writing to the terminal is `cli.chat`'s; answers and remarks leave through the two functions given.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perceptic.cli._answering import Streamed, busy, exists, stream
from perceptic.errors import ConfigError, MediaError, OutputError
from perceptic.files import write_text
from perceptic.inference.sampling import GenerationOptions
from perceptic.media.collection import MediaKind
from perceptic.tasks.assistant import Assistant
from perceptic.tasks.media_parts import MediaPart, media_part
from perceptic.tasks.messages import ChatMessage
from perceptic.tasks.prompting import require_fit
from perceptic.tasks.seeing import MediaSeen, Seeing

Say = Callable[[str], None]

HELP = """\
/image PATH    show a picture with the next question
/video PATH    show a video with the next question
/system TEXT   replace the system prompt; without TEXT, say what it is
/reset         forget what was said and shown
/save FILE     write the conversation as JSON
/help          this list
/quit          leave (Ctrl-D does too)
Anything else is asked. Ctrl-C stops an answer. A question that begins with / is written with two: //"""


@dataclass(frozen=True)
class Settings:
    """What holds for the whole session."""

    seeing: Seeing
    options: GenerationOptions
    allow_network: bool = False


class ChatSession:
    """One conversation with one model. Errors of any command leave the conversation as it was.

    Attributes:
        has_ended: `/quit` was given.
    """

    def __init__(self, assistant: Assistant, settings: Settings, system: str | None, show: Say, remark: Say) -> None:
        """`show` gets pieces of answers, `remark` whole lines about them."""
        self.has_ended = False
        self._assistant = assistant
        self._settings = settings
        self._system = system
        self._show, self._remark = show, remark
        self._turns: list[ChatMessage] = []
        self._pending: list[MediaPart] = []
        self._addresses: dict[MediaPart, str] = {}
        self._saved: set[Path] = set()
        self._commands: dict[str, Callable[[str], None]] = {
            "image": lambda text: self.add(_address(text), "image"),
            "video": lambda text: self.add(_address(text), "video"),
            "system": self._set_system,
            "reset": self._reset,
            "save": self._save,
            "help": lambda _: self._remark(HELP),
            "quit": self._quit,
            "exit": self._quit,
        }

    def take_line(self, line: str) -> None:
        """Do what a line says: a command, or a question to be answered.

        Raises:
            PercepticError and its kinds: it cannot be done.
        """
        line = line.strip()
        if line.startswith("/") and not line.startswith("//"):
            name, _, argument = line[1:].partition(" ")
            if name not in self._commands:
                raise ConfigError(f"there is no command /{name}; /help lists them")
            self._commands[name](argument.strip())
        elif line:
            self._ask(line[1:] if line.startswith("//") else line)

    def add(self, address: str, kind: MediaKind | None = None) -> None:
        """Show a picture or video with the next question.

        Args:
            kind: what it has to be; None takes either.

        Raises:
            MediaError: it cannot be read, or is of the other kind.
            ConfigError: it does not fit beside what is shown already.
        """
        part = media_part(address, allow_network=self._settings.allow_network)
        if kind is not None and part.kind != kind:
            raise MediaError(address, f"is {_with_article(part.kind)}; show it with /{part.kind}")
        size = self._assistant.count(self._messages([*self._pending, part], "?"), self._settings.seeing)
        require_fit(size)
        self._pending.append(part)
        self._addresses[part] = str(part.source.resolve()) if isinstance(part.source, Path) else address
        self._remark(_in_words(size.media[-1]))

    def _ask(self, question: str) -> None:
        messages = self._messages(self._pending, question)
        try:
            with busy("Looking"):
                prepared = self._assistant.prepare(messages, self._settings.seeing)
        except KeyboardInterrupt:
            self._remark("Stopped before an answer; the question is forgotten.")
            return
        for note in prepared.notes:
            self._remark(f"Note: {note}.")
        answer = stream(self._assistant.stream(prepared, options=self._settings.options), self._show)
        self._show("\n")
        self._remember(messages[-1], answer)

    def _remember(self, question: ChatMessage, answer: Streamed) -> None:
        """Both sides of a turn; a stopped answer counts as far as it came."""
        if answer.is_cancelled and not answer.text.strip():
            self._remark("Stopped before an answer; the question is forgotten.")
            return
        self._turns += [question, ChatMessage.assistant(answer.text)]
        self._pending = []
        if answer.is_cancelled:
            self._remark("Stopped.")
        elif answer.finish_reason == "length":
            self._remark("(cut at the longest answer; see --max-tokens)")

    def _messages(self, media: list[MediaPart], question: str) -> tuple[ChatMessage, ...]:
        opening = [] if self._system is None else [ChatMessage.system(self._system)]
        return (*opening, *self._turns, ChatMessage.user(*media, question))

    def _set_system(self, text: str) -> None:
        if text:
            self._system = text
        self._remark(f"System prompt: {self._system or 'the one that the models were trained with'}")

    def _reset(self, _: str) -> None:
        self._turns, self._pending = [], []
        self._remark("Forgotten; nothing is shown.")

    def _save(self, text: str) -> None:
        if not text:
            raise ConfigError("/save needs the name of a file")
        file = Path(_address(text))
        if exists(file) and file.resolve() not in self._saved:
            raise OutputError(f"{file}: exists; choose another name")
        opening = [] if self._system is None else [ChatMessage.system(self._system)]
        messages = [self._as_json(message) for message in (*opening, *self._turns)]
        write_text(
            file, json.dumps({"model": self._assistant.name, "messages": messages}, indent=2, ensure_ascii=False)
        )
        self._saved.add(file.resolve())
        self._remark(f"{file}: {len(self._turns) // 2} questions and answers")

    def _quit(self, _: str) -> None:
        self.has_ended = True

    def _as_json(self, message: ChatMessage) -> dict[str, Any]:
        """A message in the shape that `tasks.messages` reads."""
        if not message.media:
            return {"role": message.role, "content": "".join(str(part) for part in message.parts)}
        content: list[dict[str, Any]] = []
        for part in message.parts:
            if isinstance(part, str):
                content.append({"type": "text", "text": part})
            else:
                kind = f"{part.kind}_url"
                content.append({"type": kind, kind: {"url": self._addresses[part]}})
        return {"role": message.role, "content": content}


def _address(text: str) -> str:
    """A path as people type or drop it: quotes around it go, `~` is the home folder."""
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1]
    if not text or "\0" in text:
        raise ConfigError("name a file")
    return os.path.expanduser(text)  # noqa: PTH111 - Path.expanduser raises for unknown users


def _in_words(seen: MediaSeen) -> str:
    chunks = f"{seen.num_chunks} frames" if seen.kind == "video" else f"{seen.num_chunks} views"
    if seen.kind == "video" and seen.frame_seconds:
        chunks += f" from {seen.frame_seconds[0]:.1f} s to {seen.frame_seconds[-1]:.1f} s"
    return f"{seen.path}: {seen.width} x {seen.height}, {chunks}, {seen.num_tokens:,} tokens"


def _with_article(kind: MediaKind) -> str:
    return "an image" if kind == "image" else "a video"
