"""A finished layer sweep as a page, as JSON and as a table: score over depth per task, the papers' figure."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from perceptic.evaluate.layers import SweepReport, TaskReport
from perceptic.evaluate.plots import Line, line_chart, page, table
from perceptic.evaluate.result import Score
from perceptic.files import write_text

_GRID = "display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 0 18px"
_METHOD = (
    "Linear probes on features of one layer at a time; the encoder is never trained. Shuffled: the same with the truth "
    "exchanged among pictures (tracking: patches of later frames in random places). Untrained: the same network with "
    "fresh weights."
)
HEADINGS = ("task", "metric", "best", "of", "score", "95 % interval", "last layer", "untrained, best", "shuffled, best")


def write_sweep(report: SweepReport, out: Path) -> None:
    """`layers.html` and `layers.json` in `out`. Raises OutputError."""
    write_text(out / "layers.html", render_sweep(report))
    write_text(out / "layers.json", json.dumps(sweep_values(report), indent=1) + "\n")


def sweep_values(report: SweepReport) -> dict[str, Any]:
    """The report as JSON values; every layer with its number from 0 (`layer`) and from 1 (`number`)."""
    return {
        "model": report.model,
        "num_layers": report.num_layers,
        "tasks": {name: _task_values(task) for name, task in report.tasks.items()},
        "settings": report.settings,
        "seconds": round(report.seconds, 1),
    }


def summary_rows(report: SweepReport) -> list[tuple[str, ...]]:
    """One row per task, as HEADINGS; layers are counted from 1 here, as in the papers."""
    rows: list[tuple[str, ...]] = []
    for task in report.tasks.values():
        best = task.scores[task.best_place]
        rows.append(
            (
                task.task,
                task.metric + (" (lower is better)" if task.lower_is_better else ""),
                str(task.best + 1),
                str(report.num_layers),
                number(best.value, task),
                "" if math.isnan(best.low) else f"{number(best.low, task)} to {number(best.high, task)}",
                number(task.scores[-1].value, task),
                number(_best_value(task, task.untrained), task) if task.untrained else "",
                number(_best_value(task, task.control), task),
            )
        )
    return rows


def number(value: float, task: TaskReport) -> str:
    """Percent with one digit; depths with three."""
    return f"{value:.3f}" if task.lower_is_better else f"{value:.1f}"


def render_sweep(report: SweepReport) -> str:
    """The whole page."""
    introduction = (
        f'<p class="soft">What the frozen features of each of the {report.num_layers} layers are worth, task by task. '
        f"Data: {escape(str(report.settings['data']))}. Layers are counted from 1, as in the papers; bands are 95 % "
        "bootstrap intervals over the test items; the best layer is ringed.</p>"
    )
    charts = "".join(f'<div class="card">{_chart(task)}{_marks(task)}</div>' for task in report.tasks.values())
    parts = [
        f'<div class="card"><h2>Where each task peaks</h2>{table(HEADINGS, summary_rows(report), num_words=2)}'
        f"{_together(report)}</div>",
        f'<div style="{_GRID}">{charts}</div>',
        *(_numbers(task) for task in report.tasks.values()),
        f'<div class="card"><h2>How it was measured</h2><p>{_METHOD}</p>'
        f"<details><summary>All settings</summary><pre>{escape(json.dumps(report.settings, indent=1))}</pre></details>"
        "</div>",
    ]
    return page(f"Layers of {report.model}", introduction, "".join(parts))


def _together(report: SweepReport) -> str:
    """All tasks over depth, each scaled to its own lowest and highest layer."""
    lines = []
    for place, task in enumerate(report.tasks.values()):
        values = [-score.value if task.lower_is_better else score.value for score in task.scores]
        low, span = min(values), (max(values) - min(values)) or 1.0
        x = [layer + 1 for layer in task.layers]
        lines.append(Line(task.task, x, [(value - low) / span for value in values], series=place, best=task.best_place))
    return line_chart(
        "All tasks", lines, x_label=f"layer, of {report.num_layers}", y_label="worst layer 0, best layer 1", width=860
    )


def _chart(task: TaskReport) -> str:
    x = [layer + 1 for layer in task.layers]

    def line(name: str, scores: tuple[Score, ...], series: int, best: int | None = None) -> Line:
        banded = all(math.isfinite(score.low) for score in scores)
        return Line(
            name,
            x,
            [score.value for score in scores],
            [score.low for score in scores] if banded else (),
            [score.high for score in scores] if banded else (),
            series,
            best,
        )

    lines = [line("trained", task.scores, 0, task.best_place)]
    if task.untrained:
        lines.append(line("untrained", task.untrained, 1))
    lines.append(line("shuffled", task.control, 5))
    unit = task.metric if task.lower_is_better else f"{task.metric}, %"
    return line_chart(task.task, lines, x_label="layer", y_label=unit)


def _marks(task: TaskReport) -> str:
    words = "; ".join(f"{name}: {number(value, task)}" for name, value in task.marks.items())
    return f'<p class="soft">{escape(words[:1].upper() + words[1:])}</p>' if words else ""


def _numbers(task: TaskReport) -> str:
    headings = (
        "layer",
        task.metric,
        "95 % interval",
        *task.extra,
        "shuffled",
        *(["untrained"] if task.untrained else []),
    )
    rows = []
    for place, layer in enumerate(task.layers):
        score = task.scores[place]
        rows.append(
            [
                str(layer + 1),
                number(score.value, task),
                "" if math.isnan(score.low) else f"{number(score.low, task)} to {number(score.high, task)}",
                *(f"{values[place].value:.1f}" for values in task.extra.values()),
                number(task.control[place].value, task),
                *([number(task.untrained[place].value, task)] if task.untrained else []),
            ]
        )
    return f'<div class="card"><h2>{escape(task.task.capitalize())}</h2>{table(headings, rows)}</div>'


def _best_value(task: TaskReport, scores: tuple[Score, ...]) -> float:
    values = [score.value for score in scores]
    return min(values) if task.lower_is_better else max(values)


def _task_values(task: TaskReport) -> dict[str, Any]:
    rows = []
    for place, layer in enumerate(task.layers):
        row: dict[str, Any] = {"layer": layer, "number": layer + 1, "score": _score_values(task.scores[place])}
        row["control"] = _score_values(task.control[place])
        if task.untrained:
            row["untrained"] = _score_values(task.untrained[place])
        row["extra"] = {name: _score_values(values[place]) for name, values in task.extra.items()}
        rows.append(row)
    return {
        "metric": task.metric,
        "lower_is_better": task.lower_is_better,
        "best_layer": task.best,
        "marks": task.marks,
        "layers": rows,
    }


def _score_values(score: Score) -> dict[str, float | int | None]:
    """JSON knows no NaN: what is not defined is null."""
    return {
        key: None if isinstance(value, float) and math.isnan(value) else value for key, value in asdict(score).items()
    }
