"""Chart scenes as data: bars, lines and pies with a value for each named series."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from perceptic.world.randomness import chance, pick, shuffled, whole
from perceptic.world.vocabulary import COLOURS

ChartKind = Literal["bar", "line", "pie"]
CHART_KINDS: Final[tuple[ChartKind, ...]] = ("bar", "line", "pie")

# White has too little contrast on the chart's white paper.
CHART_COLOURS: Final = tuple(colour for colour in COLOURS if colour != "white")
_LINE_COLOURS: Final = tuple(colour for colour in CHART_COLOURS if colour != "yellow")


@dataclass(frozen=True, slots=True)
class Chart:
    """`values[i]` belongs to `labels[i]`.

    bar: labels are colours, values 1 to 9. line: one line of colour `labels[0]`, values 1 to 9 from left to right.
    pie: labels are colours, values are percent, multiples of 10 that sum to 100.
    """

    kind: ChartKind
    labels: tuple[str, ...]
    values: tuple[int, ...]
    title: str = ""


def sample_chart(rng: np.random.Generator, words: tuple[str, ...], kind: ChartKind | None = None) -> Chart:
    """A random chart; `words` are allowed as titles."""
    kind = kind or pick(rng, CHART_KINDS)
    title = pick(rng, words) if chance(rng, 0.5) else ""
    if kind == "line":
        return Chart("line", (pick(rng, _LINE_COLOURS),), _distinct_steps(rng, whole(rng, 3, 6)), title)
    count = whole(rng, 2, 5 if kind == "bar" else 4)
    labels = tuple(shuffled(rng, CHART_COLOURS)[:count])
    if kind == "bar":
        # Distinct heights, so that "highest" and "lowest" have one answer.
        return Chart("bar", labels, tuple(shuffled(rng, range(1, 10))[:count]), title)
    return Chart("pie", labels, _percentages(rng, count), title)


def _distinct_steps(rng: np.random.Generator, count: int) -> tuple[int, ...]:
    values = [whole(rng, 1, 9)]
    while len(values) < count:
        value = whole(rng, 1, 9)
        if value != values[-1]:
            values.append(value)
    return tuple(values)


def _percentages(rng: np.random.Generator, count: int) -> tuple[int, ...]:
    while True:
        cuts = sorted(shuffled(rng, range(1, 10))[: count - 1])
        shares = tuple(10 * (high - low) for low, high in zip([0, *cuts], [*cuts, 10], strict=True))
        if len(set(shares)) == count:
            return shares
