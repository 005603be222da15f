"""What several commands share: options with one name and meaning everywhere, progress bars, JSON."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from perceptic.tasks.media_stream import OnProgress

CommandT = TypeVar("CommandT", bound=Callable[..., Any])
_MAX_FAILURES_SHOWN = 10


device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")
dtype_option = click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    default="auto",
    show_default=True,
    help="What the model computes in; auto: as saved if this machine has units for it, else float32.",
)


def model_options(function: CommandT) -> CommandT:
    """`--model`, `--device`, `--dtype`."""
    options = (
        click.option(
            "--model",
            default="PE-Core-Nano",
            show_default=True,
            metavar="MODEL",
            help="Zoo name (see `perceptic models`), hub repository, folder or file.",
        ),
        device_option,
        dtype_option,
    )
    return apply_options(function, options)


def media_options(function: CommandT) -> CommandT:
    """`--num-frames`, `--batch-size`, `--method`."""
    options = (
        click.option(
            "--num-frames",
            type=click.IntRange(min=1),
            default=8,
            show_default=True,
            help="Frames taken evenly from each video.",
        ),
        click.option(
            "--batch-size",
            type=click.IntRange(min=1),
            default=32,
            show_default=True,
            help="Pictures that go through the model at once.",
        ),
        click.option(
            "--method",
            type=click.Choice(["exact", "fast"]),
            help="Resizing: exact as in training (default), or fast and up to one grey level off.",
        ),
    )
    return apply_options(function, options)


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")


def read_paths(paths: tuple[str, ...]) -> list[str]:
    """Paths from the command line; `-` stands for one path per line on standard input."""
    found: list[str] = []
    for path in paths:
        if path != "-":
            found.append(path)
            continue
        found.extend(line.rstrip("\r\n") for line in sys.stdin if line.strip())
    return found


def print_json(value: object) -> None:
    """One JSON object on standard output; dataclasses become objects."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=_as_object))


def _as_object(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def print_failures(failures: dict[str, str]) -> None:
    """Unreadable files and why, on standard error; the first few of many."""
    for path, reason in list(failures.items())[:_MAX_FAILURES_SHOWN]:
        click.echo(f"  {path}: {reason}", err=True)
    if len(failures) > _MAX_FAILURES_SHOWN:
        click.echo(f"  ... and {len(failures) - _MAX_FAILURES_SHOWN} more", err=True)


@contextlib.contextmanager
def progress_bar(label: str, unit: str = "files") -> Iterator[OnProgress]:
    """A progress bar on standard error while it is a terminal; silent otherwise, so that logs stay readable."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from perceptic.tasks.media_stream import Progress as Done

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(label, total=None, rate="")

        def update(done: Done) -> None:
            speed = bar.tasks[0].speed
            rate = f"{speed:.0f} {unit}/s" if speed else ""
            failed = f", {done.failed} failed" if done.failed else ""
            bar.update(task, completed=done.done, total=done.total, rate=rate + failed)

        yield update


def apply_options(function: CommandT, options: tuple[Callable[[CommandT], CommandT], ...]) -> CommandT:
    """Decorate a command with several options; help lists them in this order."""
    for option in reversed(options):
        function = option(function)
    return function
