"""`perceptic data`: look at training data before a run does, and convert published data sets."""

from __future__ import annotations

import click

from perceptic.cli._data_check import check
from perceptic.cli._data_convert import convert


@click.group()
def command() -> None:
    """Check training data, show what a model would be fed, convert published data sets.

    Formats: docs/data.md.
    """


command.add_command(check)
command.add_command(convert)
