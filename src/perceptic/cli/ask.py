"""`perceptic ask`: a question about images and videos, answered while you watch."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from perceptic.cli._answering import Streamed, busy, exists, require_files, show_end, show_notes, show_text, stream
from perceptic.cli._plm_options import (
    BoxNumbers,
    allow_network_option,
    box_option,
    generation_options,
    plm_options,
    seeing_options,
    take_assistant,
    take_generation,
    take_seeing,
)
from perceptic.cli._shared import json_option, print_json

if TYPE_CHECKING:
    from perceptic.tasks.answers import PreparedPrompt

_MARKER = "<|bbox"


@click.command()
@click.argument("arguments", nargs=-1, required=True, metavar="[PATH]... QUESTION")
@box_option(
    "A region in pixels of the one picture or video. Where the question has <|bbox0|>, <|bbox1|>..., those become the "
    "boxes in the words the model knows; otherwise the one box is drawn in red: ask about 'the red rectangle'."
)
@click.option("--system", metavar="TEXT", help="Instead of the system prompt the models were trained with.")
@seeing_options
@generation_options()
@allow_network_option
@plm_options
@json_option
def command(
    arguments: tuple[str, ...],
    boxes: tuple[BoxNumbers, ...],
    system: str | None,
    allow_network: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Ask QUESTION about pictures and videos, in the order given; without a PATH, about nothing but its words.

    The answer is printed as it comes; Ctrl-C ends it (exit status 130). A QUESTION of `-` is read from standard input.
    """
    from perceptic.tasks.ask import question_messages, with_regions
    from perceptic.tasks.messages import all_media

    started = time.perf_counter()
    *paths, question = arguments
    question = _checked_question(question, paths)
    drawn = _drawn_box(boxes, question)
    seeing, generation = take_seeing(options), take_generation(options)
    messages = question_messages(paths, question, system=system, box=drawn, allow_network=allow_network)
    require_files(all_media(messages))
    assistant = take_assistant(options)
    if boxes and drawn is None:
        messages = with_regions(assistant, messages, boxes)
    loaded = time.perf_counter()
    with busy("Looking"):
        prepared = assistant.prepare(messages, seeing)
    looked = time.perf_counter()
    show_notes(prepared.notes)
    tokens = assistant.stream(prepared, options=generation)
    answer = stream(tokens, _show_nothing if as_json else show_text)
    if as_json:
        seconds = {"load": loaded - started, "look": looked - loaded}
        print_json({"model": assistant.name, "question": question, **_as_json(answer, prepared, seconds)})
    else:
        click.echo()
        show_end(answer.finish_reason, generation.max_new_tokens)
    if answer.is_cancelled:
        raise KeyboardInterrupt("The answer is not complete.")


def _checked_question(question: str, paths: list[str]) -> str:
    if question == "-":
        question = sys.stdin.read().strip()
    elif not paths and exists(question):
        raise click.UsageError(f"{question} is a file; what do you want to know? perceptic ask {question} 'QUESTION'")
    if not question.strip():
        raise click.UsageError("the question is empty")
    return question


def _drawn_box(boxes: tuple[BoxNumbers, ...], question: str) -> BoxNumbers | None:
    """The box to draw; None where there is none, or where the question has boxes as text."""
    if not boxes or _MARKER in question:
        return None
    if len(boxes) > 1:
        raise click.UsageError("several --box need their places in the question: <|bbox0|>, <|bbox1|>...")
    return boxes[0]


def _as_json(answer: Streamed, prepared: PreparedPrompt, seconds: dict[str, float]) -> dict[str, Any]:
    seconds |= {"first_token": answer.first_token_seconds, "generate": answer.seconds}
    return {
        "answer": answer.text,
        "finish_reason": answer.finish_reason,
        "prompt_tokens": len(prepared.prompt),
        "answer_tokens": answer.num_tokens,
        "media": prepared.media,
        "notes": prepared.notes,
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "tokens_per_second": None if answer.tokens_per_second is None else round(answer.tokens_per_second, 2),
    }


def _show_nothing(text: str) -> None:
    """The answer is printed as a whole."""
