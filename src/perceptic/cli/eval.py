"""`perceptic eval`: benchmarks in, numbers with intervals and a report out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from perceptic.cli._answer_options import answer_options, take_answer_options
from perceptic.cli._shared import device_option, dtype_option, json_option, print_json

if TYPE_CHECKING:
    from perceptic.evaluate.benchmark import Benchmark
    from perceptic.evaluate.request import ModelUnderTest
    from perceptic.evaluate.run import RunCallbacks

_WORLD_MODELS = ("PE-Core-Nano", "PLM-Nano")
_DEFAULT_MODEL = "PE-Core-Nano"


@click.command("eval")
@click.argument("names", nargs=-1, metavar="SUITE|BENCHMARK...")
@click.option(
    "--list", "as_list", is_flag=True, help="List the benchmarks instead: size, split, metric, where data are."
)
@click.option("--model", "models", multiple=True, metavar="MODEL",
              help="Zoo name, hub repository, folder or file; may be given several times. Default: PE-Core-Nano, "
                   "for the world suite PLM-Nano too.")  # fmt: skip
@click.option("--data", type=click.Path(path_type=Path),
              help="The data set, a folder of data sets, or a pattern with {dataset}.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path, file_okay=False),
              help="Folder for results.json, table.md, report.html. A run that was stopped goes on there.")  # fmt: skip
@click.option("--set", "options", multiple=True, metavar="KEY=VALUE",
              help="An option of the measurement: reweight=1, templates='a photo of {c}', layer=-2, ...")  # fmt: skip
@click.option("--limit", type=click.IntRange(min=1), help="Measure only so many items, drawn by the seed.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of everything that is drawn.")
@click.option(
    "--shuffle-labels", is_flag=True, help="The control: with truths exchanged, everything must fall to guessing."
)
@click.option("--allow-subset", is_flag=True,
              help="Measure data of another size than the published set; the row says so.")  # fmt: skip
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True, help="Pictures at once.")
@click.option("--features", type=click.Path(path_type=Path, file_okay=False),
              help="Folder of features, shared between runs. Default: inside --out.")  # fmt: skip
@answer_options
@device_option
@dtype_option
@json_option
def command(
    names: tuple[str, ...],
    as_list: bool,
    models: tuple[str, ...],
    data: Path | None,
    out: Path | None,
    options: tuple[str, ...],
    as_json: bool,
    **common: Any,
) -> int:
    """Measure models on benchmarks by the papers' protocols; a table on standard output, a report in --out.

    Nothing is fetched: a benchmark whose data you need says where they come from and how they must lie. `world` needs
    no data. Your own data: the benchmarks zero-shot, retrieval, knn, linear-probe, attention-probe.
    """
    from perceptic.evaluate.benchmark import find_benchmarks

    if as_list or not names:
        return _list(names, as_json)
    from perceptic.evaluate.result_folder import json_rows
    from perceptic.evaluate.run import run_benchmarks

    plan = _plan(find_benchmarks(names), models, data, out, options, common)
    failures: dict[str, str] = {}
    with _progress(failures) as callbacks:
        try:
            results = run_benchmarks(plan, callbacks)
        except KeyboardInterrupt:
            advice = "Run the same command again to go on." if out else "With --out a run can go on."
            raise KeyboardInterrupt(advice) from None
    if as_json:
        print_json({"results": json_rows(results), "failures": failures})
    else:
        _print_results(results, failures)
        if out is not None:
            click.echo(f"{out}: results.json, table.md, report.html")
    return 1 if failures else 0


def _plan(
    benchmarks: list[Benchmark],
    models: tuple[str, ...],
    data: Path | None,
    out: Path | None,
    options: tuple[str, ...],
    common: dict[str, Any],
) -> Any:
    from perceptic.evaluate.request import Common, ModelUnderTest
    from perceptic.evaluate.run import RunPlan

    device, dtype, features = common.pop("device"), common.pop("dtype"), common.pop("features")
    settings = {**take_answer_options(common), **_parse_options(options)}
    chosen = [ModelUnderTest(name, device=device, dtype=dtype) for name in models or _default_models(benchmarks)]
    return RunPlan(benchmarks, chosen, data, settings, Common(**common), out, features)


def _default_models(benchmarks: list[Benchmark]) -> tuple[str, ...]:
    """The bundled models: the language model only for the world, and only where the package brings its weights."""
    from perceptic.evaluate.runners import PLM_TASKS
    from perceptic.weights.plm_card import has_nano_weights

    is_asked = any(benchmark.task in PLM_TASKS and benchmark.suite == "world" for benchmark in benchmarks)
    return _WORLD_MODELS if is_asked and has_nano_weights() else (_DEFAULT_MODEL,)


def _parse_options(options: tuple[str, ...]) -> dict[str, Any]:
    import yaml

    values: dict[str, Any] = {}
    for option in options:
        key, equals, text = option.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{option!r} is not KEY=VALUE", param_hint="--set")
        try:
            values[key] = yaml.safe_load(text)
        except yaml.YAMLError:
            values[key] = text  # a template such as {c} looks like YAML and is a text
        if isinstance(values[key], dict):
            values[key] = text
    return values


@contextlib.contextmanager
def _progress(failures: dict[str, str]) -> Iterator[RunCallbacks]:
    """A bar on standard error while it is a terminal; lines for what failed everywhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from perceptic.evaluate.run import RunCallbacks

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task, now = bar.add_task("", total=None), {"name": ""}

        def start(benchmark: Benchmark, model: ModelUnderTest) -> None:
            now["name"] = f"{benchmark.name}, {model.name}"
            bar.update(task, description=now["name"], completed=0, total=None)

        def update(label: str, done: int, total: int) -> None:
            bar.update(task, description=f"{now['name']}: {label}", completed=done, total=total)

        def fail(benchmark: Benchmark, model: ModelUnderTest, error: Exception) -> None:
            failures[f"{benchmark.name} ({model.name})"] = str(error)

        def leave_out(benchmarks: Sequence[Benchmark]) -> None:
            named = ", ".join(benchmark.name for benchmark in benchmarks)
            click.echo(f"left out, as none of the models suits them: {named}", err=True)

        yield RunCallbacks(on_start=start, on_progress=update, on_left_out=leave_out, on_failure=fail)


