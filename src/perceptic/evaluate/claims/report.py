"""Findings as pages: one per claim with its plots, and an index of verdicts."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from perceptic.evaluate.claims.claim import Quantity
from perceptic.evaluate.claims.runner import Effect as Found
from perceptic.evaluate.claims.runner import Finding, finding_values
from perceptic.evaluate.plots import Effect, Line, interval_chart, line_chart, page, table
from perceptic.files import write_text

HEADINGS = ("claim", "effect", "expected", "found", "95 % interval", "seeds", "verdict")


def write_findings(findings: Sequence[Finding], out: Path) -> None:
    """`claims.html`, `claims.json` and a page `claim-NN.html` for each. Raises OutputError."""
    for finding in findings:
        write_text(out / f"{page_name(finding)}", render_finding(finding))
    write_text(out / "claims.html", render_index(findings))
    values = [finding_values(finding) for finding in findings]
    write_text(out / "claims.json", json.dumps(values, indent=1) + "\n")


def page_name(finding: Finding) -> str:
    return f"claim-{finding.claim.number:02d}.html"


def finding_rows(finding: Finding) -> list[tuple[str, ...]]:
    """A row per effect as HEADINGS; conditions say whether they are met, what does not decide is in brackets."""
    rows: list[tuple[str, ...]] = []
    for effect in finding.effects:
        quantity, found = effect.quantity, effect.estimate
        rows.append(
            (
                str(finding.claim.number),
                f"{quantity.name} ({quantity.unit})",
                quantity.direction,
                f"{found.mean:+.1f}",
                _interval(effect),
                str(len(found.values)),
                _verdict(effect),
            )
        )
    return rows


def render_index(findings: Sequence[Finding]) -> str:
    """All claims of a run."""
    links = "".join(
        f'<li><a href="{page_name(finding)}">{finding.claim.number}. {escape(finding.claim.title)}</a>: '
        f"<b>{finding.verdict}</b>, {len(finding.results)} seeds</li>"
        for finding in findings
    )
    introduction = (
        '<p class="soft">Claims of the papers, tried on the synthetic world with small encoders. Directions were '
        "written down before the experiments; intervals are 95 % t intervals over seeds.</p>"
    )
    effects = [row for finding in findings for row in finding_rows(finding)]
    body = (
        f'<div class="card"><ul>{links}</ul></div>'
        f'<div class="card"><h2>Effects</h2>{table(HEADINGS, effects, num_words=3)}</div>'
    )
    return page("Claims in miniature", introduction, body)


def render_finding(finding: Finding) -> str:
    """One claim."""
    claim = finding.claim
    introduction = (
        f"<p><b>{_capital(finding.verdict)}</b>, over {len(finding.results)} seeds"
        + (" (the budget ended before the others)" if finding.out_of_budget else "")
        + f".{escape(_why_undecided(finding))}</p><p>{escape(claim.statement)}</p>"
    )
    parts = [
        f'<div class="card"><h2>Effect</h2>{_chart(finding)}{table(HEADINGS, finding_rows(finding), num_words=3)}'
        '<p class="soft">Small dots are seeds. A verdict in brackets is reported and does not decide; '
        "without its conditions nothing of a claim is decided.</p></div>",
        _curves(finding),
        f'<div class="card"><h2>Experiment</h2><p>{escape(claim.experiment)}</p>'
        f"<h3>What it cannot show</h3><p>{escape(claim.caveats)}</p></div>",
        f'<div class="card"><h2>Scores behind it</h2>{_scores(finding)}</div>',
    ]
    return page(f"Claim {claim.number}: {claim.title}", introduction, "".join(parts))


def _chart(finding: Finding) -> str:
    """Effects of one unit on one axis."""
    charts = []
    for unit in dict.fromkeys(effect.quantity.unit for effect in finding.effects):
        rows = [
            Effect(
                effect.quantity.name,
                effect.estimate.mean,
                effect.estimate.low,
                effect.estimate.high,
                effect.estimate.values,
                _series(effect.quantity),
            )
            for effect in finding.effects
            if effect.quantity.unit == unit
        ]
        charts.append(interval_chart("", rows, x_label=unit, width=860))
    return "".join(charts)


def _curves(finding: Finding) -> str:
    """The mean curve of each name over seeds, with the seeds' range as its band."""
    names = dict.fromkeys(curve.name for result in finding.results for curve in result.curves)
    if not names:
        return ""
    lines = []
    for series, name in enumerate(names):
        curves = [curve for result in finding.results for curve in result.curves if curve.name == name]
        columns = list(zip(*(curve.y for curve in curves), strict=True))
        lines.append(
            Line(
                name,
                curves[0].x,
                [sum(column) / len(column) for column in columns],
                [min(column) for column in columns],
                [max(column) for column in columns],
                series,
            )
        )
    x_label, y_label = finding.claim.curve_axes
    drawn = line_chart("Mean and range over seeds", lines, x_label=x_label, y_label=y_label, width=860, height=340)
    return f'<div class="card">{drawn}</div>'


def _scores(finding: Finding) -> str:
    names = dict.fromkeys(name for result in finding.results for name in result.scores)
    headings = ("score", *(f"seed {seed}" for seed in finding.seeds), "mean")
    rows = []
    for name in names:
        values = [result.scores.get(name, math.nan) for result in finding.results]
        rows.append((name, *(_plain(value) for value in values), _plain(sum(values) / len(values))))
    return table(headings, rows)


def _verdict(effect: Found) -> str:
    if effect.quantity.is_condition:
        return "condition: met" if effect.verdict == "holds" else "condition: not met"
    return effect.verdict if effect.quantity.decides else f"({effect.verdict})"


def _why_undecided(finding: Finding) -> str:
    return f" A condition is not met: {'; '.join(finding.unmet)}." if finding.unmet else ""


def _series(quantity: Quantity) -> int:
    """Colours: what decides, conditions, what is merely reported."""
    if quantity.is_condition:
        return 2
    return 0 if quantity.decides else 5


def _interval(effect: Found) -> str:
    low, high = effect.estimate.low, effect.estimate.high
    return "" if math.isnan(low) else f"{low:+.1f} to {high:+.1f}"


def _plain(value: float) -> str:
    """One digit for percentages and the like; small numbers as they are."""
    return f"{value:.1f}" if value == 0 or abs(value) >= 0.1 else f"{value:.1g}"


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
