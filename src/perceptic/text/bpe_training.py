"""Learning a small vocabulary of CLIP's design from a corpus.

Own code because the trainer of `tokenizers` breaks ties by hash order when words carry an end mark: the same corpus
gives other files. Here ties go to the alphabetically first pair.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise

from perceptic.errors import TextError
from perceptic.text.cleaning import CleanMode, clean
from perceptic.text.clip_tokenizer import DEFAULT_CONTEXT_LENGTH, ClipTokenizer
from perceptic.text.pieces import SPECIAL_TOKENS, WORD_END, byte_symbols, make_splitter
from perceptic.text.vocabulary import Merge

_NUM_FIXED = 2 * len(byte_symbols()) + len(SPECIAL_TOKENS)


def train_bpe(
    texts: Iterable[str],
    vocab_size: int,
    context_length: int = DEFAULT_CONTEXT_LENGTH,
    clean_mode: CleanMode = "lower",
) -> ClipTokenizer:
    """Learn merges from texts: always the most frequent pair of neighbouring symbols, within pieces.

    The result depends on how often each piece occurs, not on the order of the texts.

    Args:
        texts: the corpus, read once.
        vocab_size: ids in all; 514 are bytes and special tokens, the rest merges.
        context_length: of the tokenizer.

    Returns:
        A tokenizer with exactly `vocab_size` ids; `end_id` is the largest, `start_id` the one below.

    Raises:
        TextError: a text that is no string, a size below 514, or a corpus too small for that many merges (the message
            names the largest size it supports).
    """
    if vocab_size < _NUM_FIXED:
        raise TextError(f"vocab_size must be at least {_NUM_FIXED} (bytes and special tokens), not {vocab_size}")
    words = _Words(_count_pieces(texts, clean_mode))
    merges: list[Merge] = []
    while len(merges) < vocab_size - _NUM_FIXED:
        pair = words.most_frequent_pair()
        if pair is None:
            raise TextError(
                f"the corpus supports a vocabulary of at most {_NUM_FIXED + len(merges)}, not {vocab_size}; "
                "ask for less or give more texts"
            )
        merges.append(pair)
        words.merge(pair)
    return ClipTokenizer(merges, context_length, clean_mode)


def _count_pieces(texts: Iterable[str], clean_mode: CleanMode) -> Counter[str]:
    splitter = make_splitter(special_tokens=False)
    counts: Counter[str] = Counter()
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise TextError(f"texts[{index}] must be a string, not {type(text).__name__}")
        counts.update(piece for piece, _ in splitter.pre_tokenize_str(clean(text, clean_mode)))
    return counts


class _Words:
    """The distinct pieces as lists of symbols, with the count of every pair of neighbours kept up to date."""

    def __init__(self, counts: Counter[str]) -> None:
        pieces = sorted(counts)
        self._symbols = [[*piece[:-1], piece[-1] + WORD_END] for piece in pieces]
        self._counts = [counts[piece] for piece in pieces]
        self._pair_counts: Counter[Merge] = Counter()
        self._words_with: defaultdict[Merge, set[int]] = defaultdict(set)
        self._made: set[str] = set()
        for word in range(len(pieces)):
            self._add_pairs(word)
        self._queue = [(-count, pair) for pair, count in self._pair_counts.items()]
        heapq.heapify(self._queue)

    def most_frequent_pair(self) -> Merge | None:
        """None when every piece is one symbol. Pairs that would make an existing symbol again are passed over."""
        while self._queue:
            negative_count, pair = heapq.heappop(self._queue)
            # Entries are not updated in place: one whose count has changed since is stale, a newer one follows.
            is_current = self._pair_counts[pair] == -negative_count != 0
            if is_current and "".join(pair) not in self._made:
                return pair
        return None

    def merge(self, pair: Merge) -> None:
        """Join every occurrence of the pair and recount the words it was in."""
        self._made.add("".join(pair))
        changed: set[Merge] = set()
        for word in self._words_with.pop(pair):
            changed |= self._remove_pairs(word)
            self._symbols[word] = _joined(self._symbols[word], pair)
            changed |= self._add_pairs(word)
        for other in changed:
            heapq.heappush(self._queue, (-self._pair_counts[other], other))

    def _add_pairs(self, word: int) -> set[Merge]:
        pairs = list(pairwise(self._symbols[word]))
        for pair in pairs:
            self._pair_counts[pair] += self._counts[word]
            self._words_with[pair].add(word)
        return set(pairs)

    def _remove_pairs(self, word: int) -> set[Merge]:
        pairs = list(pairwise(self._symbols[word]))
        for pair in pairs:
            self._pair_counts[pair] -= self._counts[word]
        return set(pairs)


def _joined(symbols: list[str], pair: Merge) -> list[str]:
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
