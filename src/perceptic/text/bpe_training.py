"""Learning a small vocabulary of CLIP's design from a corpus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from perceptic.errors import TextError
from perceptic.text.cleaning import CleanMode, clean
from perceptic.text.clip_tokenizer import DEFAULT_CONTEXT_LENGTH, ClipTokenizer
from perceptic.text.pair_merging import PairCounts
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
    pieces = _count_pieces(texts, clean_mode)
    words = PairCounts({(*piece[:-1], piece[-1] + WORD_END): count for piece, count in pieces.items()})
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
