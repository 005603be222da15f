"""The program's frame: help without torch, one message per error, honest exit statuses."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import click
import pytest

from perceptic.cli import main as program
from perceptic.cli.main import COMMANDS, run
from perceptic.errors import ConfigError


def fake(monkeypatch: pytest.MonkeyPatch, action: object) -> None:
    """Put a command in the place of `models` that does `action`."""

    @click.command()
    def command() -> None:
        action()  # type: ignore[operator]

    module = type(sys)("perceptic.cli.models")
    module.command = command  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "perceptic.cli.models", module)


def raising(error: BaseException) -> object:
    def action() -> None:
        raise error

    return action


def test_help_lists_every_command_without_heavy_imports() -> None:
    code = (
        "import sys\nfrom perceptic.cli.main import run\nassert run(['--help']) == 0\n"
        "heavy = {'torch', 'numpy', 'av', 'PIL', 'pyarrow', 'rich'} & set(sys.modules)\nassert not heavy, heavy"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    for name in COMMANDS:
        assert f"\n  {name}" in result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_exists_and_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = importlib.import_module(f"perceptic.cli.{name}").command
    assert isinstance(command, click.Command)
    assert run([name, "--help"]) == 0
    assert f"perceptic {name}" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert "perceptic, version" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["no-such-command"], ["embed"], ["embed", "a.png", "--no-such-option"]])
def test_wrong_usage_exits_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    assert "Usage:" in capsys.readouterr().err


def test_our_errors_are_one_message(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fake(monkeypatch, raising(ConfigError("nothing is named 'x'")))
    assert run(["models"]) == 1
    captured = capsys.readouterr()
    assert captured.err == "Error: nothing is named 'x'\n"
    assert captured.out == ""


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fake(monkeypatch, raising(ConfigError("nothing is named 'x'")))
    assert run(["--debug", "models"]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_a_bug_is_not_dressed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, raising(ZeroDivisionError("a bug")))
    with pytest.raises(ZeroDivisionError):
        run(["models"])


def test_interruption_exits_130_and_passes_advice_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake(monkeypatch, raising(KeyboardInterrupt("3 of 8 files are saved.")))
    assert run(["models"]) == 130
    assert "Interrupted. 3 of 8 files are saved." in capsys.readouterr().err


def test_a_commands_own_exit_status(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, lambda: click.get_current_context().exit(1))
    assert run(["models"]) == 1


def test_a_closed_pipe_is_quiet(tmp_path: Path) -> None:
    command = f"{sys.executable} -m perceptic.cli.main --help | true"
    result = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}; exit 0"], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.stderr == ""


def test_the_entry_point_leaves_with_the_status() -> None:
    with pytest.raises(SystemExit) as leaving:
        program.main(["no-such-command"])
    assert leaving.value.code == 2
