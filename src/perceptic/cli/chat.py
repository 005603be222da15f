"""`perceptic chat`: a conversation in the terminal."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from perceptic.cli._answering import printable, show_text
from perceptic.cli._plm_options import (
    allow_network_option,
    generation_options,
    plm_options,
    seeing_options,
    take_assistant,
    take_generation,
    take_seeing,
)
from perceptic.errors import PercepticError

if TYPE_CHECKING:
    from perceptic.cli._chat_session import ChatSession


@click.command()
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("--system", metavar="TEXT", help="Instead of the system prompt the models were trained with.")
@seeing_options
@generation_options()
@allow_network_option
@plm_options
def command(paths: tuple[str, ...], system: str | None, allow_network: bool, **options: Any) -> None:
    """Talk about pictures and videos, turn by turn. What is shown is looked at once.

    Lines are questions; /help lists commands, such as /image PATH and /reset. Ctrl-C stops an answer, Ctrl-D ends the
    session. Lines can be piped in: answers then go to standard output, everything else to standard error, and the
    exit status is 1 if one of the lines could not be done.
    """
    from perceptic.cli._chat_session import ChatSession, Settings

    settings = Settings(take_seeing(options), take_generation(options), allow_network)
    assistant = take_assistant(options)
    session = ChatSession(assistant, settings, system, show_text, _remark)
    for path in paths:
        session.add(path)
    is_terminal = sys.stdin.isatty()
    if is_terminal:
        _remark(f"{assistant.name} on {assistant.device}. /help lists commands; Ctrl-C stops an answer, Ctrl-D leaves.")
    failures = _run(session, _typed_lines() if is_terminal else _piped_lines())
    if failures and not is_terminal:
        click.get_current_context().exit(1)


def _run(session: ChatSession, lines: Iterator[str]) -> int:
    """Take lines until they or the session end; returns how many could not be done."""
    failures = 0
    for line in lines:
        try:
            session.take_line(line)
        except PercepticError as error:
            failures += 1
            _remark(f"Error: {error}")
        if session.has_ended:
            break
    return failures


def _typed_lines() -> Iterator[str]:
    """Lines from a person, with editing and history where Python has readline."""
    with contextlib.suppress(ImportError):  # not on Windows
        import readline  # noqa: F401 - `input` uses it once it is imported
    while True:
        try:
            yield input("> ")
        except EOFError:
            click.echo()
            return
        except KeyboardInterrupt:
            _remark("\n/quit or Ctrl-D leaves.")


def _piped_lines() -> Iterator[str]:
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    return iter(sys.stdin.readline, "")  # not the file itself, which reads ahead


def _remark(text: str) -> None:
    click.echo(printable(text), err=True)
