"""Work done for earlier prompts, found again by what they began with.

A second question about the same video, or the next turn of a conversation, shares its beginning with the prompt before
it: those positions need neither vision tower nor decoder again.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from perceptic.inference.prompts import Cell
from perceptic.models.kv_cache import KVCache


@dataclass(frozen=True)
class _Entry:
    cells: tuple[Cell, ...]
    cache: KVCache


class PrefixCache:
    """The most recent caches of one model, up to a number of them. Safe to share between threads.

    An entry keeps its keys and values in memory: 32 KiB a token for the 1B in bfloat16, 128 KiB for the 8B.
    """

    def __init__(self, max_entries: int = 4) -> None:
        self.max_entries = max_entries
        self._entries: list[_Entry] = []  # most recent last
        self._lock = threading.Lock()

    def known_length(self, cells: Sequence[Cell]) -> int:
        """How many positions from the start are known."""
        with self._lock:
            return max((_shared(entry.cells, cells) for entry in self._entries), default=0)

    def longest(self, cells: Sequence[Cell]) -> KVCache | None:
        """The cache of the longest known beginning of `cells`, shorter than all of them; None if nothing is shared."""
        with self._lock:
            best: _Entry | None = None
            best_length = 0
            for entry in self._entries:
                length = _shared(entry.cells, cells)
                if length > best_length:
                    best, best_length = entry, length
            if best is None:
                return None
            self._entries.remove(best)
            self._entries.append(best)
            # One position at least must be run, to have logits for the next token.
            return best.cache.prefix(min(best_length, len(cells) - 1))

    def store(self, cells: Sequence[Cell], cache: KVCache) -> None:
        """Remember the cache of these positions; entries that are a beginning of it are dropped."""
        assert cache.length == len(cells), f"{len(cells)} positions for a cache of {cache.length}"
        assert cache.batch_size == 1, "only single rows are kept"
        with self._lock:
            kept = [entry for entry in self._entries if _shared(entry.cells, cells) < len(entry.cells)]
            self._entries = [*kept, _Entry(tuple(cells), cache)][-self.max_entries :]

    def clear(self) -> None:
        """Forget everything and free its memory."""
        with self._lock:
            self._entries.clear()


def _shared(left: Sequence[Cell], right: Sequence[Cell]) -> int:
    """How many positions from the start are the same."""
    length = min(len(left), len(right))
    if left[:length] == right[:length]:
        return length
    return next(index for index in range(length) if left[index] != right[index])
