"""JSONL files of training rows, read by row number.

A file is scanned once for the starts of its lines (about 1 GB/s); after that a row costs one seek. Text stays on disk:
registries name files of tens of gigabytes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from perceptic.data.plm_rows import PlmRow, RowError, parse_row
from perceptic.errors import DataError

_BLOCK_BYTES = 1 << 24
_NEWLINE = 10
_MAX_ROW_BYTES = 1 << 26
"""A line of more is no row but a damaged file; it is not read into memory."""


class RowFile:
    """The lines of one file; empty ones count as any other and are rows that cannot be read.

    Raises:
        DataError: the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._starts = _line_starts(path)
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error

    def __len__(self) -> int:
        return len(self._starts) - 1

    def where(self, index: int) -> str:
        """File and line number, as editors count."""
        return f"{self.path}:{index + 1}"

    def row(self, index: int) -> PlmRow:
        """Row `index`, from 0. Raises RowError for a line that is no row."""
        start, end = map(int, self._starts[index : index + 2])
        if end - start > _MAX_ROW_BYTES:
            raise RowError(self.where(index), "row too long", f"it has {end - start:,} bytes")
        try:
            with self.path.open("rb") as stream:
                stream.seek(start)
                value = json.loads(stream.read(end - start))
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read: {error.strerror or error}") from error
        except ValueError as error:  # not JSON, or not UTF-8
            raise RowError(self.where(index), "not JSON", str(error)) from error
        return parse_row(value, self.where(index))


def _line_starts(path: Path) -> NDArray[np.int64]:
    """Offset of each line, and behind them the file's size."""
    parts = [np.zeros(1, dtype=np.int64)]
    size = 0
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            parts.append(np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == _NEWLINE) + (size + 1))
            size += len(block)
    starts = np.concatenate(parts)
    return starts if starts[-1] == size else np.append(starts, size)


class Rows(Protocol):
    """Rows that can be read in any order."""

    def __len__(self) -> int: ...

    def where(self, index: int) -> str:
        """Names a row in messages."""

    def row(self, index: int) -> PlmRow:
        """Row `index`, from 0. Raises SampleError for one that cannot be used."""


@dataclass(frozen=True)
class RowSet:
    """A named data set: the rows of its files one after the other. `root` is where media paths start."""

    name: str
    files: tuple[Rows, ...]
    root: Path

    def __len__(self) -> int:
        return sum(map(len, self.files))

    def row(self, index: int) -> PlmRow:
        """Row `index` of all files. Raises SampleError for one that cannot be used."""
        file, line = self._locate(index)
        return file.row(line)

    def where(self, index: int) -> str:
        """File and line number of a row."""
        file, line = self._locate(index)
        return file.where(line)

    def _locate(self, index: int) -> tuple[Rows, int]:
        line = index
        for file in self.files:
            if line < len(file):
                return file, line
            line -= len(file)
        raise IndexError(f"{self.name} has {len(self)} rows, not {index + 1}")
