"""Checkpoints of a run on several processes: each writes its part while training goes on. PyTorch's DCP does the work.

A checkpoint is a folder `step-0000200` of DCP files, which any number of processes can read, and three kinds of small
JSON files: `run.json` (step, samples, and each process's random state and data position) and, from every process, the
sizes and sums of its files. It is written under another name and renamed by the first process when all have written.

The run folder must be on storage that all machines see. Checkpoints of one process (`checkpoint.CheckpointFolder`) can
be read too, so a run may go on with any number of processes.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import threading
import warnings
import zlib
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save
from torch.distributed.checkpoint.storage import WriteResult
from torch.optim import Optimizer

from perceptic.data.positions import redistribute
from perceptic.errors import OutputError, TrainError
from perceptic.files import write_text
from perceptic.train.checkpoint import CheckpointFolder, Found, TrainState, read_state
from perceptic.train.parallel import Processes, new_group
from perceptic.train.sharded_state import load_tensors, load_whole, put_whole, tensors_of

_NAME: Final = re.compile(r"step-(\d{7})")
_RUN: Final = "run.json"
_BEST: Final = "best"


class ShardedCheckpoints:
    """The checkpoints of one run of several processes; keeps the newest `keep`. Every method is called by all."""

    def __init__(self, folder: Path, keep: int, processes: Processes) -> None:
        self.folder = folder
        self.keep = max(1, keep)
        self._processes = processes
        self._single = CheckpointFolder(folder, keep)
        # Saving goes on beside training, whose exchanges must not meet its own.
        self._group = new_group() if processes.count > 1 else None
        self._saving: _Saving | None = None
        if processes.count == 1:  # going on where several were: that is meant so
            warnings.filterwarnings("ignore", message="torch.distributed is disabled", category=UserWarning)

    def save(self, state: TrainState) -> None:
        """Copy what is to be saved and write it in the background; waits for the checkpoint before.

        Args:
            state: this process's; `model` and `optimizer` are those of `sharded_state.tensors_of`.

        Raises:
            OutputError: the checkpoint before could not be written.
        """
        self._save(state, f"step-{state.step:07d}")

    def save_best(self, state: TrainState) -> None:
        """As `save`, in the place of the best before."""
        self._save(state, _BEST)

    def _save(self, state: TrainState, name: str) -> None:
        self.wait()
        run = self._run_of(state)
        path = self.folder / name
        unfinished = path.with_name(f".{path.name}.part")
        if self._processes.is_first:
            _prepare(unfinished)
        self._processes.barrier()
        writer = _SummingWriter(unfinished, self._processes.rank)
        response = async_save(
            _nested(state.model, state.optimizer, state.average),
            storage_writer=writer,
            process_group=self._group,
            no_dist=self._processes.count == 1,
        )
        assert isinstance(response, Future)
        self._saving = _Saving(path)
        publish = (lambda: self._publish(unfinished, path, run)) if self._processes.is_first else (lambda: None)
        self._saving.follow(response, publish)

    def wait(self) -> None:
        """Wait until the checkpoint being written is complete. Raises OutputError if it could not be written."""
        saving, self._saving = self._saving, None
        if saving is None:
            return
        error = saving.result()
        if self._processes.any(error is not None):
            raise OutputError(f"{saving.path}: cannot be written: {error or 'another process says why'}")

    def newest(self) -> Found:
        """The newest checkpoint whose files are whole, without model and optimiser: `load` fills them in.

        Raises:
            TrainError: there are checkpoints and none can be read.
        """
        self.wait()
        problems: list[str] = []
        for name in self._names():
            path = self.folder / name
            problem = self._problem(path)
            if problem is None:
                state, notes = self._read(path)
                return Found(state, (*problems, *notes))
            problems.append(f"{path}: is damaged ({problem})")
        if problems:
            raise TrainError(f"no checkpoint can be read; start again with --fresh. {'; '.join(problems)}")
        return Found(None, ())

    def load(
        self, state: TrainState, model: nn.Module, optimizer: Optimizer, average: dict[str, Any] | None = None
    ) -> None:
        """Put a checkpoint's weights and optimiser state in place, and its average into the tensors of `average`.

        Args:
            state: what `newest` found.

        Raises:
            TrainError: the checkpoint belongs to another model.
        """
        self._load(self.folder / f"step-{state.step:07d}", model, optimizer, average)

    def load_best(self, model: nn.Module, optimizer: Optimizer) -> None:
        """Put the best weights in place. Raises TrainError if there are none or they are damaged."""
        self.wait()
        best = self.folder / _BEST
        # One process may have measured it, in a file; a folder would be a better one since.
        path = best if best.is_dir() else best.with_name(f"{_BEST}.pt")
        problem = self._problem(path)
        if problem is not None:
            raise TrainError(f"{path}: is damaged ({problem})")
        self._load(best, model, optimizer, None)

    def _load(self, path: Path, model: nn.Module, optimizer: Optimizer, average: dict[str, Any] | None) -> None:
        try:
            if path.is_dir():
                tensors = tensors_of(model, optimizer)
                reader = FileSystemReader(path)
                load(
                    _nested(tensors["model"], tensors["optimizer"], average),
                    storage_reader=reader,
                    process_group=self._group,
                    no_dist=self._processes.count == 1,
                )
                load_tensors(model, optimizer, tensors)
            else:
                whole = read_state(path.with_name(f"{path.name}.pt"))
                load_whole(model, optimizer, whole.model, whole.optimizer)
                for name, tensor in (average or {}).items():
                    put_whole(tensor, (whole.average or {})[name])
        except (RuntimeError, ValueError, KeyError, CheckpointException) as error:
            raise TrainError(f"{path}: does not fit the recipe's model; use --fresh. {error}") from error

    def clear(self) -> None:
        """Remove every checkpoint."""
        self.wait()
        if self._processes.is_first:
            self._single.clear()
            for path in [*self._folders(), self.folder / _BEST, *self.folder.glob(".*.part")]:
                shutil.rmtree(path, ignore_errors=True)
        self._processes.barrier()

    def _run_of(self, state: TrainState) -> dict[str, Any]:
        own = {
            "random_state": _to_text(state.random_state),
            "device_random_state": _to_text(state.device_random_state),
            "data": state.data,
        }
        # One of each team: its members read the same data and draw the same numbers.
        processes = self._processes.gather(own)[:: self._processes.tensor]
        return {
            "step": state.step,
            "samples": state.samples,
            "best": state.best,
            "processes": processes,
            "writers": self._processes.count,
        }

    def _publish(self, unfinished: Path, path: Path, run: dict[str, Any]) -> None:
        write_text(unfinished / _RUN, json.dumps(run))
        if path.exists():  # the same step again, after a signal right behind a checkpoint
            shutil.rmtree(path)
        unfinished.rename(path)
        for old in self._folders()[: -self.keep]:
            shutil.rmtree(old, ignore_errors=True)
        for file in self._single.paths():
            if file.stem < path.name:
                file.unlink(missing_ok=True)

    def _folders(self) -> list[Path]:
        found = self.folder.glob("step-*")
        return sorted(path for path in found if path.is_dir() and _NAME.fullmatch(path.name))

    def _names(self) -> list[str]:
        """Newest first, as the first process sees them."""
        here = {path.name: path.stem for path in [*self._folders(), *self._single.paths()]}
        names: list[str] = self._processes.gather(sorted(here, key=lambda name: here[name], reverse=True))[0]
        return names

    def _problem(self, path: Path) -> str | None:
        """What is wrong with a checkpoint; each process looks at some of its files."""
        found = self._processes.gather(_first_problem(path, self._processes))
        return next((problem for problem in found if problem is not None), None)

    def _read(self, path: Path) -> tuple[TrainState, tuple[str, ...]]:
        count, rank = self._processes.reader.count, self._processes.reader.index
        if path.suffix == ".pt":
            state = read_state(path)
            saved = [SavedProcess(state.random_state, state.device_random_state, state.data)]
            step, samples, best = state.step, state.samples, state.best
        else:
            run = json.loads((path / _RUN).read_text(encoding="utf-8"))
            saved = [SavedProcess.of(values) for values in run["processes"]]
            step, samples, best = run["step"], run["samples"], run["best"]
        notes: tuple[str, ...] = ()
        if len(saved) != count:
            saved, notes = redistributed(saved, count, step)
        own = saved[rank]
        found = TrainState(
            step=step,
            model={},
            optimizer={},
            random_state=own.random_state,
            data=own.data,
            samples=samples,
            device_random_state=own.device_random_state,
            best=best,
        )
        return found, notes


Checkpoints = CheckpointFolder | ShardedCheckpoints


def open_checkpoints(folder: Path, keep: int, processes: Processes) -> Checkpoints:
    """Files where one process trains; folders where several do, or did."""
    if processes.count > 1 or any(path.is_dir() for path in folder.glob("step-*")):
        return ShardedCheckpoints(folder, keep, processes)
    return CheckpointFolder(folder, keep)


@dataclass(frozen=True)
class SavedProcess:
    """What is one process's own in a checkpoint."""

    random_state: Tensor
    device_random_state: Tensor | None
    data: dict[str, Any]

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> SavedProcess:
        random_state = _to_tensor(values["random_state"])
        assert random_state is not None
        return cls(random_state, _to_tensor(values["device_random_state"]), values["data"])


