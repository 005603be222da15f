"""Results as one HTML page that needs nothing else: the table, and below it what is behind each row."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

from perceptic.__about__ import __version__
from perceptic.evaluate.benchmark import Benchmark, all_benchmarks
from perceptic.evaluate.published_size import is_comparable
from perceptic.evaluate.result import ClassShare, Details, EvalResult, Mistake, Score
from perceptic.evaluate.table import Row, interval_text, mean_rows, settings_text, shown_metrics, table_rows

_STYLE = Path(__file__).with_name("report.css")
_MAX_BARS = 60
_CELL = 16
_LETTER = 6.4  # pixels of the labels, on average
_SHORT_LABEL = 20
_NUMBER_COLUMNS = ("ours", "paper", "guessing", "items")


def render_report(results: Sequence[EvalResult]) -> str:
    """The whole page."""
    models = list(dict.fromkeys(result.model for result in results))
    title = "Evaluation of " + (", ".join(models) or "nothing yet")
    sections = [_section(number, result) for number, result in enumerate(results)]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><link rel="icon" href="data:,">'
        f"<style>{_STYLE.read_text(encoding='utf-8')}</style></head><body>"
        f"<header><h1>{escape(title)}</h1>{_legend(results)}</header><main>"
        + _table(results)
        + "\n".join(sections)
        + f"</main><footer>perceptic {escape(__version__)}. Numbers and settings: results.json; "
        "answers one by one: items/.</footer></body></html>\n"
    )


def _legend(results: Sequence[EvalResult]) -> str:
    words = "Bars: ours with its 95 % bootstrap interval"
    if any(result.published for result in results):
        words += "; the diamond is the published value"
    return f'<p class="soft">{words}; the thin line is guessing. Shares are in percent.</p>'


def _table(results: Sequence[EvalResult]) -> str:
    has_paper = any(result.published for result in results)
    columns = ("benchmark", "model", "metric", "ours", "95 % interval", "", *_published(has_paper), "guessing", "items")
    head = "".join(f'<th class="{"number" if name in _NUMBER_COLUMNS else ""}">{name}</th>' for name in columns)
    lines = []
    for number, result in enumerate(results):
        metrics = shown_metrics(result, all_benchmarks().get(result.benchmark))
        for place, (row, metric) in enumerate(zip(table_rows([result]), metrics, strict=True)):
            published = result.published.get(metric)
            lines.append(_line(row, number, place, _range(result.metrics[metric], published), has_paper))
    for row in mean_rows(results):
        lines.append(_line(row, None, 0, "", has_paper))
    return (
        f'<div class="card scroll"><table class="results"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _published(has_paper: bool) -> tuple[str, ...]:
    """The column of the papers' numbers, where one of the results has any."""
    return ("paper",) if has_paper else ()


def _line(row: Row, number: int | None, place: int, drawing: str, has_paper: bool) -> str:
    """A row of the table; `number` None has no section to point to, `place` above 0 belongs to the row before it."""
    linked = escape(row.benchmark) if number is None else f'<a href="#result-{number}">{escape(row.benchmark)}</a>'
    name = linked if place == 0 else ""
    if row.settings and place == 0:
        name += f'<br><span class="soft small">{escape(row.settings)}</span>'
    paper = f'<td class="number">{row.paper}</td>' if has_paper else ""
    cells = (
        f'<td class="wrap">{name}</td><td>{escape(row.model) if place == 0 else ""}</td><td>{escape(row.metric)}</td>'
        f'<td class="number"><b>{row.ours}</b></td><td>{row.interval}</td><td>{drawing}</td>'
        f'{paper}<td class="number">{row.chance}</td><td class="number">{row.items}</td>'
    )
    return f'<tr class="{"next" if place == 0 else ""}">{cells}</tr>'


def _range(score: Score, published: float | None) -> str:
    """Ours, its interval, the published value and guessing on a line from 0 to 100; nothing for other units."""
    if not 0 <= score.value <= 100:
        return ""
    wide, scale = 160, 1.56
    said = f"{score.value:.1f}" + (f", interval {interval_text(score)}" if interval_text(score) else "")
    parts = [
        f'<line x1="2" x2="{wide - 2}" y1="8" y2="8" stroke="var(--line)" stroke-width="2"/>',
        f'<rect x="2" y="5" width="{score.value * scale:.1f}" height="6" rx="3" fill="var(--ours)" opacity="0.35"/>',
    ]
    if score.chance is not None and 0 <= score.chance <= 100:
        x = 2 + score.chance * scale
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="1" y2="15" stroke="var(--soft)" stroke-width="1"/>')
    if interval_text(score):
        low, high = 2 + score.low * scale, 2 + score.high * scale
        parts.append(f'<line x1="{low:.1f}" x2="{high:.1f}" y1="8" y2="8" stroke="var(--ours)" stroke-width="4"/>')
    parts.append(f'<circle cx="{2 + score.value * scale:.1f}" cy="8" r="4" fill="var(--ours)"/>')
    if published is not None and 0 <= published <= 100:
        x = 2 + published * scale
        parts.append(f'<path d="M{x:.1f} 2 l5 6 l-5 6 l-5 -6 z" fill="none" stroke="var(--paper)" stroke-width="2"/>')
        said += f", published {published:.1f}"
    return f'<svg class="range" viewBox="0 0 {wide} 16" role="img" aria-label="{said}">{"".join(parts)}</svg>'


