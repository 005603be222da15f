"""Rows of JSONL and parquet files as dictionaries."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from perceptic.data.json_lines import objects
from perceptic.errors import ConfigError, DataError

SUFFIXES = (".jsonl", ".json", ".parquet")
_ROWS_AT_ONCE = 256


def read_table(file: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file, one dictionary each. `.json` holds a list of them.

    Raises:
        ConfigError: another suffix.
        DataError: the file or one of its rows cannot be read; the message has its line.
    """
    if file.suffix not in SUFFIXES:
        raise ConfigError(f"{file}: expected {', '.join(SUFFIXES)}")
    try:
        if file.suffix == ".parquet":
            yield from _parquet(file)
        elif file.suffix == ".json":
            yield from _list(file)
        else:
            yield from objects(file)
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror or error}") from error


def _list(file: Path) -> Iterator[dict[str, Any]]:
    try:
        values = json.loads(file.read_bytes())
    except ValueError as error:
        raise DataError(f"{file}: is no JSON ({error})") from error
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise DataError(f"{file}: expected a list of objects")
    yield from values


def _parquet(file: Path) -> Iterator[dict[str, Any]]:
    try:
        with pq.ParquetFile(file) as table:
            for batch in table.iter_batches(_ROWS_AT_ONCE):
                yield from batch.to_pylist()
    except pa.ArrowException as error:
        raise DataError(f"{file}: is no parquet file ({error})") from error
