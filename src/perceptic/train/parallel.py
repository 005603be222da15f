"""The processes that train together: who they are, how they find each other, and how they agree.

`torchrun` and SLURM's `srun` tell each process its place in environment variables; without either, a run is one process
and nothing here touches `torch.distributed`.

    with joined("auto") as processes:
        ...                             # the same code in every process

Tensors of the model travel through NCCL on GPUs and Gloo on CPUs. Flags, figures and small objects go through Gloo
always, in a group of their own that waits for a day: the others wait there while the first process prepares data.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import ProcessGroup

from perceptic.data.mixing import Reader
from perceptic.errors import ConfigError, TrainError
from perceptic.train.parallel_slurm import slurm_place

_PATIENCE = timedelta(days=1)


@dataclass(frozen=True)
class Place:
    """A process's place among all, and where they meet.

    Attributes:
        rank: from 0, of `count` processes. local_rank: from 0, of the `local_count` on this machine.
        address, port: of the meeting point.
    """

    rank: int
    count: int
    local_rank: int
    local_count: int
    address: str
    port: int

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.count or not 0 <= self.local_rank < self.local_count:
            raise ConfigError(
                f"process {self.rank} of {self.count} (here {self.local_rank} of {self.local_count}): processes are "
                "counted from 0; check RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE"
            )


def find_place(environment: Mapping[str, str]) -> Place | None:
    """This process's place as torchrun or srun tells it; None for a process on its own.

    Raises:
        ConfigError: a variable is missing or no number.
    """
    if "RANK" in environment or "WORLD_SIZE" in environment:
        values = {name: _number(environment, name) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT")}
        if "MASTER_ADDR" not in environment:
            raise ConfigError("MASTER_ADDR is not set, but RANK or WORLD_SIZE is; start with torchrun, or set them all")
        local_rank = _number(environment, "LOCAL_RANK", values["RANK"])
        return Place(
            rank=values["RANK"],
            count=values["WORLD_SIZE"],
            local_rank=local_rank,
            local_count=_number(environment, "LOCAL_WORLD_SIZE", max(local_rank + 1, 1)),
            address=environment["MASTER_ADDR"],
            port=values["MASTER_PORT"],
        )
    found = slurm_place(environment)
    return None if found is None else Place(**found)


@dataclass(frozen=True)
class Processes:
    """The processes of a run, seen from one of them. On its own, it has nobody to ask and every call is free.

    Attributes:
        rank: of `count`. machines: on which they run.
        device: that this one trains on.
        tensor: neighbours that do the same work together, each with a share of the decoder; they read the same data.
    """

    device: torch.device
    rank: int = 0
    count: int = 1
    machines: int = 1
    control: ProcessGroup | None = None
    tensor: int = 1

    def teamed(self, tensor: int) -> Processes:
        """The same in teams of `tensor` neighbours; a process on its own has no neighbours.

        Raises:
            ConfigError: the processes cannot form such teams.
        """
        if self.count == 1:
            return self
        if self.count % tensor:
            raise ConfigError(f"parallel.tensor: {self.count} processes cannot form teams of {tensor}")
        return dataclasses.replace(self, tensor=tensor)

    @property
    def is_first(self) -> bool:
        """Whether this process writes and speaks for all."""
        return self.rank == 0

    @property
    def reader(self) -> Reader:
        """Which share of the data this process reads."""
        return Reader(self.rank // self.tensor, self.count // self.tensor)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process. All must ask."""
        return self._sums([float(flag)])[0] > 0

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """Means over processes of figures that all have under the same names."""
        if self.count == 1:
            return dict(values)
        sums = self._sums([values[name] for name in sorted(values)])
        means = {name: total / self.count for name, total in zip(sorted(values), sums, strict=True)}
        return {name: means[name] for name in values}

    def combine(self, figures: Mapping[str, float]) -> dict[str, float]:
        """Figures of all processes as one: counts (whole numbers) are added, once for a team, others averaged."""
        sums = self._sums([float(figures[name]) for name in sorted(figures)])
        total = dict(zip(sorted(figures), sums, strict=True))
        return {
            name: int(total[name]) // self.tensor if isinstance(value, int) else total[name] / self.count
            for name, value in figures.items()
        }

    def sum(self, value: float) -> float:
        """The sum over processes."""
        return self._sums([value])[0]

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, in the order of ranks."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value, group=self.control)
        return values

    def barrier(self) -> None:
        """Wait until every process is here."""
        if self.count > 1:
            dist.barrier(group=self.control)

    @contextlib.contextmanager
    def first_goes_ahead(self) -> Iterator[None]:
        """The first process runs the body alone; the others run it when it is done, and find its results on disk."""
        if not self.is_first:
            self._all_well(True)
        try:
            yield
        except BaseException:
            if self.is_first:
                self._all_well(False)
            raise
        if self.is_first:
            self._all_well(True)

    def _all_well(self, well: bool) -> None:
        if self.any(not well) and well:
            raise TrainError("the first process could not make the run ready; its message says why")

    def _sums(self, values: list[float]) -> list[float]:
        if self.count == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor, group=self.control)
        sums: list[float] = tensor.tolist()
        return sums


