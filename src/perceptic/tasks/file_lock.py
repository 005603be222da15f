"""A lock between processes that a crash cannot leave behind: the system drops it when the process ends."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from perceptic.errors import OutputError


@contextlib.contextmanager
def exclusive_lock(path: Path, busy: str) -> Iterator[None]:
    """Hold `path` as a lock. The holder may delete the file (and its folder) while it holds it.

    Raises:
        OutputError: another process holds it (`busy` is the message), or the file cannot be created.
    """
    handle = _acquire(path, busy)
    try:
        yield
    finally:
        os.close(handle)


def _acquire(path: Path, busy: str) -> int:
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            continue  # the holder before us deleted the folder between our two calls
        except OSError as error:
            raise OutputError(f"{path.parent}: cannot be written: {error.strerror or error}") from error
        if not _try_lock(handle):
            os.close(handle)
            raise OutputError(busy)
        # A lock on a file that the holder before us has deleted in the meantime guards nothing: take the new one.
        if _is_same_file(handle, path):
            return handle
        os.close(handle)


def _is_same_file(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _try_lock(handle: int) -> bool:
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
