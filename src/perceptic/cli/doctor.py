"""`perceptic doctor`: is this installation sound?"""

from __future__ import annotations

import click

from perceptic.cli._shared import json_option, print_json

_MARKS = {"ok": "ok     ", "missing": "missing", "broken": "BROKEN "}


@click.command()
@json_option
def command(as_json: bool) -> None:
    """Check this installation and say what is missing.

    The exit status is 1 if something essential is broken; optional parts that are missing do not count.
    """
    from perceptic.tasks.doctor import examine

    report = examine()
    if as_json:
        print_json({"healthy": report.healthy, "findings": report.findings})
    else:
        for finding in report.findings:
            click.echo(f"{_MARKS[finding.state]}  {finding.topic}: {finding.text}")
    if not report.healthy:
        click.get_current_context().exit(1)
