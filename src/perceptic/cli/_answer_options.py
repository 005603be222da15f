"""Options of `perceptic eval` for benchmarks that a language model answers: short for `--set KEY=VALUE`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from perceptic.cli._shared import apply_options

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

_NAMES = ("judge", "judge_model", "mode", "metric", "allow_missing")


def answer_options(function: CommandT) -> CommandT:
    """`--judge`, `--judge-model`, `--mode`, `--metric`, `--allow-missing`."""
    options = (
        click.option(
            "--judge",
            metavar="URL|local:MODEL|lexical",
            help="Who judges texts: an OpenAI-compatible endpoint, a PerceptionLM, or shared words.",
        ),
        click.option("--judge-model", metavar="NAME", help="The endpoint's model."),
        click.option(
            "--mode",
            type=click.Choice(["compatible", "clean"]),
            help="Ask and read answers as the public harness does, oddities included, or as a careful person would.",
        ),
        click.option("--metric", metavar="NAME", help="Of `qa`: anls, multiple_choice, vqa_accuracy, ..."),
        click.option(
            "--allow-missing", is_flag=True, help="Leave out items without readable media, and say so in the report."
        ),
    )
    return apply_options(function, options)


def take_answer_options(arguments: dict[str, Any]) -> dict[str, Any]:
    """Those of the options that were given, taken out of a command's arguments."""
    found = {name: arguments.pop(name) for name in _NAMES}
    return {name: value for name, value in found.items() if value not in (None, False)}
