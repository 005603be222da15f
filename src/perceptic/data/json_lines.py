"""JSON Lines files of objects, read from front to back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from perceptic.errors import DataError


def objects(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file; empty lines are passed over. Raises as `numbered_objects`."""
    return (value for _, value in numbered_objects(path))


def numbered_objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file with the numbers of their lines, from 1.

    Raises:
        DataError: the file cannot be read, or a line (it is named) is no JSON object.
    """
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, _object(path, number, line)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def _object(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:  # not JSON, or not UTF-8
        raise DataError(f"{path}:{number}: is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}:{number}: expected an object, not {type(value).__name__}")
    return value
