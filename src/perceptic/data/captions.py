"""The captions that come with a picture or video: lines of a `txt`, or fields of a JSON sidecar.

datasets-and-benchmarks 1.1 and 3.1. Samples carry three texts, short, medium and long; where there are fewer, the last
one stands in for the longer ones.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from perceptic.data.samples import SampleError

Captions = tuple[str, str, str]

FIELDS: Final = ("description", "caption", "model_caption", "human_caption")
"""Caption fields of a sidecar, by how long their texts usually are."""

MAX_BYTES: Final = 1 << 24
"""Larger text files and sidecars are refused before they are read: they are something else, or damaged."""


def sidecar_fields(content: bytes, where: str) -> dict[str, Any]:
    """A JSON sidecar's object; anything but an object counts as empty.

    Raises:
        SampleError: not JSON, or not UTF-8.
    """
    try:
        value = json.loads(content)
    except ValueError as error:
        raise SampleError(where, "bad JSON", f"its json cannot be parsed: {error}") from error
    return value if isinstance(value, dict) else {}


def text_captions(content: bytes, where: str) -> Captions:
    """Captions of a text file, one per line. Raises SampleError if it is not UTF-8 or is blank."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SampleError(where, "caption is not UTF-8", f"{error.reason} at byte {error.start}") from error
    return three_captions([_unescape(line) for line in text.splitlines()], where)


def sidecar_captions(fields: Mapping[str, Any], where: str) -> Captions:
    """Captions of a sidecar. Raises SampleError if none of the known fields holds a text."""
    texts = [text for text in map(fields.get, FIELDS) if isinstance(text, str) and text.strip()]
    if not texts:
        raise SampleError(where, "no caption", f"neither a txt nor one of {', '.join(FIELDS)} in a json")
    return three_captions(texts, where)


def three_captions(texts: Sequence[str], where: str) -> Captions:
    """The first three texts that are not blank. Raises SampleError if all are."""
    said = [text for text in texts if text.strip()]
    if not said:
        raise SampleError(where, "empty caption")
    return said[0], said[min(1, len(said) - 1)], said[min(2, len(said) - 1)]


def _unescape(line: str) -> str:
    """Undo the escapes of a caption that spans lines."""
    return line.replace("\\\\", "\0").replace("\\n", "\n").replace("\0", "\\")
