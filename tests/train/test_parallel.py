"""Several processes train what one trains: FSDP2 over Gloo, compared with one process at the same global batch."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from perceptic.errors import ConfigError, TrainError
from perceptic.train.parallel import Place, Processes, find_place, joined
from perceptic.train.parallel_recipe import ParallelRecipe
from perceptic.train.parallel_slurm import first_node

# Processes are started and import torch at the same time: on a busy machine that takes its time.
pytestmark = pytest.mark.timeout(600)

SCRIPT = Path(__file__).with_name("parallel_worker.py")
ALONE = Processes(torch.device("cpu"))


def load_worker() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("parallel_worker", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


worker = load_worker()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def start(count: int, folder: Path, *jobs: str) -> dict[str, Any]:
    """Run jobs of the worker in `count` processes; returns what the first one wrote."""
    port = str(free_port())
    started = []
    for rank in range(count):
        place = {"RANK": rank, "WORLD_SIZE": count, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
        environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in place.items()}}
        command = [sys.executable, str(SCRIPT), str(folder), *jobs]
        with (folder / f"log-{rank}.txt").open("w") as log:
            started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT))
    try:
        codes = [process.wait(timeout=550) for process in started]
    finally:
        for process in started:
            process.kill()
    logs = "\n".join((folder / f"log-{rank}.txt").read_text()[-2000:] for rank in range(count))
    assert codes == [0] * count, logs
    return {job: json.loads((folder / f"{job}.json").read_text()) for job in jobs}


def flat(value: Any) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64).flatten()


def check_losses(found: dict[str, Any]) -> None:
    for name, figures in worker.losses(ALONE).items():
        for what, values in figures.items():
            torch.testing.assert_close(flat(found[name][what]), flat(values), rtol=0, atol=1e-12, msg=f"{name} {what}")


JOBS = ("agreement", "skips", "losses", "clip_full", "clip_lamb", "plm_tied", "plm_frozen", "plm_bf16", "save", "load")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What two processes found; they are started once, since that is what takes the time."""
    folder = tmp_path_factory.mktemp("two")
    return {**start(2, folder, *JOBS), "folder": folder}


