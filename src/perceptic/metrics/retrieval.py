"""Recall of retrieval between texts and media, both directions (perception-encoder section 6.3).

Shapes: T texts, M media (pictures or videos). A medium may have several texts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perceptic.errors import ConfigError, DataError
from perceptic.metrics.checks import BoolArray, FloatArray, IntArray, grouping, labels, numbers, positive, same_length

# Rows ranked at a time: a block of 5,000 candidates is 5 MB, whatever the number of queries.
_BLOCK = 256


@dataclass(frozen=True)
class Ranks:
    """Where each query found its first positive.

    Attributes:
        values: (queries,) 0 is best; -1 for a query that has no positive, which never counts as found.
        num_candidates: how many were ranked.
    """

    values: IntArray
    num_candidates: int

    def hits(self, k: int) -> BoolArray:
        """(queries,) whether a positive is among the first k."""
        return (self.values >= 0) & (self.values < positive(k, "k"))

    def recall(self, k: int) -> float:
        """Share of queries with a positive among the first k, in [0, 1]; NaN with fewer than k candidates."""
        return float(self.hits(k).mean()) if k <= self.num_candidates else math.nan


@dataclass(frozen=True)
class RetrievalRanks:
    """Ranks in both directions: a text looks for its medium (T2I, T2V), a medium for one of its texts (I2T, V2T)."""

    text_to_media: Ranks
    media_to_text: Ranks


def retrieval_ranks(
    similarities: npt.ArrayLike,
    media_of_texts: npt.ArrayLike | None = None,
    *,
    texts: Sequence[str] | None = None,
    reweight_factor: float | None = None,
) -> RetrievalRanks:
    """Rank media for every text and texts for every medium.

    Equal similarities are taken in the order of the candidates: an encoder that says the same to everything is at
    chance.

    Args:
        similarities: (T, M), larger is nearer.
        media_of_texts: (T,) the medium that each text describes; by default text i describes medium i.
        texts: the T texts. Equal ones share their media: each of them is right.
        reweight_factor: rank `dual_softmax` with this factor instead (the released evaluation has 1 for pictures and
            videos, 10 for its audio models). It looks at the whole test set at once, so it is off unless asked for.

    Raises:
        DataError: nothing to rank, NaN, a medium that does not exist, lengths that differ.
    """
    table = numbers(similarities, "similarities", ("texts", "media"))
    described = _media_of_texts(media_of_texts, table)
    num_texts, num_media = table.shape
    wording = _wording(texts, described)
    # One row for each wording, so that equal texts share their media; at most a byte for each similarity.
    belongs = np.zeros((int(wording.max()) + 1, num_media), dtype=np.bool_)
    belongs[wording, described] = True
    to_media, to_text = table, table.T
    if reweight_factor is not None:
        to_media, to_text = dual_softmax(table, reweight_factor), dual_softmax(table.T, reweight_factor)
    return RetrievalRanks(
        Ranks(_first_positives(to_media, lambda rows: belongs[wording[rows]]), num_media),
        Ranks(_first_positives(to_text, lambda rows: belongs[:, rows].T[:, wording]), num_texts),
    )


def dual_softmax(similarities: npt.ArrayLike, factor: float = 1.0) -> FloatArray:
    """`A * softmax(A)` over the queries with A = factor * similarities (Q, C).

    A candidate that is near to every query is no longer everyone's best. Softmax runs down each column.
    """
    if not (math.isfinite(factor) and factor > 0):
        raise ConfigError(f"factor must be a positive number, not {factor}")
    scaled = numbers(similarities, "similarities", ("queries", "candidates")) * factor
    weights = np.exp(scaled - scaled.max(axis=0))
    weights /= weights.sum(axis=0)
    return np.asarray(scaled * weights)


def _media_of_texts(media_of_texts: npt.ArrayLike | None, table: FloatArray) -> IntArray:
    num_texts, num_media = table.shape
    if media_of_texts is None:
        if num_texts != num_media:
            raise DataError(
                f"similarities: {num_texts} texts and {num_media} media; pass media_of_texts to say which is whose"
            )
        return np.arange(num_texts)
    described = labels(media_of_texts, "media_of_texts", ("texts",), num_media)
    same_length(similarities=table, media_of_texts=described)
    return described


def _wording(texts: Sequence[str] | None, described: IntArray) -> IntArray:
    """(T,) the number of each text among the different ones."""
    if texts is None:
        return np.arange(len(described))
    same_length(texts=texts, media_of_texts=described)
    return grouping(texts).numbers


def _first_positives(scores: FloatArray, positives_of: Callable[[slice], BoolArray]) -> IntArray:
    """(queries,) rank of the best positive candidate, ties in the order of the candidates; -1 without a positive.

    Args:
        positives_of: which candidates are right for some of the queries, (rows, candidates).
    """
    num_queries, num_candidates = scores.shape
    ranks = np.empty(num_queries, dtype=np.int64)
    for start in range(0, num_queries, _BLOCK):
        rows = slice(start, start + _BLOCK)
        block, is_positive = np.ascontiguousarray(scores[rows]), positives_of(rows)
        of_positives = np.where(is_positive, block, -np.inf)
        best = of_positives.argmax(axis=1)[:, None]
        best_score = np.take_along_axis(of_positives, best, axis=1)
        is_before = np.arange(num_candidates) < best
        rank = (block > best_score).sum(axis=1) + ((block == best_score) & is_before).sum(axis=1)
        ranks[rows] = np.where(is_positive.any(axis=1), rank, -1)
    return ranks
