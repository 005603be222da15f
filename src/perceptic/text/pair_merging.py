"""Counting pairs of neighbouring symbols while they are merged: what every byte-pair trainer does.

Own code because the trainer of `tokenizers` breaks ties by hash order: the same corpus gives other files. Here ties go
to the alphabetically first pair.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Mapping
from itertools import pairwise

Pair = tuple[str, str]


class PairCounts:
    """Distinct words as lists of symbols, with the count of every pair of neighbours kept up to date."""

    def __init__(self, words: Mapping[tuple[str, ...], int]) -> None:
        """`words` are symbol sequences and how often each occurs; their order does not matter."""
        ordered = sorted(words)
        self._symbols = [list(word) for word in ordered]
        self._counts = [words[word] for word in ordered]
        self._pair_counts: Counter[Pair] = Counter()
        self._words_with: defaultdict[Pair, set[int]] = defaultdict(set)
        self._made: set[str] = set()
        for word in range(len(ordered)):
            self._add_pairs(word)
        self._queue = [(-count, pair) for pair, count in self._pair_counts.items()]
        heapq.heapify(self._queue)

    def most_frequent_pair(self) -> Pair | None:
        """None when every word is one symbol. Pairs that would make an existing symbol again are passed over."""
        while self._queue:
            negative_count, pair = heapq.heappop(self._queue)
            # Entries are not updated in place: one whose count has changed since is stale, a newer one follows.
            is_current = self._pair_counts[pair] == -negative_count != 0
            if is_current and "".join(pair) not in self._made:
                return pair
        return None

    def merge(self, pair: Pair) -> None:
        """Join every occurrence of the pair and recount the words it was in."""
        self._made.add("".join(pair))
        changed: set[Pair] = set()
        for word in self._words_with.pop(pair):
            changed |= self._remove_pairs(word)
            self._symbols[word] = _joined(self._symbols[word], pair)
            changed |= self._add_pairs(word)
        for other in changed:
            heapq.heappush(self._queue, (-self._pair_counts[other], other))

    def _add_pairs(self, word: int) -> set[Pair]:
        pairs = list(pairwise(self._symbols[word]))
        for pair in pairs:
            self._pair_counts[pair] += self._counts[word]
            self._words_with[pair].add(word)
        return set(pairs)

    def _remove_pairs(self, word: int) -> set[Pair]:
        pairs = list(pairwise(self._symbols[word]))
        for pair in pairs:
            self._pair_counts[pair] -= self._counts[word]
        return set(pairs)


def _joined(symbols: list[str], pair: Pair) -> list[str]:
    left, right = pair
    result: list[str] = []
    position = 0
    while position < len(symbols):
        if symbols[position] == left and symbols[position + 1 : position + 2] == [right]:
            result.append(left + right)
            position += 2
        else:
            result.append(symbols[position])
            position += 1
    return result
