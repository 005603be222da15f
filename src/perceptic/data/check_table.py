"""Reports of a check as tables of words, for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from perceptic.data.pair_check import CheckedPairs, PartReport
from perceptic.data.plm_check import MixReport, RowSetReport


@dataclass(frozen=True)
class TextTable:
    """Column names and lines of as many cells."""

    columns: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


def rows_table(report: MixReport) -> TextTable:
    """One line for each data set of rows, and their sum."""
    columns = ("data set", "share", "rows", "usable", "bad", "cut", "no answer", "tokens", "learned", "longest",
               "chunks", "kinds")  # fmt: skip
    lines = [_row_set_line(item) for item in report.row_sets]
    if len(lines) > 1:
        lines.append(_row_set_line(_sum(report.row_sets)))
    return TextTable(columns, tuple(lines))


def pairs_table(checked: CheckedPairs) -> TextTable:
    """One line for each data set of pairs."""
    columns = ("data set", "share", "shards", "samples", "usable", "videos", "bad", "tokens", "cut", "sides")
    return TextTable(columns, tuple(map(_part_line, checked.reports)))


def errors_table(reports: Sequence[RowSetReport | PartReport]) -> TextTable:
    """What cannot be used: one line for each data set and reason, with the first examples."""
    lines = [
        (item.name, reason, _number(count), "\n".join(item.examples.get(reason, [])))
        for item in reports
        for reason, count in sorted(item.skipped.items(), key=lambda pair: -pair[1])
    ]
    return TextTable(("data set", "reason", "number", "the first of them"), tuple(lines))


def _row_set_line(item: RowSetReport) -> tuple[str, ...]:
    rows = _number(item.num_rows)
    if item.num_read < item.num_rows:
        rows = f"{_number(item.num_read)} of {rows}"
    numbers = (item.num_usable, item.num_read - item.num_usable, item.num_cut, item.num_silent, item.num_tokens,
               item.num_learned, item.longest, item.num_chunks)  # fmt: skip
    kinds = ", ".join(f"{kind.replace('_', ' ')} {_number(count)}" for kind, count in sorted(item.media_types.items()))
    return (item.name, f"{item.share:.1%}", rows, *map(_number, numbers), kinds)


def _part_line(item: PartReport) -> tuple[str, ...]:
    units = _number(item.num_units)
    if item.num_read < item.num_units:
        units = f"{_number(item.num_read)} of {units}"
    numbers = (item.num_samples, item.num_usable, item.num_videos, sum(item.skipped.values()), item.num_tokens,
               item.num_cut)  # fmt: skip
    sides = f"{item.smallest_side} to {item.largest_side}" if item.num_usable else ""
    return (item.name, f"{item.share:.1%}", units, *map(_number, numbers), sides)


def _sum(items: Sequence[RowSetReport]) -> RowSetReport:
    def total(name: str) -> int:
        return sum(getattr(item, name) for item in items)

    return RowSetReport(
        name="all",
        share=1.0,
        num_rows=total("num_rows"),
        num_read=total("num_read"),
        num_usable=total("num_usable"),
        num_cut=total("num_cut"),
        num_silent=total("num_silent"),
        num_tokens=total("num_tokens"),
        longest=max(item.longest for item in items),
        num_learned=total("num_learned"),
        num_chunks=total("num_chunks"),
        media_types={},
        skipped={},
        examples={},
    )


def _number(value: int) -> str:
    return f"{value:,}"
