"""What a benchmark run leaves: numbers with intervals, every setting behind them, and the items one by one."""

from __future__ import annotations

import math
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy.typing as npt

from perceptic.__about__ import __version__
from perceptic.evaluate.benchmark import Benchmark
from perceptic.evaluate.published_size import is_comparable
from perceptic.metrics import ConfidenceInterval, Resampling, bootstrap_mean
from perceptic.metrics.bootstrap import Groups

_PACKAGES = ("torch", "numpy", "pillow", "av", "tokenizers")


@dataclass(frozen=True)
class Score:
    """A metric with its bootstrap interval, in the metric's unit (shares in percent, as the papers print them).

    Attributes:
        low, high: NaN where there is no interval.
        chance: what guessing gives, where that is known.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    level: float = 0.95
    num_units: int = 0
    chance: float | None = None

    @classmethod
    def of(cls, interval: ConfidenceInterval, *, scale: float = 100.0, chance: float | None = None) -> Score:
        """From a metric in [0, 1] with its interval; `scale` 1 keeps it as it is. `chance` is in the printed unit."""
        return cls(
            interval.value * scale,
            interval.low * scale,
            interval.high * scale,
            interval.level,
            interval.num_units,
            chance,
        )

    @classmethod
    def mean(
        cls,
        values: npt.ArrayLike,
        *,
        groups: Groups | None = None,
        seed: int = 0,
        scale: float = 100.0,
        chance: float | None = None,
    ) -> Score:
        """Mean of one score per sample, drawn again 1,000 times; `groups` names samples that hang together."""
        return cls.of(
            bootstrap_mean(values, groups=groups, resampling=Resampling(seed=seed)), scale=scale, chance=chance
        )


@dataclass(frozen=True)
class ClassShare:
    """How much of one class (or category, question type, source) is right: a bar of the report. Percent."""

    name: str
    value: float
    count: int


@dataclass(frozen=True)
class Mistake:
    """A wrong item worth a look: the nearest miss first. `image` is a small PNG or JPEG, or None."""

    item: str
    truth: str
    prediction: str
    detail: str = ""
    image: bytes | None = None


@dataclass(frozen=True)
class Details:
    """What the report shows below the table. All optional.

    Attributes:
        classes: bars. confusion: (true, predicted) counts with `class_names` on both axes.
        mistakes: pictures. notes: sentences for the reader, such as items left out and why.
    """

    classes: tuple[ClassShare, ...] = ()
    class_names: tuple[str, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    mistakes: tuple[Mistake, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class EvalResult:
    """One benchmark on one model.

    Attributes:
        benchmark, model: names. metrics: headline first.
        settings: everything that decides the numbers, as JSON values: options, data and their hash, model and its
            fingerprint, seed, limit, mode, versions. Equal settings need no second run.
        num_items: measured; num_failed: unreadable, left out and listed in the notes.
        seconds: it took. items_file: per-item answers, relative to the results folder.
        published: metric -> the papers' value for the model, {} where there is none or it would not compare.
    """

    benchmark: str
    model: str
    metrics: dict[str, Score]
    settings: dict[str, Any]
    num_items: int = 0
    num_failed: int = 0
    seconds: float = 0.0
    items_file: str | None = None
    published: dict[str, float] = field(default_factory=dict)
    details: Details = field(default_factory=Details)


@dataclass(frozen=True)
class Measured:
    """What a runner returns: scores, one JSON object per item, and what the report shows.

    Attributes:
        metrics: name -> score; the benchmark's own metrics and any others.
        items: written to `items/<benchmark>.jsonl`; each has at least an "id".
        facts: settings that the runner alone knows (data hash, chosen layer or weight decay, number of templates).
    """

    metrics: Mapping[str, Score]
    items: Sequence[Mapping[str, Any]] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    details: Details = field(default_factory=Details)
    num_failed: int = 0


def make_result(
    benchmark: Benchmark, model: str, measured: Measured, settings: Mapping[str, Any], seconds: float
) -> EvalResult:
    """Put together what is known of a run; `items_file` is set when it is written."""
    whole = {**settings, "facts": dict(measured.facts)}
    return EvalResult(
        benchmark=benchmark.name,
        model=model,
        metrics=dict(measured.metrics),
        settings=whole,
        num_items=len(measured.items),
        num_failed=measured.num_failed,
        seconds=round(seconds, 2),
        published=dict(benchmark.published_for(model)) if is_comparable(benchmark, whole) else {},
        details=measured.details,
    )


def versions() -> dict[str, str]:
    """Of this package, Python and what computes."""
    found = {"perceptic": __version__, "python": sys.version.split()[0], "machine": platform.machine()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


def class_shares(names: Sequence[str], targets: Iterable[int], is_right: Iterable[bool]) -> tuple[ClassShare, ...]:
    """The share of each class that is right, worst first; classes without a sample are left out."""
    totals, hits = [0] * len(names), [0] * len(names)
    for target, right in zip(targets, is_right, strict=True):
        totals[target] += 1
        hits[target] += bool(right)
    bars = [ClassShare(name, 100.0 * hit / n, n) for name, hit, n in zip(names, hits, totals, strict=True) if n]
    return tuple(sorted(bars, key=lambda bar: bar.value))
