"""Whole files or none: every file perceptic writes goes through here.

A result is written beside its destination under a temporary name, flushed to disk and renamed over it, so that a
crash, a full disk or Ctrl-C leaves either the old file or the new one.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from perceptic.errors import OutputError


@contextlib.contextmanager
def atomic_path(destination: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the destination's folder; on success it becomes `destination`.

    Parent folders are created. On any exception the temporary file is removed and `destination` is untouched.

    Raises:
        OutputError: the folder cannot be created or written, the disk is full, or a folder is in the way.
    """
    destination = Path(destination)
    temporary: Path | None = None
    try:
        if destination.is_dir():
            raise OutputError(f"{destination}: is a folder; give a file name")
        destination.parent.mkdir(parents=True, exist_ok=True)
        # The suffix stays last: writers such as numpy and Pillow choose the format by it.
        handle, name = tempfile.mkstemp(
            prefix=f".{destination.stem}.part-", suffix=destination.suffix, dir=destination.parent
        )
        os.close(handle)
        temporary = Path(name)
        yield temporary
        _flush(temporary)
        # mkstemp makes 0600; a result should be as readable as any file the user creates.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(destination)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"{destination}: cannot be written: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_bytes(destination: str | Path, content: bytes) -> None:
    """Write `content` to `destination` atomically. Raises OutputError as `atomic_path` does."""
    with atomic_path(destination) as temporary:
        temporary.write_bytes(content)


def write_text(destination: str | Path, content: str) -> None:
    """Write UTF-8 text to `destination` atomically. Raises OutputError as `atomic_path` does."""
    write_bytes(destination, content.encode("utf-8"))


def _flush(path: Path) -> None:
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
