"""Several processes from one command: they know their places, and end together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from perceptic.errors import ConfigError
from perceptic.train import launch
from perceptic.train.launch import run_together
from perceptic.train.parallel import find_place

pytestmark = pytest.mark.timeout(600)

PHASES = """phases=[{name: images, data: images, batch_size: 8, learning_rate: 0.003, warmup_steps: 1,
stages: [{image_size: 16, steps: 6}]}]"""
TELL = "import json, os, sys; json.dump(dict(os.environ), open(f'{sys.argv[1]}/{os.environ[\"RANK\"]}', 'w'))"
LAUNCH = "import sys; from perceptic.train.launch import run_together; sys.exit(run_together(sys.argv[1:], 2))"
LISTEN = """
import os, pathlib, signal, sys, time
folder, rank = pathlib.Path(sys.argv[1]), os.environ["RANK"]
def stop(number, frame):
    (folder / f"told-{rank}").touch()
    sys.exit(130)
signal.signal(signal.SIGTERM, stop)
(folder / f"ready-{rank}").touch()
while not (folder / "told-0").exists():
    time.sleep(0.05)
sys.exit(130)
"""
FAIL = """
import os, pathlib, sys, time
rank, failed = os.environ["RANK"], pathlib.Path(sys.argv[1]) / "failed"
if rank == "2":
    failed.touch()
while not failed.exists():
    time.sleep(0.05)
time.sleep(0 if rank == "2" else 3)
sys.exit(f"I am {rank}")
"""
STUCK = """
import os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
(pathlib.Path(sys.argv[1]) / f"ready-{os.environ['RANK']}").touch()
time.sleep(600)
"""


def test_processes_know_their_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert run_together([sys.executable, "-c", TELL, str(tmp_path)], 3) == 0
    told = [json.loads((tmp_path / str(rank)).read_text()) for rank in range(3)]
    places = [find_place(environment) for environment in told]
    assert [(place.rank, place.local_rank) for place in places if place] == [(0, 0), (1, 1), (2, 2)]
    assert {(place.count, place.local_count, place.address) for place in places if place} == {(3, 3, "127.0.0.1")}
    assert len({place.port for place in places if place}) == 1
    assert {environment["OMP_NUM_THREADS"] for environment in told} == {str(max(1, len(os.sched_getaffinity(0)) // 3))}


def test_a_number_of_threads_that_was_set_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert run_together([sys.executable, "-c", TELL, str(tmp_path)], 2) == 0
    assert json.loads((tmp_path / "1").read_text())["OMP_NUM_THREADS"] == "7"


def test_one_that_fails_is_the_exit_status() -> None:
    assert run_together([sys.executable, "-c", "import os, sys; sys.exit(3 * int(os.environ['RANK']))"], 2) == 3


def test_what_the_first_to_fail_says_is_told_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_together([sys.executable, "-c", FAIL, str(tmp_path)], 3) == 1
    assert sorted(capfd.readouterr().err.splitlines()) == ["I am 0", "I am 2"]


def test_those_that_do_not_notice_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_GRACE_SECONDS", 0.5)
    waits = "import os, sys, time; sys.exit(7) if os.environ['RANK'] == '1' else time.sleep(600)"
    assert run_together([sys.executable, "-c", waits], 3) == 7


def test_one_that_is_killed_is_told_as_a_shell_does() -> None:
    killed = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert run_together([sys.executable, "-c", killed], 2) == 128 + signal.SIGKILL


def test_one_of_several_starts_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="torchrun"):
        run_together([sys.executable, "-c", ""], 2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_the_first_process_once(tmp_path: Path, number: signal.Signals) -> None:
    launcher = _launch([sys.executable, "-c", LISTEN, str(tmp_path)])
    _wait_for(tmp_path / "ready-0", tmp_path / "ready-1")
    launcher.send_signal(number)
    assert launcher.wait(30) == 130
    assert (tmp_path / "told-0").exists()
    assert not (tmp_path / "told-1").exists()


def test_a_second_signal_ends_them_at_once(tmp_path: Path) -> None:
    launcher = _launch([sys.executable, "-c", STUCK, str(tmp_path)])
    _wait_for(tmp_path / "ready-0", tmp_path / "ready-1")
    launcher.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert launcher.poll() is None
    launcher.send_signal(signal.SIGINT)
    assert launcher.wait(30) == 128 + signal.SIGKILL


def test_the_command_trains_in_two_processes_as_in_one(recipe_path: Path, tmp_path: Path, data_cache: Path) -> None:
    for count in ("1", "2"):
        assert _train(recipe_path, data_cache, tmp_path / count, PHASES, count).wait(300) == 0
        assert (tmp_path / count / "model" / "model.safetensors").exists()
    assert len(_losses(tmp_path / "1")) == 6
    assert _losses(tmp_path / "2") == pytest.approx(_losses(tmp_path / "1"), abs=1e-4)


def test_the_command_is_stopped_and_goes_on(recipe_path: Path, tmp_path: Path, data_cache: Path) -> None:
    settings = recipe_path, data_cache, tmp_path / "run", PHASES.replace("steps: 6", "steps: 400"), "2"
    started = _train(*settings)
    _wait_for(tmp_path / "run" / "metrics.jsonl", seconds=200)
    while not _losses(tmp_path / "run"):
        time.sleep(0.1)
    started.send_signal(signal.SIGINT)
    assert started.wait(100) == 130
    (newest,) = (tmp_path / "run" / "checkpoints").iterdir()
    done = len(_losses(tmp_path / "run"))
    assert newest.name == f"step-{done:07d}"
    again = _train(*settings)
    while len(_losses(tmp_path / "run")) == done and again.poll() is None:
        time.sleep(0.1)
    again.send_signal(signal.SIGTERM)
    assert again.wait(100) == 130
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(len(steps)))
    assert len(steps) > done


def _train(recipe: Path, cache: Path, out: Path, phases: str, processes: str) -> subprocess.Popen[bytes]:
    command = ["perceptic", "train", str(recipe), "--out", str(out), "--cache", str(cache), "--processes", processes]
    changes = ["--set", phases, "--set", "checkpoint={every_steps: 1000, keep: 1}"]
    return subprocess.Popen([sys.executable, "-m", *command, *changes])


def _losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def _launch(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", LAUNCH, *command])


def _wait_for(*paths: Path, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not all(path.exists() for path in paths):
        assert time.monotonic() < end, "the processes did not start"
        time.sleep(0.05)