@pytest.mark.parametrize("job", ["clip_full", "clip_lamb"])
def test_two_processes_train_a_clip_as_one_does(two: dict[str, Any], job: str) -> None:
    torch.testing.assert_close(flat(two[job]), flat(getattr(worker, job)(ALONE)), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("job", ["plm_tied", "plm_frozen"])
def test_two_processes_train_a_language_model_as_one_does(two: dict[str, Any], job: str) -> None:
    """One of them has no picture, and a tenth of the other's learned tokens; losses are fp32."""
    torch.testing.assert_close(flat(two[job]), flat(getattr(worker, job)(ALONE)), rtol=1e-4, atol=1e-5)


def test_weights_that_travel_in_bf16_are_close(two: dict[str, Any]) -> None:
    torch.testing.assert_close(flat(two["plm_bf16"]), flat(worker.plm_bf16(ALONE)), rtol=0.02, atol=0.01)


def test_losses_over_two_processes_are_those_of_the_whole_batch(two: dict[str, Any]) -> None:
    check_losses(two["losses"])


def test_processes_agree(two: dict[str, Any]) -> None:
    assert two["agreement"] == {
        "any": True,
        "none": False,
        "mean": {"b": 0.5, "a": 1.0},
        "sum": 2.0,
        "readers": [[0, 2], [1, 2]],
        "text": "ready",
        "machines": 1,
    }


def test_the_limit_of_unusable_samples_holds_for_all_processes(two: dict[str, Any]) -> None:
    found = two["skips"]
    assert found["4"] is None
    assert "4 samples could not be used, more than the limit of 3: " in found["3"]
    assert "reason 0 (2), reason 1 (2) (2 processes)" in found["3"]
    assert found["agree"], "every process must end with the same error"


def test_a_checkpoint_written_beside_training_is_of_the_moment_it_was_asked_for(two: dict[str, Any]) -> None:
    found = two["load"]
    assert (found["step"], found["samples"], found["best"], found["warnings"]) == (3, 24, 0.5, [])
    assert found["figures"] == two["save"][2 * 3 :]  # to the bit
    assert found["same_random"]
    assert found["rates"] == [1.0, 1.0, 0.5, 0.5]


def test_the_newest_two_checkpoints_are_kept_and_nothing_unfinished(two: dict[str, Any]) -> None:
    names = sorted(path.name for path in (two["folder"] / "checkpoints").iterdir())
    assert names == ["best", "step-0000002", "step-0000003"]


@pytest.fixture
def copied(two: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the two processes' checkpoints, for this process to read."""
    monkeypatch.setattr(sys, "argv", ["", str(tmp_path)])
    shutil.copytree(two["folder"] / "checkpoints", tmp_path / "checkpoints")
    return tmp_path / "checkpoints"


def test_one_process_goes_on_where_two_were(two: dict[str, Any], copied: Path) -> None:
    found = worker.load(ALONE)
    assert found["step"] == 3
    torch.testing.assert_close(flat(found["figures"]), flat(two["save"][2 * 3 :]), rtol=1e-7, atol=1e-9)
    assert "saved by 2 processes and resumed by 1" in found["warnings"][0]


def spoil_size(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def spoil_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "spoil", "reason"),
    [
        ("__1_0.distcp", spoil_size, "__1_0.distcp is not what was written"),
        ("__0_0.distcp", spoil_bit, "__0_0.distcp is not what was written"),
        ("__1_0.distcp", Path.unlink, "__1_0.distcp is missing"),
        (".metadata", Path.unlink, ".metadata is missing"),
        ("run.json", Path.unlink, "run.json is missing"),
        ("files-00001.json", lambda path: path.write_text("{"), "JSONDecodeError"),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_and_named(
    two: Any, copied: Path, name: str, spoil: Any, reason: str
) -> None:
    spoil(copied / "step-0000003" / name)
    found = worker.load(ALONE)
    assert found["step"] == 2
    assert "step-0000003: is damaged" in found["warnings"][0]
    assert reason in found["warnings"][0]
    torch.testing.assert_close(flat(found["figures"]), flat(two["save"][2 * 2 :]), rtol=1e-7, atol=1e-9)


def test_checkpoints_that_are_all_damaged_are_an_error(copied: Path) -> None:
    for folder in copied.glob("step-*"):
        (folder / "run.json").unlink()
    with pytest.raises(TrainError, match="--fresh"):
        worker.load(ALONE)


@pytest.mark.slow
def test_four_processes(two: dict[str, Any], tmp_path: Path) -> None:
    """Training in two groups of two; and going on where two were."""
    shutil.copytree(two["folder"] / "checkpoints", tmp_path / "checkpoints")
    found = start(4, tmp_path, "clip_hybrid", "plm_tied", "losses", "load")
    check_losses(found["losses"])
    torch.testing.assert_close(flat(found["clip_hybrid"]), flat(worker.clip_full(ALONE)), rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(flat(found["plm_tied"]), flat(worker.plm_tied(ALONE)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(flat(found["load"]["figures"]), flat(two["save"][2 * 3 :]), rtol=1e-7, atol=1e-9)


TORCHRUN = {
    "RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "gpu1", "MASTER_PORT": "29500",
}  # fmt: skip
SLURM = {
    "SLURM_PROCID": "5", "SLURM_NTASKS": "7", "SLURM_LOCALID": "1", "SLURM_STEP_ID": "0", "SLURM_JOB_ID": "123",
    "SLURM_STEP_NODELIST": "gpu[03-04,07]", "SLURM_STEP_TASKS_PER_NODE": "3(x2),1", "SLURM_NODEID": "1",
}  # fmt: skip


def test_a_place_is_read_from_torchrun() -> None:
    assert find_place(TORCHRUN) == Place(3, 8, 1, 2, "gpu1", 29500)


def test_a_place_is_read_from_srun() -> None:
    place = find_place(SLURM)
    assert place is not None
    assert (place.rank, place.count, place.local_rank, place.local_count) == (5, 7, 1, 3)
    assert place.address == "gpu03"
    other = find_place({**SLURM, "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"})
    assert other is not None
    assert other.port == place.port


def test_torchrun_goes_before_srun() -> None:
    assert find_place({**SLURM, **TORCHRUN}) == find_place(TORCHRUN)


@pytest.mark.parametrize("gone", ["SLURM_STEP_ID", "SLURM_PROCID"])
def test_a_batch_script_outside_srun_is_on_its_own(gone: str) -> None:
    assert find_place({name: value for name, value in SLURM.items() if name != gone}) is None


def test_no_launcher_is_one_process() -> None:
    with joined("cpu", {}) as processes:
        assert processes == Processes(torch.device("cpu"))
        assert processes.any(True)
        assert processes.gather(3) == [3]
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RANK": "0"}, "WORLD_SIZE: must be a whole number"),
        ({**TORCHRUN, "RANK": "x"}, "RANK: must be a whole number"),
        ({**TORCHRUN, "RANK": "8"}, "process 8 of 8"),
        ({name: value for name, value in TORCHRUN.items() if name != "MASTER_ADDR"}, "MASTER_ADDR is not set"),
        ({**SLURM, "SLURM_LOCALID": ""}, "SLURM_LOCALID: must be"),
    ],
)
def test_a_place_that_makes_no_sense_is_an_error(environment: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find_place(environment)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("gpu1", "gpu1"), ("gpu1,gpu2", "gpu1"), ("gpu[03-05,9],login", "gpu03"), ("a[7]-ib,b", "a7-ib")],
)
def test_the_first_machine_of_a_list(nodes: str, first: str) -> None:
    assert first_node(nodes) == first


def test_a_group_count_without_groups_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"parallel\.replicate"):
        ParallelRecipe(shard="full", replicate=2)
