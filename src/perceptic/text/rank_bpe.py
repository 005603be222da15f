"""Byte-pair merging by rank, as tiktoken defines it: the lowest-ranked pair first, the leftmost of equals.

Own code because a list of merges cannot say it exactly: there two ways of making one token have different
priorities, here they have the same.
"""

from __future__ import annotations

import functools
import heapq
from collections.abc import Mapping

_MAX_CACHED_PIECES = 1 << 16
_MAX_CACHED_BYTES = 64  # a longer piece is hardly met twice


class RankBPE:
    """Pieces of bytes to ranks. `ranks` must hold all 256 single bytes."""

    def __init__(self, ranks: Mapping[bytes, int]) -> None:
        self._ranks = ranks
        self._cached_merge = functools.lru_cache(_MAX_CACHED_PIECES)(self._merge)

    def encode(self, piece: bytes) -> tuple[int, ...]:
        """The ranks of one piece; a piece that is a token itself is that token."""
        rank = self._ranks.get(piece)
        if rank is not None:
            return (rank,)
        return self._cached_merge(piece) if len(piece) <= _MAX_CACHED_BYTES else self._merge(piece)

    def _merge(self, piece: bytes) -> tuple[int, ...]:
        # Parts are a linked list over byte offsets; candidates a heap in which overtaken ones are skipped when met:
        # n log n, so that a megabyte of one letter is no attack.
        size = len(piece)
        end = list(range(1, size + 1))  # end[i]: where the part that starts at i ends; 0 once it is merged away
        previous = list(range(-1, size - 1))
        candidates = [
            (rank, start, start + 2)
            for start in range(size - 1)
            if (rank := self._ranks.get(piece[start : start + 2])) is not None
        ]
        heapq.heapify(candidates)
        while candidates:
            _, start, stop = heapq.heappop(candidates)
            middle = end[start]
            if middle == 0 or middle >= size or end[middle] != stop:
                continue
            end[start], end[middle] = stop, 0
            if stop < size:
                previous[stop] = start
                self._push(candidates, piece, start, end[stop])
            if start > 0:
                self._push(candidates, piece, previous[start], stop)
        return tuple(self._ranks[piece[start : end[start]]] for start in range(size) if end[start])

    def _push(self, candidates: list[tuple[int, int, int]], piece: bytes, start: int, stop: int) -> None:
        rank = self._ranks.get(piece[start:stop])
        if rank is not None:
            heapq.heappush(candidates, (rank, start, stop))

    def __reduce__(self) -> tuple[type[RankBPE], tuple[Mapping[bytes, int]]]:
        return type(self), (self._ranks,)