def redistributed(saved: list[SavedProcess], count: int, step: int) -> tuple[list[SavedProcess], tuple[str, ...]]:
    """What another number of processes goes on with, and what is approximate about it, for people.

    Raises:
        DataError: positions that cannot be dealt out to others (the original's order).
    """
    notes = [
        f"saved by {len(saved)} processes and resumed by {count}: weights and optimiser are exact; sums are made in "
        "another order, and what is random (DropPath, masks) is drawn anew"
    ]
    data: list[dict[str, Any]] = [{} for _ in range(count)]
    for phase in saved[0].data:
        states = [process.data[phase] for process in saved]
        if any(states):
            dealt = redistribute(states, count)
            notes.append(f"{phase}: {dealt.note}")
            states = list(dealt.states)
        for rank in range(count):
            data[rank][phase] = states[rank] if any(states) else {}
    generators = [torch.Generator().manual_seed(step * count + rank) for rank in range(count)]
    return [SavedProcess(generators[rank].get_state(), None, data[rank]) for rank in range(count)], tuple(notes)


class _Saving:
    """A checkpoint on its way to disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._done = threading.Event()
        self._error: BaseException | None = None

    def follow(self, response: Future[Any], publish: Any) -> None:
        """Publish the checkpoint when all have written."""
        response.add_done_callback(lambda future: self._finish(future, publish))

    def result(self) -> BaseException | None:
        """Wait; returns what went wrong."""
        self._done.wait()
        return self._error

    def _finish(self, future: Future[Any], publish: Any) -> None:
        try:
            self._error = future.exception()
            if self._error is None:
                publish()
        except OSError as error:
            self._error = error
        finally:
            self._done.set()


class _SummingWriter(FileSystemWriter):
    """Notes size and CRC-32 of every file that a process has written, before it tells the others that it is done."""

    def __init__(self, path: Path, rank: int) -> None:
        super().__init__(path)
        self._folder, self._rank = path, rank

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Any:
        written = super().write_data(plan, planner)
        results: list[WriteResult] = written.wait()
        names = sorted({str(result.storage_data.relative_path) for result in results})
        sums = {name: _sum(self._folder / name) for name in names}
        write_text(self._folder / f"files-{self._rank:05d}.json", json.dumps(sums))
        return written


def _nested(model: Any, optimizer: Any, average: dict[str, Any] | None) -> dict[str, Any]:
    """The tensors of a checkpoint as DCP takes them."""
    return {"model": model, "optimizer": optimizer, **({} if average is None else {"average": average})}


def _prepare(unfinished: Path) -> None:
    """An empty folder to write in; what a crash has left goes."""
    for left in unfinished.parent.glob(".*.part"):
        shutil.rmtree(left, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True)
    except OSError as error:
        raise OutputError(f"{unfinished}: cannot be written: {error.strerror or error}") from error


def _first_problem(path: Path, processes: Processes) -> str | None:
    if path.suffix == ".pt":
        try:
            read_state(path)
        except TrainError as error:
            return str(error)
        return None
    try:
        run = json.loads((path / _RUN).read_text(encoding="utf-8"))
        if not (path / ".metadata").stat().st_size:
            return ".metadata is empty"
        for rank in range(processes.rank, run.get("writers", len(run["processes"])), processes.count):
            sums = json.loads((path / f"files-{rank:05d}.json").read_text(encoding="utf-8"))
            for name, wanted in sums.items():
                if _sum(path / name) != wanted:
                    return f"{name} is not what was written"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _sum(path: Path) -> dict[str, int]:
    total, size = 0, 0
    with path.open("rb") as stream:
        while block := stream.read(1 << 24):
            total, size = zlib.crc32(block, total), size + len(block)
    return {"bytes": size, "crc32": total}


def _to_text(state: Tensor | None) -> str | None:
    return None if state is None else base64.b64encode(state.numpy().tobytes()).decode("ascii")


def _to_tensor(text: str | None) -> Tensor | None:
    return None if text is None else torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
