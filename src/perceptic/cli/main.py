"""The `perceptic` program: finds a command by name, imports only that one, and turns errors into one message.

Every command lives in `perceptic.cli.<name>` as a click object called `command`. The table below holds names and one
line of help each, so that `perceptic --help` lists them without importing any of them (they pull in torch).
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import traceback

import click

from perceptic.__about__ import __version__
from perceptic.errors import EXIT_INTERRUPTED, PercepticError

COMMANDS: dict[str, str] = {
    "demo": "Make a small collection, search and label it offline, and write one HTML page.",
    "models": "List the models and what each is for.",
    "embed": "Embed images and videos into a parquet, npz or npy file.",
    "classify": "Label images and videos with your own words (zero-shot).",
    "similar": "Rank images and videos by likeness to a text, an image or a video.",
    "show": "Draw what a model sees: feature map, or likeness to a point or a text.",
    "ask": "Ask about images and videos, or just ask.",
    "chat": "Talk about images and videos, turn by turn.",
    "describe": "Describe a picture, a video or a region; list events with times.",
    "locate": "Say when something happens in a video, or where something is in a picture.",
    "caption": "Caption folders of images and videos into a JSONL file.",
    "init": "Write a model folder with random weights.",
    "convert": "Convert a checkpoint between formats.",
    "world": "Write images and videos of the synthetic world with exact captions.",
    "data": "Check training data, show what a model is fed, convert published sets.",
    "train": "Train a model from a recipe.",
    "eval": "Measure models on benchmarks: ours beside the papers' numbers.",
    "layers": "Probe every layer of an encoder and draw score over depth per task.",
    "claims": "Try the papers' claims in miniature: effect, interval, verdict.",
    "reproduce": "Train the bundled models anew and print what they reach.",
    "report": "Measure models on held-out scenes of the synthetic world.",
    "doctor": "Check this installation and say what is missing.",
}

EXIT_FAILURE = 1


class LazyGroup(click.Group):
    """A command group that imports a command's module only when that command runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"perceptic.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="perceptic")
@click.option("--debug", is_flag=True, help="Show the whole traceback when something fails.")
def command(debug: bool) -> None:
    """Perception Encoder and Perception Language Model: embed, search, label, look inside, and ask.

    Embedding and search work offline with the bundled small model, which knows only a synthetic world; name a released
    model (for example --model PE-Core-B16-224) for photographs. Answers need --model Perception-LM-1B or another.
    """


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the `perceptic` script. Exits with 0, 1 (failed), 2 (wrong usage) or 130 (interrupted)."""
    # What our loaders announce, such as a licence before a download, is for the person at the terminal too.
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("perceptic").setLevel(logging.INFO)
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit status instead of leaving the process."""
    try:
        result = command.main(args=arguments, prog_name="perceptic", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:
        return _leave_closed_pipe()
    except click.Abort as error:
        # click turns Ctrl-C into this; a command that can be resumed says how in the interruption's text.
        click.echo(f"Interrupted. {error.__cause__ or ''}".rstrip(), err=True)
        return EXIT_INTERRUPTED
    except PercepticError as error:
        if _wants_traceback(arguments):
            traceback.print_exc()
        else:
            click.echo(f"Error: {error}", err=True)
        return EXIT_FAILURE


def _wants_traceback(arguments: list[str]) -> bool:
    """Whether `--debug` stands before the command's name, where click reads it as ours."""
    for argument in arguments:
        if not argument.startswith("-"):
            return False
        if argument == "--debug":
            return True
    return False


def _leave_closed_pipe() -> int:
    """`perceptic ... | head` closed our output: go quietly, and keep Python's exit flush from complaining."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_FAILURE


if __name__ == "__main__":
    main()