def _print_results(results: list[Any], failures: dict[str, str]) -> None:
    from rich.console import Console
    from rich.table import Table

    from perceptic.evaluate.table import HEADINGS, markdown_table, mean_rows, table_rows

    console = Console()
    if not console.is_terminal:
        click.echo(markdown_table(results), nl=False)
    else:
        rows = [row.cells for row in [*table_rows(results), *mean_rows(results)]]
        used = [number for number in range(len(HEADINGS)) if number < 4 or any(row[number] for row in rows)]
        table = Table()
        for number in used:
            table.add_column(HEADINGS[number], justify="right" if 3 <= number <= 7 else "left")
        for row in rows:
            table.add_row(*(row[number] for number in used))
        console.print(table)
    for name, reason in failures.items():
        click.echo(f"{name}: not measured: {reason}", err=True)


def _list(names: tuple[str, ...], as_json: bool) -> int:
    from perceptic.evaluate.benchmark import all_benchmarks, find_benchmarks
    from perceptic.evaluate.runners import is_runnable

    chosen = find_benchmarks(names) if names else list(all_benchmarks().values())
    if as_json:
        print_json({"benchmarks": chosen})
        return 0
    suite = ""
    for benchmark in chosen:
        if benchmark.suite != suite:
            suite = benchmark.suite
            click.echo(f"\n{suite}")
        size = ", ".join(
            f"{count:,} {what}" for count, what in ((benchmark.items, "items"), (benchmark.classes, "classes")) if count
        )
        runs = "" if is_runnable(benchmark) else "  (described only)"
        click.echo(f"  {benchmark.name:28} {benchmark.title}; {benchmark.headline}{'; ' + size if size else ''}{runs}")
        if names and benchmark.data.source:
            click.echo(f"  {'':28} data: {benchmark.data.source}")
            if benchmark.data.layout:
                click.echo(f"  {'':28} layout: {benchmark.data.layout}")
    return 0
