"""`perceptic data check`: read a mix once and report what is in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from perceptic.cli._shared import json_option, print_json
from perceptic.errors import EXIT_INTERRUPTED

if TYPE_CHECKING:
    from perceptic.data.check_table import TextTable
    from perceptic.data.pair_check import CheckedPairs
    from perceptic.data.plm_check import CheckedMix
    from perceptic.data.registry import MixPart, RegistryEntry

EXIT_BAD_DATA = 1
_MAX_JOBS = 8
_TABLE_WIDTH = 160
_DIRECT = "data"
"""The name of a data set that is given as a path."""


@click.command()
@click.argument("mix")
@click.option("--registry", type=click.Path(path_type=Path, dir_okay=False), help="The datasets.yaml with MIX's names.")
@click.option("--recipe", help="A PLM recipe (name or file): its registry, model and stages instead of options.")
@click.option("--phase", help="Which of the recipe's phases. Default: its last.")
@click.option("--model", default="PLM-Nano", show_default=True, help="Language model: name or folder.")
@click.option("--tokenizer", type=click.Path(path_type=Path), help="A tokenizer file, in place of the model's.")
@click.option("--stage", type=click.Choice(["1", "2", "3"]), default="3", show_default=True, help="Training stage.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE",
              help="Change the stage (max_num_tiles=16), or the recipe (data.rows=my.jsonl).")  # fmt: skip
@click.option("--num-frames", type=click.IntRange(1), default=1, show_default=True,
              help="Shards and folders: frames of a clip; 1 reads pictures.")  # fmt: skip
@click.option("--pairs", is_flag=True, help="Check a folder as contrastive training reads it.")
@click.option("--page", type=click.Path(path_type=Path, dir_okay=False), help="HTML page to write.")
@click.option("--show", type=click.IntRange(0), default=12, show_default=True, help="Samples of each set on the page.")
@click.option("--jobs", type=click.IntRange(1), help=f"Processes. Default: one a core, at most {_MAX_JOBS}.")
@click.option("--skip-limit", type=click.IntRange(0), default=0, show_default=True,
              help="Bad samples that are still fine: with more the exit status is 1.")  # fmt: skip
@json_option
def check(mix: str, registry: Path | None, skip_limit: int, as_json: bool, **options: Any) -> int:
    """Read everything in MIX once and report what a run would find.

    MIX is "name:weight,name:weight" with the names of --registry, or a path: rows.jsonl, a folder of captioned
    pictures, or tar shards ("shards/*.tar"). With --recipe, MIX may be "-" for the phase's own mix.

    Exit status: 0; 1 if more than --skip-limit samples cannot be used; 130 after Ctrl-C, with a report of what was
    read until then.
    """
    request = _request(mix, registry, options)
    outcome = _check_pairs(request) if request.is_pairs else _check_rows(request)
    if as_json:
        print_json(outcome.facts)
    else:
        _print(outcome, options["page"])
    if not outcome.is_complete:
        return EXIT_INTERRUPTED
    return EXIT_BAD_DATA if outcome.num_skipped > skip_limit else 0


@dataclass(frozen=True)
class _Request:
    """What is checked, and the options that say how."""

    parts: tuple[MixPart, ...]
    entries: dict[str, RegistryEntry]
    is_pairs: bool
    options: dict[str, Any]

    @property
    def jobs(self) -> int:
        return self.options["jobs"] or min(_MAX_JOBS, os.cpu_count() or 1)


@dataclass(frozen=True)
class _Outcome:
    """What is printed."""

    table: TextTable
    errors: TextTable
    notes: tuple[str, ...]
    facts: dict[str, Any]
    num_skipped: int
    is_complete: bool


def _request(mix: str, registry: Path | None, options: dict[str, Any]) -> _Request:
    from perceptic.cli._data_view import recipe_data
    from perceptic.data.registry import MixPart, parse_mix, read_registry

    parts: tuple[MixPart, ...] = (MixPart(_DIRECT, 1.0),)
    if options["recipe"] is not None:
        found = recipe_data(options)
        entries = found.entries if registry is None else read_registry(registry)
        parts = parse_mix(found.mix if mix == "-" else mix)
    elif registry is None:
        entries = {_DIRECT: _entry_of_path(mix)}
    else:
        parts, entries = parse_mix(mix), read_registry(registry)
    is_pairs = options["pairs"] or any(entries[part.name].shards for part in parts if part.name in entries)
    return _Request(parts, entries, is_pairs, options)


def _entry_of_path(path: str) -> RegistryEntry:
    from perceptic.data.registry import RegistryEntry
    from perceptic.errors import ConfigError

    if path.endswith(".tar"):
        return RegistryEntry(_DIRECT, shards=(path,))
    if Path(path).is_dir():
        return RegistryEntry(_DIRECT, folder=Path(path))
    if Path(path).is_file():
        return RegistryEntry(_DIRECT, Path(path), Path(path).parent)
    raise ConfigError(f"'{path}': no such file or folder; for a mix of named data sets give --registry datasets.yaml")


def _check_rows(request: _Request) -> _Outcome:
    from perceptic.cli._data_view import sample_maker
    from perceptic.data.check_page import table
    from perceptic.data.check_table import errors_table, rows_table
    from perceptic.data.plm_check import check_mix
    from perceptic.data.plm_page import fed_page
    from perceptic.data.registry import open_mix
    from perceptic.files import write_text

    options = request.options
    mix = open_mix(request.parts, request.entries)
    make = sample_maker(options)
    show = options["show"] if options["page"] else 0
    with reading_bar("rows") as on_row:
        checked: CheckedMix = check_mix(
            mix, make, num_tokens=make.max_tokens, show=show, jobs=request.jobs, on_row=on_row
        )
    report = checked.report
    lines, errors = rows_table(report), errors_table(report.row_sets)
    if options["page"]:
        write_text(options["page"], fed_page(checked.shown, make.tokenizer, table(lines) + table(errors)))
    notes = [f"samples of at most {make.max_tokens:,} tokens, {make.tokens_per_chunk} for a chunk"]
    if report.packed_share is not None:
        notes.append(f"packed sequences of {make.max_tokens:,} tokens would be {report.packed_share:.1%} full")
    facts = {"kind": "rows", **asdict(report), "num_skipped": report.num_skipped}
    return _Outcome(lines, errors, tuple(notes), facts, report.num_skipped, report.is_complete)


def _check_pairs(request: _Request) -> _Outcome:
    from perceptic.cli._data_view import clip_tokenizer
    from perceptic.data.check_page import table
    from perceptic.data.check_table import errors_table, pairs_table
    from perceptic.data.pair_check import check_pairs
    from perceptic.data.pair_page import pairs_page
    from perceptic.data.stream_parts import open_stream_parts
    from perceptic.files import write_text

    options = request.options
    parts = open_stream_parts(request.parts, request.entries)
    tokenizer = clip_tokenizer(options["tokenizer"])
    show = options["show"] if options["page"] else 0
    with reading_bar("shards") as on_unit:
        checked: CheckedPairs = check_pairs(
            parts, tokenizer, num_frames=options["num_frames"], show=show, jobs=request.jobs, on_unit=on_unit
        )
    lines, errors = pairs_table(checked), errors_table(checked.reports)
    if options["page"]:
        write_text(options["page"], pairs_page(checked.shown, table(lines) + table(errors)))
    facts = {
        "kind": "pairs",
        "data_sets": list(map(asdict, checked.reports)),
        "is_complete": checked.is_complete,
        "num_skipped": checked.num_skipped,
    }
    notes = (f"captions of at most {tokenizer.context_length} tokens of a vocabulary of {tokenizer.vocab_size:,}",)
    return _Outcome(lines, errors, notes, facts, checked.num_skipped, checked.is_complete)


def _print(outcome: _Outcome, page: Path | None) -> None:
    from rich.console import Console

    # A narrow terminal wraps lines; cut numbers would be wrong numbers.
    console = Console(highlight=False, width=max(Console().width, _TABLE_WIDTH))
    console.print(_rich(outcome.table))
    for note in outcome.notes:
        console.print(note, style="dim")
    if outcome.errors.lines:
        console.print("\n[bold]cannot be used[/bold]")
        for name, reason, count, examples in outcome.errors.lines:
            console.print(f"  {name}: {reason}: {count}", markup=False)
            for example in examples.split("\n"):
                console.print(f"      {example}", style="dim", markup=False)
    if not outcome.is_complete:
        console.print("\nInterrupted: this is what was read until then.", style="bold")
    if page is not None:
        console.print(f"\n{page}: what the model would be fed")


def _rich(content: TextTable) -> Any:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    last = len(content.columns) - 1
    for number, name in enumerate(content.columns):
        table.add_column(name, justify="left" if number in (0, last) else "right", no_wrap=number != last)
    for cells in content.lines:
        table.add_row(*cells)
    return table


@contextmanager
def reading_bar(unit: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error while that is a terminal."""
    from perceptic.cli._shared import progress_bar
    from perceptic.tasks.media_stream import Progress

    with progress_bar("reading", unit) as update:
        yield lambda done, total: update(Progress(done, 0, total))
