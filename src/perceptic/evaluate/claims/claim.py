"""What a claim is here, what an experiment returns, and how seeds become a verdict.

An experiment is repeated over seeds; each gives one number per quantity (an effect, paired within the seed). The
verdict compares the 95 % t interval over seeds with the direction that was written down beforehand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from perceptic.errors import ConfigError, DataError
from perceptic.evaluate.request import OnProgress, ignore_progress

Expected = Literal["above", "below", "equal"]
Verdict = Literal["holds", "does not hold", "undecided"]
MIN_SEEDS = 3
# Two-sided 95 % quantiles of Student's t with 1, 2, ... degrees of freedom; beyond the table the normal one.
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)


@dataclass(frozen=True)
class Quantity:
    """One effect.

    Attributes:
        expected: "above" or "below" `threshold`, or "equal" to it within `margin`.
        decides: whether the verdict of the claim rests on it; others are reported beside it.
        is_condition: what must hold for the experiment to say anything, such as that a skill is learned at all; it
            decides nothing else.
    """

    name: str
    unit: str
    expected: Expected
    threshold: float = 0.0
    margin: float = 0.0
    decides: bool = True
    is_condition: bool = False

    @property
    def direction(self) -> str:
        """In words."""
        if self.expected == "equal":
            return f"within {self.margin:g} of {self.threshold:g}"
        return f"{self.expected} {self.threshold:g}"


@dataclass(frozen=True)
class Curve:
    """What a page draws: values over an axis, one per seed and name."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True)
class SeedResult:
    """One run of an experiment: the effects by the names of the quantities, the plain scores behind them, curves."""

    effects: dict[str, float]
    scores: dict[str, float] = field(default_factory=dict)
    curves: tuple[Curve, ...] = ()


@dataclass(frozen=True)
class Setting:
    """What an experiment may use: `work` keeps trained models and data of all claims, `model` is what is studied, and
    `scale` multiplies the steps of everything that is trained."""

    work: Path
    model: str = "PE-Core-Nano"
    scale: float = 1.0
    on_progress: OnProgress = ignore_progress


@dataclass(frozen=True)
class Claim:
    """A claim by its number in the papers' table of what can be tried in miniature (training-recipes section 8).

    Attributes:
        statement: what the papers say, with their number. experiment: what is done here instead. caveats: how that
        differs, honestly. minutes: of one core for one seed, roughly. curve_axes: names of the axes of the curves.
        begins_with: the bundled language model, where it is trained on or asked; results are of its weights.
    """

    number: int
    title: str
    statement: str
    experiment: str
    quantities: tuple[Quantity, ...]
    run: Callable[[int, Setting], SeedResult]
    minutes: float
    caveats: str = ""
    curve_axes: tuple[str, str] = ("", "")
    begins_with: str = ""


@dataclass(frozen=True)
class Estimate:
    """Mean over seeds with its 95 % t interval; NaN ends with a single seed."""

    values: tuple[float, ...]
    mean: float
    low: float
    high: float


def estimate(values: Sequence[float]) -> Estimate:
    """Raises DataError without values, or with one that is not finite."""
    if not values or not all(math.isfinite(value) for value in values):
        raise DataError(f"values: expected finite effects of at least one seed, got {list(values)}")
    count = len(values)
    mean = sum(values) / count
    if count == 1:
        return Estimate(tuple(values), mean, math.nan, math.nan)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1))
    quantile = _T95[count - 2] if count - 2 < len(_T95) else 1.96
    half = quantile * deviation / math.sqrt(count)
    return Estimate(tuple(values), mean, mean - half, mean + half)


def judge(quantity: Quantity, found: Estimate) -> Verdict:
    """Fewer than three seeds decide nothing."""
    if len(found.values) < MIN_SEEDS:
        return "undecided"
    low, high = found.low - quantity.threshold, found.high - quantity.threshold
    if quantity.expected == "equal":
        if -quantity.margin <= low and high <= quantity.margin:
            return "holds"
        return "does not hold" if low > quantity.margin or high < -quantity.margin else "undecided"
    if quantity.expected == "below":
        low, high = -high, -low
    if low > 0:
        return "holds"
    return "does not hold" if high < 0 else "undecided"


def judge_all(verdicts: Sequence[Verdict], conditions: Sequence[Verdict] = ()) -> Verdict:
    """All must hold; one that does not decides against. Nothing is decided while a condition does not hold.

    Raises ConfigError without any verdict.
    """
    if not verdicts:
        raise ConfigError("a claim needs a quantity that decides")
    if any(verdict != "holds" for verdict in conditions):
        return "undecided"
    if "does not hold" in verdicts:
        return "does not hold"
    return "holds" if all(verdict == "holds" for verdict in verdicts) else "undecided"
