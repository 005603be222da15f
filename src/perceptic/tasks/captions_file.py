"""Captions on disk: JSON lines, one file of media each, appended as they come.

A row is written whole by one call, and only ever behind the last one, so that a process killed at any instant leaves
whole rows and at most one that is cut; that one is dropped when the file is opened again. Each row says what made it,
so that a file needs nothing beside it and is never continued by something else.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from perceptic.__about__ import __version__
from perceptic.errors import ConfigError, DataError, OutputError
from perceptic.files import atomic_path
from perceptic.media.collection import MediaFile
from perceptic.tasks.file_lock import exclusive_lock
from perceptic.tasks.media_list import FileState, file_state

SUFFIX = ".jsonl"
_ROW_BEGIN = b'{"path": "'
# Not the dtype: a run may go on another machine.
_DECISIVE = ("weights", "image_prompt", "video_prompt", "seeing", "options")


@dataclass(frozen=True)
class CaptionSettings:
    """What made a caption. What must be equal for a file to be continued: all but model name, dtype and version."""

    model: str
    weights: str  # fingerprint of the weights
    dtype: str
    image_prompt: str
    video_prompt: str
    seeing: dict[str, Any]
    options: dict[str, Any]
    perceptic: str = __version__


@dataclass(frozen=True)
class CaptionRow:
    """One media file. Either `text` or `error` is set.

    Attributes:
        size_bytes, modified_ns: of the file, as it was when it was read; -1: could not be asked.
    """

    path: str
    kind: str
    text: str | None = None
    error: str | None = None
    finish_reason: str | None = None
    num_prompt_tokens: int | None = None
    num_answer_tokens: int | None = None
    width: int | None = None
    height: int | None = None
    frame_seconds: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()
    size_bytes: int = -1
    modified_ns: int = -1


class CaptionsFile:
    """An output while it is written. Open it with `open_captions`, which holds the lock."""

    def __init__(self, output: Path, settings: CaptionSettings, restart: bool) -> None:
        self.output = output
        self._made_with: dict[str, Any] = json.loads(json.dumps(asdict(settings)))
        self._done: dict[str, FileState] = {}
        self._known: set[str] = set()
        self._has_old_rows = False
        if output.exists():
            _mend_end(output)
            for number, row in _rows(output):
                if not restart:
                    self._take(number, row)
        with _file_errors(output):
            self._handle = os.open(
                output, os.O_WRONLY | os.O_CREAT | os.O_APPEND | (os.O_TRUNC if restart else 0), 0o666
            )

    def has(self, file: MediaFile) -> bool:
        """Whether a file has its caption and is as it was then."""
        known = self._done.get(str(file.path))
        return known is not None and known == file_state(file.path)

    def append(self, row: CaptionRow) -> None:
        """Keep a row. Raises OutputError (no space, no permission)."""
        fields = {name: value for name, value in asdict(row).items() if value is not None and value != ()}
        content = _line({**fields, "made_with": self._made_with})
        self._remember(row.path)
        with _file_errors(self.output):
            written = 0
            while written < len(content):
                written += os.write(self._handle, content[written:])

    def finish(self) -> None:
        """Leave one row for each path, the newest. Raises OutputError."""
        with _file_errors(self.output):
            os.fsync(self._handle)
        if not self._has_old_rows:
            return
        newest = {row["path"]: number for number, row in _rows(self.output)}
        kept = set(newest.values())
        with atomic_path(self.output) as temporary, temporary.open("wb") as target, self.output.open("rb") as source:
            target.writelines(line for number, line in enumerate(source, start=1) if number in kept)

    def close(self) -> None:
        os.close(self._handle)

    def _take(self, number: int, row: dict[str, Any]) -> None:
        there = row["made_with"]
        for name in _DECISIVE:
            if there.get(name) != self._made_with[name]:
                raise ConfigError(
                    f"{self.output}: line {number} was made with other settings ({name}: {_short(there.get(name))} "
                    f"there, {_short(self._made_with[name])} now). Use the same settings, another output file, or "
                    "--restart to throw away what is there"
                )
        self._remember(row["path"])
        self._done.pop(row["path"], None)
        if "text" in row:
            self._done[row["path"]] = (row.get("size_bytes", -1), row.get("modified_ns", -1))

    def _remember(self, path: str) -> None:
        self._has_old_rows |= path in self._known
        self._known.add(path)


@contextlib.contextmanager
def open_captions(output: Path, settings: CaptionSettings, restart: bool = False) -> Iterator[CaptionsFile]:
    """Lock an output and read what is already in it.

    Args:
        restart: throw away what is there, if it is a captions file.

    Raises:
        ConfigError: another suffix, or rows made with other settings.
        DataError: the existing file is no captions file, or a line of it is damaged.
        OutputError: another process writes it, or it cannot be written.
    """
    if output.suffix != SUFFIX:
        raise ConfigError(f"{output}: the output must end in {SUFFIX}")
    if output.is_dir():
        raise OutputError(f"{output}: is a folder; give a file name")
    lock = output.with_name(output.name + ".lock")
    with exclusive_lock(lock, f"{output}: another process is writing it; wait for it or choose another output"):
        try:
            captions = CaptionsFile(output, settings, restart)
            try:
                yield captions
            finally:
                captions.close()
        finally:
            lock.unlink(missing_ok=True)


def _rows(output: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers from 1, and rows."""
    with _file_errors(output), output.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(
                    f"{output}: line {number} is no JSON ({error}); delete it, and its file is described again"
                ) from error
            if not _is_row(row):
                raise DataError(f"{output}: line {number} is no row of a captions file; choose another output file")
            yield number, row


def _is_row(row: object) -> bool:
    return (
        isinstance(row, dict)
        and isinstance(row.get("path"), str)
        and isinstance(row.get("made_with"), dict)
        and ("text" in row) != ("error" in row)
    )


def _mend_end(output: Path) -> None:
    """Drop a row that was cut; add the line end that an editor took."""
    with _file_errors(output), output.open("rb+") as stream:
        start, last = 0, b"\n"
        for line in stream:
            start, last = start + len(last), line
        if last.endswith(b"\n"):
            return
        try:
            json.loads(last)
        except ValueError:
            # Only what can be the beginning of a row of ours is thrown away; other files stay as they are.
            if last[: len(_ROW_BEGIN)] == _ROW_BEGIN[: len(last)]:
                stream.truncate(start - 1)
        else:
            stream.write(b"\n")


def _line(row: dict[str, Any]) -> bytes:
    try:
        return json.dumps(row, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # a path need not be Unicode
        return json.dumps(row).encode() + b"\n"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


@contextlib.contextmanager
def _file_errors(output: Path) -> Iterator[None]:
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"{output}: cannot be written: {error.strerror or error}") from error