def _section(number: int, result: EvalResult) -> str:
    benchmark = all_benchmarks().get(result.benchmark)
    details = result.details
    notes = [*([benchmark.note] if benchmark and benchmark.note else []), *details.notes]
    said = settings_text(result)
    head = f"{escape(result.model)}, {result.num_items:,} items, {result.seconds:.1f} s" + (
        f", {escape(said)}" if said else ""
    )
    settings = escape(json.dumps(result.settings, indent=1, default=str))
    parts = [
        f'<section class="card" id="result-{number}"><div class="head"><h2>{escape(_title(benchmark, result))}</h2>'
        f'<span class="soft">{head}</span></div>',
        *(f'<p class="note">{escape(note)}</p>' for note in notes),
        _other_models(benchmark, result),
        _bars(details.classes),
        _confusion(details),
        _mistakes(details.mistakes),
        f"<details><summary>Every setting</summary><pre>{settings}</pre></details>",
        "</section>",
    ]
    return "".join(parts)


def _title(benchmark: Benchmark | None, result: EvalResult) -> str:
    return benchmark.title if benchmark else result.benchmark


def _other_models(benchmark: Benchmark | None, result: EvalResult) -> str:
    """What was published for other models, in one line; nothing beside data that do not compare."""
    if benchmark is None or not benchmark.published or not is_comparable(benchmark, result.settings):
        return ""
    metric = shown_metrics(result, benchmark)[0]
    known = [(name, values[metric]) for name, values in benchmark.published.items() if metric in values]
    listed = ", ".join(f"{escape(name)} {value:g}" for name, value in known)
    return f'<p class="soft">Published {escape(metric)}: {listed}.</p>' if known else ""


def _bars(classes: Sequence[ClassShare]) -> str:
    if not classes:
        return ""
    shown = classes[:_MAX_BARS]
    more = f" (the {_MAX_BARS} worst of {len(classes)})" if len(classes) > _MAX_BARS else " (worst first)"
    lines = "".join(
        f'<div><span class="name" title="{escape(bar.name)}">{escape(bar.name)}</span>'
        f'<span class="bar"><i style="width:{bar.value:.1f}%"></i></span>'
        f"<span>{bar.value:.0f} % of {bar.count}</span></div>"
        for bar in shown
    )
    return f'<h3>By class{more}</h3><div class="bars">{lines}</div>'


def _confusion(details: Details) -> str:
    """True class in rows, predicted in columns; the darker, the larger the share of its row."""
    names, counts = details.class_names, details.confusion
    if not names or len(names) != len(counts):
        return ""
    side = len(names) * _CELL
    margin = 14 + round(_LETTER * min(_SHORT_LABEL, max(map(len, names))))
    parts = [f'<rect class="frame" x="{margin}" y="{margin}" width="{side}" height="{side}"/>']
    for row, (name, line) in enumerate(zip(names, counts, strict=True)):
        middle, label = margin + row * _CELL + _CELL * 0.7, escape(name[:_SHORT_LABEL])
        edge = margin - 6
        parts.append(f'<text x="{edge}" y="{middle:.0f}" text-anchor="end">{label}</text>')
        parts.append(f'<text transform="translate({middle:.0f} {edge}) rotate(-90)">{label}</text>')
        parts += _cells(row, names, line, margin)
    size = margin + side + 4
    return (
        "<h3>Confusions (rows: true, columns: predicted; point at a cell for its count)</h3>"
        f'<div class="scroll"><svg class="confusion" width="{size}" height="{size}" viewBox="0 0 {size} {size}" '
        f'role="img" aria-label="confusion matrix">{"".join(parts)}</svg></div>'
    )


def _cells(row: int, names: Sequence[str], counts: Sequence[int], margin: int) -> list[str]:
    total, y = sum(counts), margin + row * _CELL
    return [
        f'<rect x="{margin + column * _CELL}" y="{y}" width="{_CELL}" height="{_CELL}" '
        f'fill="rgb(var(--heat) / {max(0.08, count / total):.2f})">'
        f"<title>{escape(names[row])} taken for {escape(names[column])}: {count} of {total}</title></rect>"
        for column, count in enumerate(counts)
        if count
    ]


def _mistakes(mistakes: Sequence[Mistake]) -> str:
    if not mistakes:
        return ""
    return f'<h3>Nearest mistakes</h3><ul class="mistakes">{"".join(map(_mistake, mistakes))}</ul>'


def _mistake(one: Mistake) -> str:
    picture = '<div class="empty">no picture</div>'
    if one.image is not None:
        kind = "png" if one.image.startswith(b"\x89PNG") else "jpeg"
        encoded = base64.b64encode(one.image).decode()
        picture = f'<img alt="{escape(one.item)}" src="data:image/{kind};base64,{encoded}">'
    detail = f'<br><span class="soft">{escape(one.detail)}</span>' if one.detail else ""
    return (
        f"<li>{picture}<p>is <b>{escape(one.truth)}</b><br>taken for <b>{escape(one.prediction)}</b>{detail}"
        f'<br><span class="soft">{escape(one.item)}</span></p></li>'
    )
