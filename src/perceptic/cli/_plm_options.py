"""Options that the commands of the language model share: which model, how it looks, how it answers.

Each group of options comes with a function that takes them out of a command's keyword arguments again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from perceptic.cli._shared import apply_options, device_option, dtype_option
from perceptic.errors import NotEnoughMemoryError

if TYPE_CHECKING:
    from perceptic.inference.sampling import GenerationOptions
    from perceptic.tasks.assistant import Assistant
    from perceptic.tasks.seeing import Sampling, Seeing

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

BoxNumbers = tuple[float, float, float, float]

_MODEL_NAMES = ("model", "device", "dtype", "vision_device", "weights")
_SEEING_NAMES = ("num_frames", "max_num_tiles", "start_seconds", "end_seconds", "sampling", "beyond_training")
_GENERATION_NAMES = (
    "max_new_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed", "stop",
)  # fmt: skip


def parse_box(text: str) -> BoxNumbers:
    """`x1,y1,x2,y2`: left, top, right and bottom in pixels. Raises click.BadParameter."""
    try:
        left, top, right, bottom = (float(part) for part in text.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not four numbers with commas between them: 40,60,200,180") from error
    if not (left <= right and top <= bottom):
        raise click.BadParameter(f"{text!r} must be left, top, right, bottom with left <= right and top <= bottom")
    return left, top, right, bottom


def parse_time(text: str) -> float:
    """Seconds (`83.5`), minutes (`1:23.5`) or hours (`1:02:03`). Raises click.BadParameter."""
    try:
        parts = [float(part) for part in text.split(":")]
    except ValueError:
        parts = []
    if not 1 <= len(parts) <= 3 or not all(0 <= part < 1e9 for part in parts):
        raise click.BadParameter(f"{text!r} is no time; write seconds (83.5) or minutes and seconds (1:23.5)")
    seconds = 0.0
    for part in parts:
        seconds = 60 * seconds + part
    return seconds


def plm_options(function: CommandT) -> CommandT:
    """`--model`, `--device`, `--dtype`, `--vision-device`, `--weights`, `--ignore-memory` of a language model."""
    options = (
        click.option(
            "--model",
            default="PLM-Nano",
            show_default=True,
            metavar="MODEL",
            help="Name (Perception-LM-1B, -3B, -8B), hub repository or folder.",
        ),
        device_option,
        dtype_option,
        click.option("--vision-device", metavar="DEVICE", help="Where the vision tower runs, if elsewhere."),
        click.option(
            "--weights",
            type=click.Choice(["int8", "int4"]),
            help="Keep the decoder in 8 or 4 bits: less memory, faster, a little less exact. Default: as in the files.",
        ),
        click.option("--ignore-memory", is_flag=True, help="Load the model even if it does not seem to fit."),
    )
    return apply_options(function, options)


def seeing_options(function: CommandT) -> CommandT:
    """`--frames`, `--tiles`, `--start`, `--end`, `--sampling`, `--beyond-training`."""
    options = (
        click.option(
            "--frames",
            "num_frames",
            type=click.IntRange(min=1),
            help="Most frames of each video. Default: the model's own number, shared by all videos.",
        ),
        click.option(
            "--tiles",
            "max_num_tiles",
            type=click.IntRange(min=0),
            help="Most tiles of each picture; 0 is one small view of it. Default: the model's own number for a "
            "picture alone, 0 for each of several.",
        ),
        click.option(
            "--start",
            "start_seconds",
            type=parse_time,
            metavar="TIME",
            help="Look at videos from here on: seconds (83.5) or minutes and seconds (1:23.5).",
        ),
        click.option("--end", "end_seconds", type=parse_time, metavar="TIME", help="Look at videos up to here."),
        click.option(
            "--sampling",
            type=click.Choice(["one_per_second", "uniform"]),
            help="How frames are chosen: as in training (the default of most commands), or evenly from the first "
            "to the last (where answers speak of frame numbers).",
        ),
        click.option(
            "--beyond-training",
            is_flag=True,
            help="Allow more frames or tiles than the model was trained with. Answers may get worse.",
        ),
    )
    return apply_options(function, options)


def generation_options(max_new_tokens: int = 256) -> Callable[[CommandT], CommandT]:
    """`--max-tokens`, `--temperature`, `--top-p`, `--top-k`, `--min-p`, `--repetition-penalty`, `--seed`, `--stop`."""
    options = (
        click.option(
            "--max-tokens",
            "max_new_tokens",
            type=click.IntRange(min=1),
            default=max_new_tokens,
            show_default=True,
            help="Longest answer.",
        ),
        click.option(
            "--temperature",
            type=click.FloatRange(min=0),
            default=0.0,
            show_default=True,
            help="0 always takes the most probable token; above, chance decides.",
        ),
        click.option("--top-p", type=click.FloatRange(0, 1), help="Draw among the most probable tokens of this mass."),
        click.option("--top-k", type=click.IntRange(min=1), help="Draw among this many tokens."),
        click.option(
            "--min-p", type=click.FloatRange(0, 1), help="Draw among tokens with this fraction of the likeliest's mass."
        ),
        click.option(
            "--repetition-penalty",
            type=click.FloatRange(min=0, min_open=True),
            default=1.0,
            show_default=True,
            help="Above 1: less of what was said.",
        ),
        click.option("--seed", type=click.IntRange(min=0), help="Of chance; the same seed gives the same answer."),
        click.option("--stop", multiple=True, metavar="TEXT", help="End the answer before this text. Repeatable."),
    )
    return lambda function: apply_options(function, options)


allow_network_option = click.option(
    "--allow-network", is_flag=True, help="Fetch pictures and videos that are given as http(s) addresses."
)


def box_option(text: str) -> Callable[[CommandT], CommandT]:
    """`--box X1,Y1,X2,Y2`, any number of times; a command gets `boxes`."""
    return click.option("--box", "boxes", type=parse_box, metavar="X1,Y1,X2,Y2", multiple=True, help=text)


def take_seeing(options: dict[str, Any], sampling: Sampling = "one_per_second") -> Seeing:
    """Remove the options of `seeing_options` and make them what the tasks take.

    Args:
        sampling: where `--sampling` is not given.

    Raises:
        ConfigError: settings that contradict each other.
    """
    from perceptic.tasks.seeing import Seeing

    given = {name: options.pop(name) for name in _SEEING_NAMES}
    return Seeing(**given | {"sampling": given["sampling"] or sampling})


def take_generation(options: dict[str, Any]) -> GenerationOptions:
    """Remove the options of `generation_options` and make them what generation takes. Raises ConfigError."""
    from perceptic.inference.sampling import GenerationOptions

    chosen = GenerationOptions(**{name: options.pop(name) for name in _GENERATION_NAMES})
    if chosen.is_greedy and (chosen.top_p, chosen.top_k, chosen.min_p, chosen.seed) != (None, None, None, None):
        click.echo(
            "Note: at --temperature 0 nothing is left to chance; the other sampling options do nothing.", err=True
        )
    return chosen


def take_assistant(options: dict[str, Any]) -> Assistant:
    """Remove the options of `plm_options` and load that model.

    Raises:
        ConfigError, TextError, WeightsError and its kinds: see `Assistant.load`.
        NotEnoughMemoryError: it does not fit; the options that would help are named.
    """
    from perceptic.tasks.assistant import Assistant

    chosen = {name: options.pop(name) for name in _MODEL_NAMES}
    check_memory = not options.pop("ignore_memory")
    try:
        return Assistant.load(chosen.pop("model"), check_memory=check_memory, **chosen)
    except NotEnoughMemoryError as error:
        raise NotEnoughMemoryError(f"{error}. On the command line: --weights int8, --ignore-memory") from error
