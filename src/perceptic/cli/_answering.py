"""Showing an answer while it is made, and ending it with Ctrl-C."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from perceptic.errors import MediaError

if TYPE_CHECKING:
    from perceptic.inference.generation import FinishReason, GeneratedToken
    from perceptic.tasks.media_parts import MediaPart

# What a model writes may hold anything; escape sequences must not command the terminal.
_NO_CONTROL = dict.fromkeys([*range(0x09), 0x0B, 0x0C, *range(0x0D, 0x20), *range(0x7F, 0xA0)], "\ufffd")


@dataclass(frozen=True)
class Streamed:
    """A streamed answer. `first_token_seconds` and `seconds` count from the start of generation."""

    text: str
    finish_reason: FinishReason
    num_tokens: int
    first_token_seconds: float
    seconds: float

    @property
    def is_cancelled(self) -> bool:
        return self.finish_reason == "cancelled"

    @property
    def tokens_per_second(self) -> float | None:
        """While decoding, the first token left out: that one is the price of reading the prompt."""
        decoding = self.seconds - self.first_token_seconds
        return (self.num_tokens - 1) / decoding if self.num_tokens > 1 and decoding > 0 else None


def exists(path: str | Path) -> bool:
    """Whether there is such a file or folder; False for what cannot be a path (too long, null characters)."""
    return os.path.exists(path)  # noqa: PTH110 - Path.exists raises for those


@contextlib.contextmanager
def busy(what: str) -> Iterator[None]:
    """Say on standard error, while it is a terminal, what is being waited for."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(what):
        yield


def require_files(parts: Iterable[MediaPart]) -> None:
    """Raises MediaError for a file that is not there: better known before a large model is loaded."""
    for part in parts:
        if isinstance(part.source, Path) and not exists(part.source):
            raise MediaError(part.name, "no such file")


def stream(tokens: Iterator[GeneratedToken], show: Callable[[str], None]) -> Streamed:
    """Run a generation to its end, passing on each piece of text. Ctrl-C ends it with what has come so far."""
    started = time.perf_counter()
    pieces: list[str] = []
    reason: FinishReason = "cancelled"
    num_tokens, first_seconds = 0, 0.0
    try:
        with busy("Reading the prompt"):
            first = list(itertools.islice(tokens, 1))
            first_seconds = time.perf_counter() - started
        for token in itertools.chain(first, tokens):
            num_tokens += 1
            reason = token.finish_reason or reason
            pieces.append(token.text)
            show(token.text)
    except KeyboardInterrupt:
        reason = "cancelled"
    return Streamed("".join(pieces), reason, num_tokens, first_seconds, time.perf_counter() - started)


def show_text(text: str) -> None:
    """Print a piece of an answer at once, without a line break."""
    if text:
        click.echo(printable(text), nl=False)


def printable(text: str) -> str:
    """The text with control characters but line breaks and tabs replaced."""
    return text.translate(_NO_CONTROL)


def show_notes(notes: tuple[str, ...]) -> None:
    """In what a prompt goes beyond the model's training, on standard error."""
    for note in notes:
        click.echo(f"Note: {note}.", err=True)


def show_end(finish_reason: FinishReason, max_tokens: int) -> None:
    """Say on standard error why an answer ended, where it did not end by itself."""
    if finish_reason == "length":
        click.echo(f"(cut after {max_tokens} tokens or at the model's last position; see --max-tokens)", err=True)
