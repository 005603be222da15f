"""Learning a small vocabulary of Llama 3's design from a corpus: ranks of byte strings, as in `tokenizer.model`.

Ranks 0 to 255 are the single bytes in order; every further rank joins two lower ones. Pieces are those of the Llama
pattern, so that what was learned is what encoding uses. Digits are never joined: a number is always its digits, which
small models learn far sooner than a thousand unrelated names.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable

from tokenizers import Regex, pre_tokenizers

from perceptic.errors import TextError
from perceptic.text.llama_tokenizer import LlamaTokenizer
from perceptic.text.llama_vocabulary import NUM_SPECIAL_TOKENS, PIECE_PATTERN, LlamaVocabulary
from perceptic.text.pair_merging import PairCounts

_NUM_BYTES = 256
_NUM_FIXED = _NUM_BYTES + NUM_SPECIAL_TOKENS


def train_rank_bpe(texts: Iterable[str], vocab_size: int) -> LlamaTokenizer:
    """Learn ranks from texts: always the most frequent pair of neighbouring symbols, within pieces.

    The result depends on how often each piece occurs, not on the order of the texts.

    Args:
        texts: the corpus, read once.
        vocab_size: ids in all: 256 bytes, the joined tokens, 256 special tokens.

    Returns:
        A tokenizer with exactly `vocab_size` ids.

    Raises:
        TextError: a text that is no string, a size below 512, or a corpus too small for that many tokens (the message
            names the largest size it supports).
    """
    if vocab_size < _NUM_FIXED:
        raise TextError(f"vocab_size must be at least {_NUM_FIXED} (bytes and special tokens), not {vocab_size}")
    pairs = PairCounts({tuple(piece): count for piece, count in _count_pieces(texts).items()})
    tokens = [bytes([byte]) for byte in range(_NUM_BYTES)]
    while len(tokens) < vocab_size - NUM_SPECIAL_TOKENS:
        pair = pairs.most_frequent_pair()
        if pair is None:
            raise TextError(
                f"the corpus supports a vocabulary of at most {NUM_SPECIAL_TOKENS + len(tokens)}, not {vocab_size}; "
                "ask for less or give more texts"
            )
        tokens.append("".join(pair).encode("latin-1"))
        pairs.merge(pair)
    return LlamaTokenizer(LlamaVocabulary(tuple(tokens)))


def _count_pieces(texts: Iterable[str]) -> Counter[str]:
    """Pieces with each byte written as the character of the same number, so that symbols are strings."""
    splitter = pre_tokenizers.Split(Regex(PIECE_PATTERN), behavior="isolated")
    counts: Counter[str] = Counter()
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise TextError(f"texts[{index}] must be a string, not {type(text).__name__}")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise TextError(f"texts[{index}] has half a surrogate pair at {error.start}; it is no text") from error
        counts.update(piece for piece, _ in splitter.pre_tokenize_str(text) if not _is_number(piece))
    return Counter({piece.encode().decode("latin-1"): count for piece, count in counts.items()})


def _is_number(piece: str) -> bool:
    return unicodedata.category(piece[0]).startswith("N")
