"""Accuracy of classification (datasets-and-benchmarks section 3.2)."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from perceptic.metrics.checks import BoolArray, integers, labels, numbers, positive, same_length


def top_k_hits(scores: npt.ArrayLike, targets: npt.ArrayLike, k: int = 1) -> BoolArray:
    """Whether the true class is among the k best of each sample, (N,).

    Equal scores are taken in the order of the classes, as argmax takes them: a model that scores all classes alike
    is at chance, neither always right nor always wrong.

    Args:
        scores: (N, C), larger is better; -inf is allowed (a class ruled out).
        targets: (N,) classes in [0, C).

    Raises:
        DataError: no samples, NaN, lengths that differ, a class that has no column.
    """
    positive(k, "k")
    table = numbers(scores, "scores", ("samples", "classes"), finite=False)
    true = labels(targets, "targets", ("samples",), table.shape[1])
    same_length(scores=table, targets=true)
    of_target = np.take_along_axis(table, true[:, None], axis=1)
    is_before = np.arange(table.shape[1]) < true[:, None]
    ranks = (table > of_target).sum(axis=1) + ((table == of_target) & is_before).sum(axis=1)
    return np.asarray(ranks < k)


def top_k_accuracy(scores: npt.ArrayLike, targets: npt.ArrayLike, k: int = 1) -> float:
    """Share of samples whose true class is among the k best, in [0, 1]; NaN with fewer than k classes.

    The papers' `acc1` and `acc5`. Arguments and errors as `top_k_hits`.
    """
    hits = top_k_hits(scores, targets, k)
    return float(hits.mean()) if np.asarray(scores).shape[1] >= k else math.nan


def mean_per_class_recall(predictions: npt.ArrayLike, targets: npt.ArrayLike) -> float:
    """Mean over the classes that occur of the share of their samples found: balanced accuracy, in [0, 1].

    Args:
        predictions: (N,) classes; one that does not exist, such as -1 for an answer that names none, is wrong.
        targets: (N,) classes.

    Raises:
        DataError: no samples, lengths that differ, anything but whole numbers.
    """
    predicted = integers(predictions, "predictions", ("samples",))
    true = integers(targets, "targets", ("samples",))
    same_length(predictions=predicted, targets=true)
    _, number = np.unique(true, return_inverse=True)
    return float(np.mean(np.bincount(number, weights=predicted == true) / np.bincount(number)))
