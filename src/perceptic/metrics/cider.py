"""CIDEr of captions (datasets-and-benchmarks section 5.3): agreement of n-grams that are rare over the whole set.

The variant is CIDEr-D, which is what every published table calls CIDEr: clipped counts and a penalty for another
length. Source: R. Vedantam et al., CIDEr: Consensus-based Image Description Evaluation (CVPR 2015), with the constants
of the COCO caption evaluation. Tables print 100 times these values.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from perceptic.errors import DataError
from perceptic.metrics.checks import FloatArray, same_length

NGram = tuple[str, ...]
_ORDERS = (1, 2, 3, 4)
_SIGMA = 6.0
# What the COCO evaluation drops after tokenisation.
_DROPPED = frozenset((".", "?", "!", ",", ":", ";", "-", "--", "...", "'", "''", "`", "``", '"', "(", ")", "{", "}"))
_TOKEN = re.compile(
    r"""n't\b
    | '(?:s|m|d|ll|re|ve)\b
    | (?:[a-z]\.){2,}                      # u.s.
    | \d+(?:[.,:/]\d+)*(?!\w)              # 3.5   1,000   10:30   1/2
    | \w+?(?=n't\b) | can(?=not\b)         # do | n't   can | not
    | \w+(?:[-/]\w+)*                      # t-shirt   black/white
    | \.\.\. | -- | `` | ''
    | \S
    """,
    re.VERBOSE,
)


def caption_tokens(caption: str) -> list[str]:
    """Words of a caption in lower case, without punctuation; "don't" is do + n't, "it's" is it + 's.

    Follows the Penn Treebank tokenisation of the COCO evaluation on ordinary captions. That one is a Java program; on
    rare writings (abbreviations, web addresses, emoticons) the two can part.
    """
    return [token for token in _TOKEN.findall(caption.lower()) if token not in _DROPPED]


def cider_scores(
    captions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    tokenize: Callable[[str], list[str]] = caption_tokens,
) -> FloatArray:
    """CIDEr of each picture, (N,), in [0, 10]; their mean is the benchmark's figure.

    How rare an n-gram is, is counted in the references of this very set: scores of a part are not those of the whole,
    and captions shorter than four words stay below 10 even if they are the reference.

    Args:
        captions: one for each picture.
        references: one or more for each picture.

    Raises:
        DataError: fewer than two pictures (every n-gram would be common, every score 0), a picture without reference.
    """
    num_images = same_length(captions=captions, references=references)
    for number, texts in enumerate(references):
        if isinstance(texts, str) or not texts:
            raise DataError(f"references[{number}]: expected a list of at least one text, got {texts!r}")
    if num_images < 2:
        raise DataError("captions: expected at least two pictures; rarity has no meaning within one")
    counted = [[_ngrams(tokenize(text)) for text in texts] for texts in references]
    seen_in = Counter(ngram for texts in counted for ngram in set().union(*texts))
    rarity = _Rarity(seen_in, math.log(num_images))
    scores = [
        _score(rarity.vector(_ngrams(tokenize(caption))), [rarity.vector(text) for text in texts])
        for caption, texts in zip(captions, counted, strict=True)
    ]
    return np.array(scores)


@dataclass(frozen=True)
class _Vector:
    """Weights of a text's n-grams by order, their norms, and the number of bigrams (the length, for the penalty)."""

    weights: tuple[dict[NGram, float], ...]
    norms: tuple[float, ...]
    num_bigrams: int


@dataclass(frozen=True)
class _Rarity:
    seen_in: Counter[NGram]
    log_num_images: float

    def vector(self, counts: Counter[NGram]) -> _Vector:
        weights: tuple[dict[NGram, float], ...] = tuple({} for _ in _ORDERS)
        for ngram, count in counts.items():
            rarity = self.log_num_images - math.log(max(1, self.seen_in[ngram]))
            weights[len(ngram) - 1][ngram] = count * rarity
        norms = tuple(math.sqrt(sum(value * value for value in order.values())) for order in weights)
        return _Vector(weights, norms, sum(count for ngram, count in counts.items() if len(ngram) == 2))


def _ngrams(words: list[str]) -> Counter[NGram]:
    return Counter(tuple(words[start : start + n]) for n in _ORDERS for start in range(len(words) - n + 1))


def _score(caption: _Vector, references: list[_Vector]) -> float:
    return 10.0 * sum(_similarity(caption, reference) for reference in references) / len(references)


def _similarity(caption: _Vector, reference: _Vector) -> float:
    penalty = math.exp(-((caption.num_bigrams - reference.num_bigrams) ** 2) / (2 * _SIGMA**2))
    total = 0.0
    for mine, theirs, norm, their_norm in zip(
        caption.weights, reference.weights, caption.norms, reference.norms, strict=True
    ):
        if norm and their_norm:
            shared = sum(min(value, theirs[ngram]) * theirs[ngram] for ngram, value in mine.items() if ngram in theirs)
            total += shared / (norm * their_norm)
    return total * penalty / len(_ORDERS)
