"""Measures of several runs of one recipe as a Markdown table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perceptic.train.world_report import Measure


def measure_table(names: Sequence[str], results: Sequence[Sequence[Measure]]) -> list[str]:
    """Lines of a table: a row for each measure, a column for each of `names`, their mean, guessing and the aim."""
    lines = [f"| percent | {' | '.join(names)} | mean | guessing | aim |", "| --- " * (len(names) + 4) + "|"]
    for row in zip(*results, strict=True):
        values = [measure.value for measure in row]
        cells = [*values, sum(values) / len(values), row[0].chance]
        aim = "" if row[0].aim is None else f"{row[0].aim:.0f}"
        lines.append(f"| {row[0].name} | {' | '.join(f'{value:.1f}' for value in cells)} | {aim} |")
    return lines


def measure_rows(results: Sequence[Sequence[Measure]]) -> list[dict[str, object]]:
    """The same for programs."""
    return [
        {
            "name": row[0].name,
            "values": [measure.value for measure in row],
            "chance": row[0].chance,
            "aim": row[0].aim,
        }
        for row in zip(*results, strict=True)
    ]
