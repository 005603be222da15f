"""From scores of classes to what a classification benchmark reports (datasets-and-benchmarks section 3.2)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perceptic import metrics
from perceptic.errors import MediaError
from perceptic.evaluate.features import Medium
from perceptic.evaluate.pictures import small_picture
from perceptic.evaluate.result import Details, Measured, Mistake, Score, class_shares

NUM_MISTAKES = 12
_MAX_CONFUSION = 60
_MULTI_LABEL_RESAMPLES = 200  # one call of the metric each


@dataclass(frozen=True)
class Reporting:
    """What goes with the scores: the seed of the intervals, settings found out on the way, media that could not be read
    (name -> reason), sentences for the reader."""

    seed: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def all_notes(self) -> tuple[str, ...]:
        return (*self.notes, *failure_notes(self.failures))


def measure_classification(
    scores: NDArray[np.floating[Any]],
    targets: NDArray[np.int64],
    class_names: Sequence[str],
    media: Sequence[Medium],
    report: Reporting,
) -> Measured:
    """acc1, acc5, mean_per_class_recall with intervals, items, bars, confusions and the nearest mistakes.

    Args:
        scores: (N, C), larger is likelier. targets: (N,). class_names: C. media: N.
    """
    seed = report.seed
    hits = metrics.top_k_hits(scores, targets, 1)
    predictions = scores.argmax(axis=1)
    chance = 100.0 / len(class_names)
    found = {"acc1": Score.mean(hits, seed=seed, chance=chance)}
    if len(class_names) >= 5:
        found["acc5"] = Score.mean(metrics.top_k_hits(scores, targets, 5), seed=seed, chance=min(100.0, 5 * chance))
    found["mean_per_class_recall"] = _mean_per_class(hits, targets, len(class_names), seed, chance)
    items = _items(scores, targets, class_names, media)
    details = Details(
        classes=class_shares(class_names, targets.tolist(), hits.tolist()),
        mistakes=nearest_mistakes(scores, targets, class_names, media),
        notes=report.all_notes(),
        **_confusion(predictions, targets, class_names),
    )
    return Measured(found, items, report.facts, details, num_failed=len(report.failures))


def measure_multi_label(
    scores: NDArray[np.floating[Any]],
    positives: NDArray[np.bool_],
    media: Sequence[Medium],
    report: Reporting,
) -> Measured:
    """Mean average precision over the classes that occur; scores and positives are (N, C)."""

    def statistic(drawn: NDArray[np.int64]) -> float:
        table = positives[drawn]
        present = table.any(axis=0)
        if not present.any():
            return math.nan
        return float(metrics.mean_average_precision(scores[drawn][:, present], table[:, present]))

    resampling = metrics.Resampling(num_resamples=_MULTI_LABEL_RESAMPLES, seed=report.seed)
    interval = metrics.bootstrap_statistic(statistic, len(scores), resampling=resampling)
    chance = 100.0 * float(positives[:, positives.any(axis=0)].mean())
    items = [
        {"id": medium.name, "positives": np.flatnonzero(row).tolist()}
        for medium, row in zip(media, positives, strict=True)
    ]
    details = Details(notes=report.all_notes())
    found = {"mean_average_precision": Score.of(interval, chance=chance)}
    return Measured(found, items, report.facts, details, num_failed=len(report.failures))


def failure_notes(failures: Mapping[str, str]) -> list[str]:
    """What was left out, in one sentence, with the first few names."""
    if not failures:
        return []
    first = "; ".join(f"{name}: {reason}" for name, reason in list(failures.items())[:3])
    return [f"{len(failures)} could not be read and are left out ({first})."]


def nearest_mistakes(
    scores: NDArray[np.floating[Any]], targets: NDArray[np.int64], class_names: Sequence[str], media: Sequence[Medium]
) -> tuple[Mistake, ...]:
    """Wrong items whose true class came closest to winning, with their pictures."""
    predictions = scores.argmax(axis=1)
    rows = np.arange(len(targets))
    gap = scores[rows, predictions] - scores[rows, targets]
    wrong = np.flatnonzero(predictions != targets)
    chosen = wrong[np.argsort(gap[wrong], kind="stable")][:NUM_MISTAKES]
    return tuple(
        Mistake(
            media[row].name,
            class_names[targets[row]],
            class_names[predictions[row]],
            f"{scores[row, predictions[row]]:.3f} against {scores[row, targets[row]]:.3f}",
            thumbnail(media[row]),
        )
        for row in chosen.tolist()
    )


def thumbnail(medium: Medium) -> bytes | None:
    """What `small_picture` makes of a medium; None if it cannot be read any more."""
    try:
        content = medium.read()
    except MediaError:
        return None
    return small_picture(content, medium.kind)


def _mean_per_class(
    hits: NDArray[np.bool_], targets: NDArray[np.int64], num_classes: int, seed: int, chance: float
) -> Score:
    """Each item adds to its class's hits and count; classes that a resample lacks are left out of its mean."""
    table = np.zeros((len(targets), 2, num_classes))
    rows = np.arange(len(targets))
    table[rows, 0, targets] = hits
    table[rows, 1, targets] = 1
    if table.nbytes > 1 << 28:  # a thousand classes: resample the mean of class-weighted hits instead
        counts = np.bincount(targets, minlength=num_classes)
        weights = hits / counts[targets] * (len(targets) / (counts > 0).sum())
        return Score.mean(weights, seed=seed, chance=chance)

    def statistic(sums: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        shares = np.divide(sums[:, 0], sums[:, 1], out=np.full(sums[:, 0].shape, np.nan), where=sums[:, 1] > 0)
        return np.asarray(np.nanmean(shares, axis=1))

    interval = metrics.bootstrap_sums(table, statistic, resampling=metrics.Resampling(seed=seed))
    return Score.of(interval, chance=chance)


def _items(
    scores: NDArray[np.floating[Any]], targets: NDArray[np.int64], class_names: Sequence[str], media: Sequence[Medium]
) -> list[dict[str, Any]]:
    best = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    return [
        {
            "id": medium.name,
            "truth": class_names[target],
            "prediction": class_names[order[0]],
            "is_right": bool(order[0] == target),
            "best": [[class_names[number], round(float(row[number]), 6)] for number in order],
        }
        for medium, target, order, row in zip(media, targets.tolist(), best.tolist(), scores, strict=True)
    ]


def _confusion(
    predictions: NDArray[np.int64], targets: NDArray[np.int64], class_names: Sequence[str]
) -> dict[str, Any]:
    """The whole matrix of a few classes, of many those that are confused most."""
    counts = metrics.confusion_counts(predictions, targets, len(class_names))
    chosen = np.arange(len(class_names))
    if len(chosen) > _MAX_CONFUSION:
        off = counts.copy()
        np.fill_diagonal(off, 0)
        chosen = np.sort(np.argsort(-(off.sum(axis=0) + off.sum(axis=1)), kind="stable")[:_MAX_CONFUSION])
    table = counts[np.ix_(chosen, chosen)]
    return {
        "class_names": tuple(class_names[number] for number in chosen.tolist()),
        "confusion": tuple(tuple(map(int, row)) for row in table),
    }
