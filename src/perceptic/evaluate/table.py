"""Results as a table: ours with its interval beside what was published, what guessing gives, and how many items."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from perceptic.evaluate.benchmark import Benchmark, all_benchmarks, published_means
from perceptic.evaluate.published_size import SUBSET
from perceptic.evaluate.result import EvalResult, Score

HEADINGS = ("benchmark", "model", "metric", "ours", "95 % interval", "paper", "guessing", "items", "settings")
_PLAIN_METRICS = 6


@dataclass(frozen=True)
class Row:
    """One metric of one result; texts as they are printed."""

    benchmark: str
    model: str
    metric: str
    ours: str
    interval: str
    paper: str
    chance: str
    items: str
    settings: str

    @property
    def cells(self) -> tuple[str, ...]:
        return (
            self.benchmark,
            self.model,
            self.metric,
            self.ours,
            self.interval,
            self.paper,
            self.chance,
            self.items,
            self.settings,
        )


def table_rows(results: Sequence[EvalResult], *, headline_only: bool = False) -> list[Row]:
    """The benchmark's own metrics of every result; with `headline_only` the first one of each."""
    rows = []
    for result in results:
        benchmark = all_benchmarks().get(result.benchmark)
        for metric in shown_metrics(result, benchmark)[: 1 if headline_only else None]:
            score = result.metrics[metric]
            rows.append(
                Row(
                    benchmark.title if benchmark else result.benchmark,
                    result.model,
                    metric,
                    f"{score.value:.1f}" if abs(score.value) >= 1 or score.value == 0 else f"{score.value:.3f}",
                    interval_text(score),
                    _number(result.published.get(metric)),
                    _number(score.chance),
                    f"{result.num_items:,}" + (f" ({result.num_failed} unreadable)" if result.num_failed else ""),
                    settings_text(result),
                )
            )
    return rows


def mean_rows(results: Sequence[EvalResult]) -> list[Row]:
    """The papers' means, for every model of which all their parts were measured, beside the published ones."""
    rows = []
    for model in dict.fromkeys(result.model for result in results):
        whole = [one for one in results if one.model == model and _is_whole(one)]
        scores = {f"{one.benchmark} {name}": score for one in whole for name, score in one.metrics.items()}
        for mean in published_means():
            if all(part in scores for part in mean.parts):
                score = _mean([(part.split()[0], scores[part]) for part in mean.parts])
                paper = mean.published.get(model.rpartition("/")[2])
                values = (f"{score.value:.1f}", interval_text(score), _number(paper), "", "", "")
                rows.append(Row(mean.title, model, f"mean of {len(mean.parts)}", *values))
    return rows


def _is_whole(result: EvalResult) -> bool:
    """A control or a part of the data does not belong into a mean."""
    settings = result.settings
    is_part = settings.get("limit") is not None or settings.get("facts", {}).get(SUBSET)
    return not is_part and not settings.get("shuffle_labels")


def _mean(parts: Sequence[tuple[str, Score]]) -> Score:
    """Mean of scores by benchmark. Errors of different benchmarks are independent, those of one taken as if they were
    the same, which makes the interval rather too wide."""
    value = sum(score.value for _, score in parts) / len(parts)
    down: dict[str, float] = {}
    up: dict[str, float] = {}
    for name, score in parts:
        down[name] = down.get(name, 0.0) + score.value - score.low
        up[name] = up.get(name, 0.0) + score.high - score.value
    low, high = (math.hypot(*widths.values()) / len(parts) for widths in (down, up))
    return Score(value, value - low, value + high)


def shown_metrics(result: EvalResult, benchmark: Benchmark | None) -> list[str]:
    """The metrics that the benchmark names, as far as they were measured; the first few of any others."""
    named = [metric for metric in benchmark.metrics if metric in result.metrics] if benchmark else []
    return named or list(result.metrics)[:_PLAIN_METRICS]


def markdown_table(results: Sequence[EvalResult]) -> str:
    """A Markdown table; columns that say nothing are left out."""
    rows = [row.cells for row in [*table_rows(results), *mean_rows(results)]]
    used = [number for number in range(len(HEADINGS)) if number < 4 or any(row[number] for row in rows)]
    lines = ["| " + " | ".join(HEADINGS[number] for number in used) + " |", "| --- " * len(used) + "|"]
    lines += ["| " + " | ".join(row[number].replace("|", "\\|") for number in used) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def interval_text(score: Score) -> str:
    """`89.8 to 94.4`, or nothing where there is none."""
    if math.isnan(score.low) or math.isnan(score.high):
        return ""
    return f"{score.low:.1f} to {score.high:.1f}"


def settings_text(result: EvalResult) -> str:
    """What is not as usual: a part of the data, the control, a limit, a mode, options that were set."""
    settings = result.settings
    benchmark = all_benchmarks().get(result.benchmark)
    is_own = benchmark is not None and benchmark.suite == "own"
    said = [str(settings["data"])] if is_own and settings.get("data") else []
    subset = settings.get("facts", {}).get(SUBSET)
    if subset:
        said.append(f"subset: {subset}")
    if settings.get("shuffle_labels"):
        said.append("labels shuffled")
    if settings.get("limit") is not None:
        said.append(f"limit {settings['limit']}")
    if settings.get("seed"):
        said.append(f"seed {settings['seed']}")
    mode = settings.get("options", {}).get("mode")
    if mode:
        said.append(str(mode))
    said += [f"{key}={value}" for key, value in settings.get("set", {}).items() if key != "mode"]
    return ", ".join(said)


def _number(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.1f}"