@contextlib.contextmanager
def joined(
    device: str = "auto",
    environment: Mapping[str, str] | None = None,
    timeout: timedelta = timedelta(minutes=10),
) -> Iterator[Processes]:
    """Meet the other processes, and part from them at the end.

    Args:
        device: `cpu`, `cuda`, or `auto` for a GPU where there is one. Processes of a machine take one GPU each.
        environment: the process's own unless given.
        timeout: how long to wait for the others to come, and for a step's exchange.

    Raises:
        ConfigError: a place that makes no sense, or no GPU for this process.
        TrainError: the others did not come, or one of them has gone.
    """
    place = find_place(os.environ if environment is None else environment)
    own_device = _device(device, place.local_rank if place else 0)
    if place is None or place.count == 1:
        yield Processes(own_device)
        return
    _meet(place, own_device, timeout)
    try:
        control = new_group()
        yield Processes(own_device, place.rank, place.count, _count_machines(place, control), control)
    except (dist.DistError, RuntimeError) as error:
        if _is_lost_contact(error):
            raise TrainError(
                f"process {place.rank} of {place.count}: another process has ended or cannot be reached; "
                "its own message says why"
            ) from error
        raise
    finally:
        dist.destroy_process_group()


def new_group() -> ProcessGroup:
    """One more way for all processes to talk through Gloo, patiently. All must ask."""
    group = dist.new_group(backend="gloo", timeout=_PATIENCE)
    assert isinstance(group, ProcessGroup)  # it would be a number in a process outside the group
    return group


def _meet(place: Place, device: torch.device, timeout: timedelta) -> None:
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        dist.init_process_group(
            backend,
            init_method=f"tcp://{place.address}:{place.port}",
            rank=place.rank,
            world_size=place.count,
            timeout=timeout,
            device_id=device if device.type == "cuda" else None,
        )
    except (dist.DistError, RuntimeError, ValueError) as error:
        raise TrainError(
            f"process {place.rank} of {place.count} could not meet the others at {place.address}:{place.port} within "
            f"{timeout.total_seconds():.0f} s: {str(error).splitlines()[0]}. Is process 0 on that machine, is the port "
            "free and open between the machines, and were all processes started?"
        ) from error


def _count_machines(place: Place, control: ProcessGroup) -> int:
    first_here = torch.tensor([float(place.local_rank == 0)])
    dist.all_reduce(first_here, group=control)
    return max(1, int(first_here.item()))


def _device(name: str, local_rank: int) -> torch.device:
    if name not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device: must be auto, cpu or cuda, not {name!r}")
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ConfigError("device: there is no CUDA GPU that this torch can use; use auto or cpu")
    if local_rank >= torch.cuda.device_count():
        raise ConfigError(
            f"process {local_rank} of this machine has no GPU: there are {torch.cuda.device_count()}; "
            "start as many processes as there are GPUs"
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def _is_lost_contact(error: Exception) -> bool:
    """Gloo's errors have no type of their own."""
    text = str(error)
    return isinstance(error, dist.DistError) or any(word in text for word in ("gloo/", "Connection closed by peer"))


def _number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    value = environment.get(name)
    if value is None and default is not None:
        return default
    if value is None or not value.strip().isdigit():
        raise ConfigError(f"{name}: must be a whole number, not {value!r}; torchrun sets it for every process")
    return int(value)
