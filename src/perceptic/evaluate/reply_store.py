"""Texts that cost something to get, by what was asked: a model's answers, a judge's replies. JSON lines, appended.

A line is written by one call behind the last one, so a process that is killed leaves whole lines and at most one that
is cut, which is dropped when the file is opened again. A run that goes on asks only what is not there yet; equal
questions are asked once, in whichever benchmark they come up.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from perceptic.errors import OutputError
from perceptic.tasks.file_lock import exclusive_lock


def content_key(value: Any) -> str:
    """A name for a JSON value: equal values have equal names, whatever the order of their keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


class ReplyStore:
    """Key -> text. Safe to share between threads. Open one with `open_replies`, which holds the lock.

    Attributes:
        path: None keeps the texts in memory alone.
        num_damaged: lines that could not be read; what they held is asked again.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.num_damaged = 0
        self._texts: dict[str, str] = {}
        self._lock = threading.Lock()
        self._handle: int | None = None
        if path is not None:
            self._open(path)

    def get(self, key: str) -> str | None:
        return self._texts.get(key)

    def put(self, key: str, text: str, **facts: Any) -> None:
        """Keep a text; `facts` are for people who read the file. Raises OutputError."""
        with self._lock:
            self._texts[key] = text
            if self._handle is None:
                return
            line = json.dumps({"key": key, "text": text, **facts}, ensure_ascii=False) + "\n"
            content = line.encode("utf-8", "replace")
            try:
                while content:
                    content = content[os.write(self._handle, content) :]
            except OSError as error:
                raise OutputError(f"{self.path}: cannot be written: {error.strerror or error}") from error

    def close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _open(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            content = path.read_bytes()
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                os.ftruncate(self._handle, whole)
        except OSError as error:
            self.close()
            raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
        for line in content[:whole].splitlines():
            self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            row = json.loads(line)
            self._texts[str(row["key"])] = str(row["text"])
        except (ValueError, KeyError, TypeError):
            self.num_damaged += 1


@contextlib.contextmanager
def open_replies(path: Path | None) -> Iterator[ReplyStore]:
    """Lock a file of replies and read it; None keeps them in memory.

    Raises:
        OutputError: another process writes it, or it cannot be written.
    """
    with contextlib.ExitStack() as stack:
        if path is not None:
            lock = path.with_name(path.name + ".lock")
            stack.enter_context(exclusive_lock(lock, f"{path}: another process is writing it; wait for it"))
            stack.callback(lock.unlink, missing_ok=True)
        store = ReplyStore(path)
        stack.callback(store.close)
        yield store
