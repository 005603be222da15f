"""Questions about charts: single values, comparisons, counts and trends."""

from __future__ import annotations

import numpy as np

from perceptic.world.chart_captions import trend
from perceptic.world.charts import Chart
from perceptic.world.question import Question, yes_no
from perceptic.world.randomness import shuffled


def chart_questions(chart: Chart, rng: np.random.Generator) -> list[Question]:
    """All questions of a chart."""
    found = _line(chart) if chart.kind == "line" else _parts(chart, rng)
    if chart.title:
        found.append(Question("reading", "What is the title of the chart?", chart.title))
    found.append(Question("chart_kind", "What kind of chart is this?", chart.kind, ("bar", "line", "pie")))
    return found


def _parts(chart: Chart, rng: np.random.Generator) -> list[Question]:
    part = "bar" if chart.kind == "bar" else "slice"
    high, low = ("highest", "lowest") if chart.kind == "bar" else ("largest", "smallest")
    unit = " percent" if chart.kind == "pie" else ""
    found = [
        Question("chart_value", f"What is the value of the {label} {part}?", f"{value}{unit}")
        for label, value in zip(chart.labels, chart.values, strict=True)
    ]
    ranked = sorted(zip(chart.values, chart.labels, strict=True))
    found.append(Question("chart_compare", f"Which {part} is the {high}?", ranked[-1][1], chart.labels))
    found.append(Question("chart_compare", f"Which {part} is the {low}?", ranked[0][1], chart.labels))
    first, second = shuffled(rng, list(zip(chart.labels, chart.values, strict=True)))[:2]
    comparison = "higher" if chart.kind == "bar" else "larger"
    question = f"Is the {first[0]} {part} {comparison} than the {second[0]} {part}?"
    found.append(yes_no("chart_compare", question, first[1] > second[1]))
    counts = tuple(str(number) for number in range(1, 7))
    found.append(Question("chart_count", f"How many {part}s are there?", str(len(chart.values)), counts))
    return found


def _line(chart: Chart) -> list[Question]:
    trends = ("rises", "falls", "ends where it starts")
    return [
        Question("chart_value", "What is the highest value of the line?", str(max(chart.values))),
        Question("chart_value", "What is the lowest value of the line?", str(min(chart.values))),
        Question("chart_value", "What is the first value of the line?", str(chart.values[0])),
        Question("chart_value", "What is the last value of the line?", str(chart.values[-1])),
        Question("chart_trend", "Does the line rise or fall from start to end?", trend(chart), trends),
        Question("chart_count", "How many points does the line have?", str(len(chart.values))),
        Question("colour", "What colour is the line?", chart.labels[0]),
    ]
