"""A process's place among those that SLURM's `srun` started, from the variables that it sets.

Read where torchrun's are absent, so `srun perceptic train recipe.yaml` needs no launcher. In a batch script outside
`srun` there is no step, and the process is on its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from perceptic.errors import ConfigError

_FIRST_PORT, _NUM_PORTS = 20000, 20000
_NAMES = re.compile(r"(?P<before>[^\[,]+)(\[(?P<numbers>[^\]]+)\](?P<after>[^,]*))?")


def slurm_place(environment: Mapping[str, str]) -> dict[str, Any] | None:
    """Fields of a `Place`; None outside a job step, or in one of a single process.

    Raises:
        ConfigError: a variable is missing or cannot be read.
    """
    count = environment.get("SLURM_STEP_NUM_TASKS") or environment.get("SLURM_NTASKS")
    if "SLURM_PROCID" not in environment or "SLURM_STEP_ID" not in environment or count in (None, "1"):
        return None
    nodes = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST")
    nodes = nodes or environment.get("SLURM_NODELIST")
    if not nodes:
        raise ConfigError("SLURM_STEP_NODELIST is not set; start with srun, or with torchrun")
    rank, local_rank = _number(environment, "SLURM_PROCID"), _number(environment, "SLURM_LOCALID")
    # All processes of a job step compute the same port; two steps of a job get different ones.
    job, step = _number(environment, "SLURM_JOB_ID"), _number(environment, "SLURM_STEP_ID")
    port = environment.get("MASTER_PORT") or str(_FIRST_PORT + (job * 31 + step) % _NUM_PORTS)
    return {
        "rank": rank,
        "count": _number({"SLURM_NTASKS": str(count)}, "SLURM_NTASKS"),
        "local_rank": local_rank,
        "local_count": _local_count(environment, local_rank),
        "address": environment.get("MASTER_ADDR") or first_node(nodes),
        "port": _number({"MASTER_PORT": port}, "MASTER_PORT"),
    }


def first_node(nodes: str) -> str:
    """The first machine of a list such as `gpu[03-05,9],login`.

    Raises:
        ConfigError: a list that cannot be read.
    """
    match = _NAMES.match(nodes.strip())
    if match is None:
        raise ConfigError(f"SLURM_STEP_NODELIST: cannot be read: {nodes!r}; set MASTER_ADDR to the first machine")
    numbers = match["numbers"]
    first = "" if numbers is None else re.split(r"[-,]", numbers)[0]
    return match["before"] + first + (match["after"] or "")


def _local_count(environment: Mapping[str, str], local_rank: int) -> int:
    """Processes on this machine: `SLURM_STEP_TASKS_PER_NODE` is `4(x2),3` with machines in order."""
    listed = environment.get("SLURM_STEP_TASKS_PER_NODE", "")
    node = environment.get("SLURM_NODEID", "0")
    counts: list[int] = []
    for part in re.finditer(r"(\d+)(?:\(x(\d+)\))?", listed):
        counts += [int(part[1])] * int(part[2] or 1)
    return counts[int(node)] if node.isdigit() and int(node) < len(counts) else local_rank + 1


def _number(environment: Mapping[str, str], name: str) -> int:
    value = environment.get(name, "")
    if not value.isdigit():
        raise ConfigError(f"{name}: must be a whole number, not {value!r}; srun sets it for every process")
    return int(value)
