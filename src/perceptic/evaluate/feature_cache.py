"""Features on disk by what they were computed from: the bytes of a medium, the weights, the preprocessing, the layer.

A recipe (everything but the medium) is a folder, named by its hash; in it lie parts, each a file of keys and arrays
that appears whole and is never changed. So any number of processes may write and read at once, a crash loses the last
part at most, and nothing needs a lock. A part that cannot be read is as if it were not there.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perceptic.files import atomic_path, write_text

logger = logging.getLogger(__name__)

KEY_BYTES = 16
_MAX_PART_BYTES = 1 << 26
_UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


def content_key(content: bytes) -> bytes:
    """What stands for a medium's bytes: 128 bits of SHA-256."""
    return hashlib.sha256(content).digest()[:KEY_BYTES]


class FeatureCache:
    """Arrays of one shape by key, for one recipe. `folder` None keeps them in memory alone.

    Args:
        recipe: JSON values that decide the features, apart from the media.
    """

    def __init__(self, folder: Path | None, recipe: Mapping[str, Any]) -> None:
        self._values: dict[bytes, NDArray[Any]] = {}
        self._new: list[bytes] = []
        self._new_bytes = 0
        text = json.dumps(recipe, sort_keys=True)
        self.digest = hashlib.sha256(text.encode()).hexdigest()[:32]
        self._folder = None if folder is None else folder / self.digest
        if self._folder is not None:
            if not (self._folder / "recipe.json").exists():
                write_text(self._folder / "recipe.json", text + "\n")
            self._load(sorted(self._folder.glob("part-*.npz")))

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: bytes) -> NDArray[Any] | None:
        """The features of a medium, or None if they are yet to be computed."""
        return self._values.get(key)

    def add(self, key: bytes, value: NDArray[Any]) -> None:
        """Keep the features of a medium; they are written with the next `flush`, or when 64 MB have gathered."""
        if key in self._values:
            return
        self._values[key] = value
        self._new.append(key)
        self._new_bytes += value.nbytes
        if self._new_bytes >= _MAX_PART_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is new. Raises OutputError."""
        if self._folder is not None and self._new:
            keys = np.frombuffer(b"".join(self._new), dtype=np.uint8).reshape(-1, KEY_BYTES)
            values = np.stack([self._values[key] for key in self._new])
            name = hashlib.sha256(keys.tobytes() + f"{os.getpid()}".encode()).hexdigest()[:24]
            with atomic_path(self._folder / f"part-{name}.npz") as temporary:
                np.savez(temporary, keys=keys, values=values)
        self._new, self._new_bytes = [], 0

    def _load(self, parts: Iterable[Path]) -> None:
        for part in parts:
            try:
                with part.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
                    keys, values = content["keys"], content["values"]
            except _UNREADABLE as error:
                logger.warning("%s: not readable, its features are computed again (%s)", part, error)
                continue
            for key, value in zip(keys, values, strict=True):
                self._values.setdefault(key.tobytes(), value)


def keys_digest(keys: Sequence[bytes]) -> str:
    """One hash of many media, in their order: what a result says it was measured on."""
    return hashlib.sha256(b"".join(keys)).hexdigest()[:32]
