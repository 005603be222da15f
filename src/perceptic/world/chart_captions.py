"""Captions of chart scenes."""

from __future__ import annotations

import numpy as np

from perceptic.world.charts import Chart
from perceptic.world.randomness import chance, pick
from perceptic.world.wording import NUMBERS, joined, sentence

_PARTS = {"bar": "bars", "pie": "slices"}


def chart_captions(chart: Chart, rng: np.random.Generator) -> tuple[str, str, str]:
    """The short, medium and long caption of a chart."""
    name = pick(rng, (f"a {chart.kind} chart", f"a {chart.kind} graph" if chart.kind != "pie" else "a pie chart"))
    short = f'{name} titled "{chart.title}"' if chart.title and chance(rng, 0.5) else name
    titled = f'{name} titled "{chart.title}"' if chart.title else name
    medium = f"{titled} with {_contents(chart)}"
    return short, medium if chance(rng, 0.4) else sentence(medium), _long(chart, titled, rng)


def trend(chart: Chart) -> str:
    """ "rises", "falls" or "ends where it starts", from the first to the last point of a line."""
    first, last = chart.values[0], chart.values[-1]
    return "rises" if last > first else "falls" if last < first else "ends where it starts"


def _contents(chart: Chart) -> str:
    if chart.kind == "line":
        return f"a {chart.labels[0]} line" if chart.labels[0] != "orange" else "an orange line"
    return f"{NUMBERS[len(chart.labels)]} {_PARTS[chart.kind]} in {joined(chart.labels)}"


def _long(chart: Chart, titled: str, rng: np.random.Generator) -> str:
    if chart.kind == "line":
        values = joined([str(value) for value in chart.values])
        start = f"{titled} with {_contents(chart)} going through {values}"
        return f"{sentence(start)} {sentence('overall the line ' + trend(chart))}"
    unit = " percent" if chart.kind == "pie" else ""
    pairs = joined([f"{label} {value}{unit}" for label, value in zip(chart.labels, chart.values, strict=True)])
    start = f"{titled} with {NUMBERS[len(chart.labels)]} {_PARTS[chart.kind]}: {pairs}"
    part = _PARTS[chart.kind].removesuffix("s")
    largest = chart.labels[chart.values.index(max(chart.values))]
    smallest = chart.labels[chart.values.index(min(chart.values))]
    high, low = ("highest", "lowest") if chart.kind == "bar" else ("largest", "smallest")
    end = f"the {largest} {part} is the {high}" if chance(rng, 0.5) else f"the {smallest} {part} is the {low}"
    return f"{sentence(start)} {sentence(end)}"
