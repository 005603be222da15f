"""The benchmarks of the release as named entries, read from the YAML files in `benchmarks/`.

An entry says what a row of the papers' tables stands for: which split, which metric, which prompts, what was published.
Data are never fetched: `DataNote` tells where they come from and how they must lie on disk.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import yaml

from perceptic.errors import ConfigError
from perceptic.train.strict import build

_OTHER_FILES = ("templates.yaml", "means.yaml")


@dataclass(frozen=True)
class DataNote:
    """Where data come from, which the user fetches, and how they must lie.

    Attributes:
        source: name or address of the data set. licence: its terms, "" where unknown.
        layout: what `--data` must hold, in words.
    """

    source: str = ""
    licence: str = ""
    layout: str = ""


@dataclass(frozen=True)
class Benchmark:
    """One row of the papers' tables, or one of the synthetic world.

    Attributes:
        name: what `perceptic eval` calls it. title: what people call it.
        suite: the table it belongs to. task: which runner measures it (`runners.RUNNERS`).
        split: of the data. release_name: its folder under the released command line's `dataset_root`.
        items, classes: sizes; None where not stated. Data of another size are refused unless that is allowed.
        other_items: sizes of other copies in use. items_are_rough: copies and revisions differ, and which one was
            measured is not documented, so a difference of a few percent is a note.
        metrics: the names that a run reports, headline first.
        units: metric -> "points", for those that are not shares in percent (CIDEr, MME, RMSE, hits).
        templates: name of a template set (`templates.yaml`), used where the data bring none of their own.
        options: what this benchmark sets in its runner's options.
        published: model -> metric -> value, in the unit of the metric.
        data: how to get the data. note: what one must know to compare.
    """

    name: str
    suite: str
    task: str
    title: str
    metrics: tuple[str, ...]
    split: str = "test"
    release_name: str = ""
    items: int | None = None
    classes: int | None = None
    other_items: tuple[int, ...] = ()
    items_are_rough: bool = False
    units: dict[str, str] = field(default_factory=dict)
    templates: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    published: dict[str, dict[str, float]] = field(default_factory=dict)
    data: DataNote = field(default_factory=DataNote)
    note: str = ""

    @property
    def headline(self) -> str:
        """The metric that stands for the benchmark in a table."""
        return self.metrics[0]

    def published_for(self, model: str) -> Mapping[str, float]:
        """Metric -> value of a model by its name, repository or folder; empty where nothing was published."""
        by_name = {name.lower(): values for name, values in self.published.items()}
        return by_name.get(model.lower()) or by_name.get(model.rpartition("/")[2].lower(), {})


@functools.cache
def all_benchmarks() -> dict[str, Benchmark]:
    """Every entry by name, in the order of the files.

    Raises:
        ConfigError: a damaged installation: an entry that cannot be read, or two of one name.
    """
    found: dict[str, Benchmark] = {}
    folder = resources.files("perceptic.evaluate") / "benchmarks"
    for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if file.name.endswith(".yaml") and file.name not in _OTHER_FILES:
            for benchmark in parse_entries(file.read_text(encoding="utf-8"), file.name):
                if benchmark.name in found:
                    raise ConfigError(f"{file.name}: the benchmark '{benchmark.name}' is there twice")
                found[benchmark.name] = benchmark
    return found


def parse_entries(text: str, where: str) -> list[Benchmark]:
    """A file of entries: `defaults` (keys that all share) and `benchmarks` (a list).

    Raises:
        ConfigError: an unknown key or a value of the wrong kind.
    """
    value = _read_yaml(text)
    if not isinstance(value, dict) or set(value) - {"defaults", "benchmarks"}:
        raise ConfigError(f"{where}: expected the keys 'defaults' and 'benchmarks'")
    defaults = value.get("defaults") or {}
    return [build(Benchmark, {**defaults, **entry}, f"{where}.{entry.get('name')}") for entry in value["benchmarks"]]


def suites() -> dict[str, list[Benchmark]]:
    """Suite -> its benchmarks."""
    found: dict[str, list[Benchmark]] = {}
    for benchmark in all_benchmarks().values():
        found.setdefault(benchmark.suite, []).append(benchmark)
    return found


def find_benchmarks(names: Sequence[str]) -> list[Benchmark]:
    """Benchmarks by their names, by suites or by release names; each once, in the order of the names.

    Raises:
        ConfigError: an unknown name; the message has the nearest ones.
    """
    by_suite = suites()
    found: dict[str, Benchmark] = {}
    for name in names:
        for benchmark in by_suite.get(name.lower()) or [find_benchmark(name)]:
            found.setdefault(benchmark.name, benchmark)
    return list(found.values())


def find_benchmark(name: str) -> Benchmark:
    """One benchmark by its name or release name. Raises ConfigError with the nearest names."""
    table = all_benchmarks()
    aliases = {entry.release_name.lower(): entry for entry in table.values() if entry.release_name}
    found = table.get(name.lower()) or aliases.get(name.lower())
    if found is None:
        near = difflib.get_close_matches(name.lower(), [*table, *suites(), *aliases], n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "`perceptic eval --list` shows all names"
        raise ConfigError(f"no benchmark or suite is called '{name}'; {hint}")
    return found


@dataclass(frozen=True)
class PublishedMean:
    """A mean that the papers print: of which benchmarks and metrics (`name metric`), and its values by model."""

    title: str
    parts: tuple[str, ...]
    published: dict[str, float]


@functools.cache
def published_means() -> tuple[PublishedMean, ...]:
    """The means of `means.yaml`."""
    file = resources.files("perceptic.evaluate") / "benchmarks" / "means.yaml"
    rows = _read_yaml(file.read_text(encoding="utf-8"))
    return tuple(build(PublishedMean, row, file.name) for row in rows)


@functools.cache
def template_sets() -> dict[str, tuple[str, ...]]:
    """Prompt templates by name; `{c}` stands for the class name."""
    file = resources.files("perceptic.evaluate") / "benchmarks" / "templates.yaml"
    value = _read_yaml(file.read_text(encoding="utf-8"))
    return {str(name): tuple(map(str, templates)) for name, templates in value.items()}


def _read_yaml(text: str) -> Any:
    """The safe loader in C, where PyYAML has it: ten times as fast on a hundred entries."""
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
