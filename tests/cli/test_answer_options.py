"""`perceptic eval qa --metric ... --judge ...`: the short options are those of --set, which wins over them."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from perceptic.cli._answer_options import answer_options, take_answer_options
from perceptic.cli.main import run
from perceptic.tasks.fresh_model import write_fresh_model


@click.command()
@answer_options
def shown(**arguments: object) -> None:
    click.echo(sorted(take_answer_options(arguments).items()))


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ([], []),
        (["--metric", "anls", "--mode", "clean"], [("metric", "anls"), ("mode", "clean")]),
        (["--judge", "local:PLM-Nano", "--allow-missing"], [("allow_missing", True), ("judge", "local:PLM-Nano")]),
    ],
)
def test_only_what_was_given(line: list[str], wanted: list[tuple[str, object]]) -> None:
    assert CliRunner().invoke(shown, line).output.strip() == str(wanted)


def test_they_reach_the_runner(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"question": "?", "answer": "x"}\n')
    write_fresh_model("PLM-Nano", tmp_path / "model")
    line = ["eval", "qa", "--model", str(tmp_path / "model"), "--data", str(rows), "--metric", "bleu"]
    assert run(line) == 1
    assert "metric 'bleu' does not exist; choose among exact_match" in capsys.readouterr().err
    assert run([*line, "--set", "metric=x"]) == 1
    assert "metric 'x' does not exist" in capsys.readouterr().err
    assert run([*line, "--mode", "strict"]) == 2
