"""Charts to pixels: white paper, bars, lines or slices, a digit at every value."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from perceptic.world.charts import Chart
from perceptic.world.font import draw_ink, text_coverage
from perceptic.world.randomness import cos_sin
from perceptic.world.vocabulary import COLOURS

Array = NDArray[np.float64]

_INK = np.full(3, 30.0)
_GRID = np.full(3, 214.0)
_MARGIN = 0.06


def draw_chart(canvas: Array, chart: Chart) -> None:
    """Draw over the whole (H, H, 3) canvas, leaving a margin of background."""
    size = canvas.shape[0]
    low, high = int(_MARGIN * size), size - int(_MARGIN * size)
    canvas[low:high, low:high] = 250.0
    top = 0.1
    if chart.title:
        height = max(7, int(0.11 * size + 0.5))
        draw_ink(canvas, text_coverage(chart.title, height), 0.5, 0.17, _INK)
        top = 0.27
    {"bar": _draw_bars, "line": _draw_line, "pie": _draw_pie}[chart.kind](canvas, chart, top)


def _draw_bars(canvas: Array, chart: Chart, top: float) -> None:
    bottom, step = 0.9, 0.78 / len(chart.values)
    room = bottom - top - 0.1
    _draw_axes(canvas, top, bottom)
    for index, (label, value) in enumerate(zip(chart.labels, chart.values, strict=True)):
        left = 0.13 + index * step + 0.12 * step
        height = room * value / 9.0
        _fill(canvas, left, bottom - height, left + 0.76 * step, bottom, np.array(COLOURS[label], dtype=np.float64))
        _draw_value(canvas, value, left + 0.38 * step, bottom - height - 0.06)


def _draw_line(canvas: Array, chart: Chart, top: float) -> None:
    bottom, step = 0.9, 0.74 / len(chart.values)
    room = bottom - top - 0.16
    colour = np.array(COLOURS[chart.labels[0]], dtype=np.float64)
    _draw_axes(canvas, top, bottom)
    points = [(0.15 + (i + 0.5) * step, bottom - 0.04 - room * v / 9.0) for i, v in enumerate(chart.values)]
    for (x0, y0), (x1, y1) in pairwise(points):
        _stroke(canvas, x0, y0, x1, y1, 0.018, colour)
    for (x, y), value in zip(points, chart.values, strict=True):
        _stroke(canvas, x, y, x + 1e-6, y, 0.03, colour)
        _draw_value(canvas, value, x, y - 0.085)


def _draw_pie(canvas: Array, chart: Chart, top: float) -> None:
    size = canvas.shape[0]
    axis = (np.arange(size) + 0.5) / size
    centre_y, radius = 0.5 * (top + 0.92), 0.5 * (0.9 - top)
    across, down = axis[None, :] - 0.5, axis[:, None] - centre_y
    disc = np.clip((radius - np.sqrt(across * across + down * down)) * size + 0.5, 0.0, 1.0)[..., None]
    start = 0
    for label, value in zip(chart.labels, chart.values, strict=True):
        sector = _sector(across, down, start, start + value, size)[..., None]
        colour = np.array(COLOURS[label], dtype=np.float64)
        canvas += disc * sector * (colour - canvas)
        start += value
    start = 0
    for label, value in zip(chart.labels, chart.values, strict=True):
        cosine, sine = cos_sin(3.6 * (start + 0.5 * value) - 90.0)
        light = sum(COLOURS[label]) < 380
        x, y = 0.5 + 0.62 * radius * cosine, centre_y + 0.62 * radius * sine
        _draw_value(canvas, value, x, y, np.full(3, 250.0) if light else _INK)
        start += value


def _sector(across: Array, down: Array, start: int, end: int, size: int) -> Array:
    """Coverage of the sector between two percentages, clockwise from the top."""
    cosine, sine = cos_sin(3.6 * start - 90.0)
    after = np.clip((down * cosine - across * sine) * size + 0.5, 0.0, 1.0)
    cosine, sine = cos_sin(3.6 * end - 90.0)
    before = np.clip((across * sine - down * cosine) * size + 0.5, 0.0, 1.0)
    # More than half a turn: the union of two half planes instead of their intersection.
    return np.maximum(after, before) if end - start > 50 else np.minimum(after, before)


def _draw_axes(canvas: Array, top: float, bottom: float) -> None:
    for share in (0.25, 0.5, 0.75):
        y = bottom - (bottom - top) * share
        _fill(canvas, 0.11, y, 0.91, y + 0.012, _GRID)
    _fill(canvas, 0.1, top, 0.115, bottom, _INK)
    _fill(canvas, 0.1, bottom, 0.92, bottom + 0.015, _INK)


def _draw_value(canvas: Array, value: int, x: float, y: float, ink: Array = _INK) -> None:
    height = max(5, int(0.08 * canvas.shape[0] + 0.5))
    draw_ink(canvas, text_coverage(str(value), height, small=True), x, y, ink)


def _fill(canvas: Array, left: float, top: float, right: float, bottom: float, colour: Array) -> None:
    size = canvas.shape[0]
    axis = np.arange(size, dtype=np.float64)
    columns = np.clip(np.minimum(axis + 1, right * size) - np.maximum(axis, left * size), 0.0, 1.0)
    rows = np.clip(np.minimum(axis + 1, bottom * size) - np.maximum(axis, top * size), 0.0, 1.0)
    canvas += (rows[:, None] * columns[None, :])[..., None] * (colour - canvas)


def _stroke(canvas: Array, x0: float, y0: float, x1: float, y1: float, width: float, colour: Array) -> None:
    size = canvas.shape[0]
    axis = (np.arange(size) + 0.5) / size
    from_x, from_y = axis[None, :] - x0, axis[:, None] - y0
    edge_x, edge_y = x1 - x0, y1 - y0
    along = np.clip((from_x * edge_x + from_y * edge_y) / (edge_x * edge_x + edge_y * edge_y), 0.0, 1.0)
    off_x, off_y = from_x - edge_x * along, from_y - edge_y * along
    coverage = np.clip((width - np.sqrt(off_x * off_x + off_y * off_y)) * size + 0.5, 0.0, 1.0)
    canvas += coverage[..., None] * (colour - canvas)
