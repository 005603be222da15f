"""How much memory a device has left for a model, without any package for it.

On Linux the smallest of what the kernel can give without swapping (MemAvailable) and what the control groups of this
process leave: a container is killed at its own limit, however much the machine has. Pages of files count as free in
both, because the kernel drops them first. Elsewhere the answer is None: unknown.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch


def available_bytes(device: torch.device | str = "cpu", root: Path = Path("/")) -> int | None:
    """Bytes that can be allocated on a device now; None where that is unknown.

    Args:
        root: where `proc` and `sys` are.
    """
    device = torch.device(device)
    if device.type == "cuda" and torch.cuda.is_available():
        free, _total = torch.cuda.mem_get_info(device)
        return int(free)
    if device.type != "cpu":
        return None
    machine = _meminfo(root / "proc/meminfo")
    return None if machine is None else min([machine, *_cgroup_rooms(root)])


def _meminfo(path: Path) -> int | None:
    kibibytes = _stat(path, "MemAvailable:")
    return None if kibibytes is None else kibibytes * 1024


def _cgroup_rooms(root: Path) -> Iterator[int]:
    """What each control group above this process leaves, versions 2 and 1."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if not controllers:
            mount, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            mount = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        # In a container the path may be the host's while the mount shows the container's own group as its root.
        folder = mount / group.strip("/")
        for level in (folder, *folder.parents):
            room = _room(level, *names)
            if room is not None:
                yield room
            if level == mount:
                break


def _room(folder: Path, limit_file: str, usage_file: str, cache_key: str) -> int | None:
    limit, usage = _number(_text(folder / limit_file)), _number(_text(folder / usage_file))
    if limit is None or usage is None:
        return None
    droppable = _stat(folder / "memory.stat", cache_key) or 0
    return max(0, limit - usage + droppable)


def _stat(path: Path, key: str) -> int | None:
    """The number behind a word at the beginning of a line."""
    lines = (line.split() for line in _text(path).splitlines())
    return next((_number(words[1]) for words in lines if len(words) > 1 and words[0] == key), None)


def _number(text: str) -> int | None:
    return int(text) if text.strip().isdigit() else None  # "max" is no limit


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
