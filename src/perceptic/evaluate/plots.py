"""Small drawings as SVG text (curves over an axis, effects with their intervals) and the page they stand on.

Colours are CSS variables of the page (`PLOT_STYLE`), so a drawing follows light and dark; each series also has its own
dash and marker, so that it can be read without colour.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from perceptic.__about__ import __version__

PLOT_STYLE = """
:root {
  --series-0: #2f5fd0; --series-1: #c2501a; --series-2: #157a53;
  --series-3: #8a3fb0; --series-4: #a07a00; --series-5: #4a5568;
}
@media (prefers-color-scheme: dark) {
  :root {
    --series-0: #8fb0ff; --series-1: #ffa672; --series-2: #6fd3a6;
    --series-3: #d79cf2; --series-4: #e4c14f; --series-5: #aab4c4;
  }
}
svg text { font: 12px system-ui, "Segoe UI", Roboto, sans-serif; fill: var(--ink, #1d1f23); }
svg .title { font-weight: 650; }
svg .soft { fill: var(--soft, #5b606b); }
svg .axis, svg .grid { stroke: var(--line, #dedbd3); stroke-width: 1; }
svg .zero { stroke: var(--soft, #5b606b); stroke-width: 1; stroke-dasharray: 4 3; }
"""
_DASHES = ("", "7 3", "2 3", "9 3 2 3", "5 5", "1 4")
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 16, 30, 40


@dataclass(frozen=True)
class Line:
    """One curve: equally many `x` and `y`; `low` and `high` draw a band where they are given.

    Attributes:
        series: number of its colour and dash; `best` marks one point of it, by place in `x`.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    series: int = 0
    best: int | None = None


@dataclass(frozen=True)
class Effect:
    """One row of an interval chart; `points` are the single runs behind it."""

    name: str
    value: float
    low: float
    high: float
    points: Sequence[float] = ()
    series: int = 0


def line_chart(
    title: str, lines: Sequence[Line], *, x_label: str, y_label: str, width: int = 520, height: int = 300
) -> str:
    """Curves over a shared axis with their bands, a legend below the title, and the best point of each ringed."""
    xs = [x for line in lines for x in line.x]
    ys = [y for line in lines for y in (*line.y, *line.low, *line.high) if math.isfinite(y)]
    across = _Scale.over(xs, _LEFT, width - _RIGHT, padded=False)
    up = _Scale.over(ys, height - _BOTTOM, _TOP + 16, padded=True)
    parts = [_text(_LEFT, 14, title, kind="title"), *_legend([(line.name, line.series) for line in lines], width)]
    parts += _vertical_axis(up, width, y_label)
    parts += [_text(across.at(x), height - _BOTTOM + 16, _brief(x), anchor="middle", soft=True) for x in _few(xs)]
    parts.append(_text((_LEFT + width - _RIGHT) / 2, height - 6, x_label, anchor="middle", soft=True))
    for line in lines:
        parts += _curve(line, across, up)
    return _svg(parts, width, height, title)


def interval_chart(title: str, rows: Sequence[Effect], *, x_label: str, width: int = 640) -> str:
    """Effects around zero: the estimate, its interval, and each run as a small dot."""
    left, row_height = max(120, 24 + int(6.6 * max((len(row.name) for row in rows), default=0))), 34
    height = 48 + row_height * len(rows) + 34
    values = [0.0, *(v for row in rows for v in (row.low, row.high, row.value, *row.points) if math.isfinite(v))]
    across = _Scale.over(values, left, width - 24, padded=True)
    bottom = 40 + row_height * len(rows)
    parts = [_text(8, 16, title, kind="title")] if title else []
    for tick in across.ticks():
        kind = "zero" if tick == 0 else "grid"
        parts.append(
            f'<line class="{kind}" x1="{across.at(tick):.1f}" x2="{across.at(tick):.1f}" y1="32" y2="{bottom}"/>'
        )
        parts.append(_text(across.at(tick), bottom + 15, f"{tick:g}", anchor="middle", soft=True))
    parts.append(_text((left + width - 24) / 2, bottom + 31, x_label, anchor="middle", soft=True))
    for index, row in enumerate(rows):
        parts += _interval(row, across, 40 + row_height * (index + 0.5), left)
    return _svg(parts, width, height, title or f"Effects: {', '.join(row.name for row in rows)}")


@dataclass(frozen=True)
class _Scale:
    """Values to pixels."""

    low: float
    high: float
    first: float
    last: float

    @classmethod
    def over(cls, values: Sequence[float], first: float, last: float, *, padded: bool) -> _Scale:
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        room = (high - low) * 0.06 if padded and high > low else 0.0
        if high == low:
            low, high = low - 0.5, high + 0.5
        return cls(low - room, high + room, first, last)

    def at(self, value: float) -> float:
        return self.first + (value - self.low) / (self.high - self.low) * (self.last - self.first)

    def ticks(self) -> list[float]:
        """About five round numbers."""
        rough = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
        first = math.ceil(self.low / step)
        return [round(step * k, 10) for k in range(first, math.floor(self.high / step) + 1)]


def _curve(line: Line, across: _Scale, up: _Scale) -> list[str]:
    colour, dash = f"var(--series-{line.series % 6})", _DASHES[line.series % 6]
    places = [across.at(x) for x in line.x]
    parts: list[str] = []
    if line.low and line.high:
        edge = [f"{x:.1f},{up.at(y):.1f}" for x, y in zip(places, line.high, strict=True) if math.isfinite(y)]
        edge += [
            f"{x:.1f},{up.at(y):.1f}" for x, y in reversed([*zip(places, line.low, strict=True)]) if math.isfinite(y)
        ]
        parts.append(f'<polygon points="{" ".join(edge)}" fill="{colour}" opacity="0.14"/>')
    points = " ".join(f"{x:.1f},{up.at(y):.1f}" for x, y in zip(places, line.y, strict=True))
    parts.append(
        f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>'
    )
    for place, (x, y, value) in enumerate(zip(places, line.y, line.x, strict=True)):
        parts.append(
            f'<circle cx="{x:.1f}" cy="{up.at(y):.1f}" r="3" fill="{colour}">'
            f"<title>{escape(line.name)}, {value:g}: {y:.4g}</title></circle>"
        )
        if place == line.best:
            parts.append(
                f'<circle cx="{x:.1f}" cy="{up.at(y):.1f}" r="7" fill="none" stroke="{colour}" stroke-width="2"/>'
            )
    return parts


def _interval(row: Effect, across: _Scale, y: float, left: float) -> list[str]:
    colour = f"var(--series-{row.series % 6})"
    parts = [_text(left - 12, y + 4, row.name, anchor="end")]
    if math.isfinite(row.low) and math.isfinite(row.high):
        low, high = across.at(row.low), across.at(row.high)
        parts.append(f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="3"/>')
        for end in (low, high):
            parts.append(
                f'<line x1="{end:.1f}" x2="{end:.1f}" y1="{y - 6}" y2="{y + 6}" stroke="{colour}" stroke-width="2"/>'
            )
    for point in row.points:
        parts.append(f'<circle cx="{across.at(point):.1f}" cy="{y + 11}" r="2.5" fill="{colour}" opacity="0.7"/>')
    parts.append(
        f'<circle cx="{across.at(row.value):.1f}" cy="{y}" r="5" fill="{colour}">'
        f"<title>{escape(row.name)}: {row.value:.4g} ({row.low:.4g} to {row.high:.4g})</title></circle>"
    )
    return parts


def _vertical_axis(up: _Scale, width: int, label: str) -> list[str]:
    parts = [_text(_LEFT, _TOP + 12, label, soft=True)]
    for tick in up.ticks():
        y = up.at(tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{width - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(_LEFT - 6, y + 4, f"{tick:g}", anchor="end", soft=True))
    return parts


def _legend(names: Sequence[tuple[str, int]], width: int) -> list[str]:
    """From the right end of the title's row leftwards; one entry needs none."""
    if len(names) < 2:
        return []
    parts: list[str] = []
    right = float(width - _RIGHT)
    for name, series in reversed(names):
        right -= 6.4 * len(name)
        parts.append(_text(right, 14, name, soft=True))
        right -= 26
        parts.append(
            f'<line x1="{right:.1f}" x2="{right + 20:.1f}" y1="10" y2="10" stroke="var(--series-{series % 6})" '
            f'stroke-width="2" stroke-dasharray="{_DASHES[series % 6]}"/>'
        )
        right -= 12
    return parts


def _few(values: Sequence[float]) -> list[float]:
    """At most a dozen of the distinct values, evenly spaced, first and last included."""
    distinct = sorted(set(values))
    step = max(1, math.ceil((len(distinct) - 1) / 11))
    return distinct[::step] if (len(distinct) - 1) % step == 0 else [*distinct[::step], distinct[-1]]


def _brief(value: float) -> str:
    """Whole numbers whole, others with three digits: places that measurements happen to stand at."""
    return f"{value:g}" if value == int(value) else f"{value:.3g}"


def _text(x: float, y: float, words: str, *, anchor: str = "start", kind: str = "", soft: bool = False) -> str:
    name = "soft" if soft else kind
    style = f' class="{name}"' if name else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{style}>{escape(words)}</text>'


def _svg(parts: Sequence[str], width: int, height: int, title: str) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(title, quote=True)}" style="max-width: 100%; height: auto">{"".join(parts)}</svg>'
    )


def page(title: str, introduction: str, body: str) -> str:
    """One HTML file that needs nothing else. `introduction` and `body` are HTML; the look is that of all reports."""
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8") + PLOT_STYLE
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><link rel="icon" href="data:,"><style>{style}</style></head><body>'
        f"<header><h1>{escape(title)}</h1>{introduction}</header><main>{body}</main>"
        f"<footer>perceptic {escape(__version__)}</footer></body></html>\n"
    )


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, num_words: int = 1) -> str:
    """A table of texts; all columns but the first `num_words` hold numbers."""

    def cells(texts: Sequence[str], tag: str) -> str:
        kinds = ["" if place < num_words else ' class="number"' for place in range(len(texts))]
        return "".join(f"<{tag}{kind}>{escape(text)}</{tag}>" for kind, text in zip(kinds, texts, strict=True))

    lines = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table class="results"><thead><tr>{cells(headings, "th")}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )
