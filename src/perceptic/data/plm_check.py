"""Read a whole mix once and say what is in it, before a run finds out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from perceptic.data.checking import results, spread
from perceptic.data.packing import pack_all
from perceptic.data.plm_rows import PlmRow
from perceptic.data.plm_samples import TrainingSample
from perceptic.data.plm_stream import MakeSample
from perceptic.data.registry import Mix
from perceptic.data.samples import SampleError
from perceptic.data.skipped import SkippedSamples

_ROWS_AT_ONCE = 64
_PACKED_ROWS = 100_000
"""Rows that the share of padding is estimated from; packing more takes time and changes no digit."""


@dataclass(frozen=True)
class RowSetReport:
    """What reading every row of a data set has shown.

    Attributes:
        share: of the draws of the mix.
        num_rows: lines. num_read: of them, fewer only after an interruption. num_usable: that can be trained on.
        num_cut: usable rows whose later turns do not fit.
        num_silent: usable rows with an answer of no words.
        num_tokens: that the model reads, of all usable rows; longest: of one.
        num_learned: tokens that are predicted. num_chunks: pictures, tiles and frames.
        media_types: usable rows by kind.
        skipped: rows that cannot be used, by reason; examples: the first few of each.
    """

    name: str
    share: float
    num_rows: int
    num_read: int
    num_usable: int
    num_cut: int
    num_silent: int
    num_tokens: int
    longest: int
    num_learned: int
    num_chunks: int
    media_types: dict[str, int]
    skipped: dict[str, int]
    examples: dict[str, list[str]]


@dataclass(frozen=True)
class MixReport:
    """A report of each data set.

    Attributes:
        packed_share: of the tokens in packed sequences, those that are no padding, if each row were drawn once. None
            where no row can be used.
        is_complete: whether everything was read.
    """

    row_sets: tuple[RowSetReport, ...]
    packed_share: float | None
    is_complete: bool = True

    @property
    def num_skipped(self) -> int:
        """Rows that cannot be used."""
        return sum(report.num_read - report.num_usable for report in self.row_sets)


@dataclass(frozen=True)
class ShownSample:
    """A sample for people to look at: the data set, file and line it is from."""

    data_set: str
    where: str
    sample: TrainingSample


@dataclass(frozen=True)
class CheckedMix:
    """The report, and samples spread evenly over the data sets."""

    report: MixReport
    shown: tuple[ShownSample, ...]


def check_mix(
    mix: Mix,
    make: MakeSample,
    *,
    num_tokens: int,
    show: int = 0,
    jobs: int = 1,
    on_row: Callable[[int, int], None] = lambda done, total: None,
) -> CheckedMix:
    """Make a sample of every row, media included. Rows that cannot be used are counted, not raised.

    Ctrl-C ends it with a report of what was read until then.

    Args:
        make: rows to samples, as the run would.
        num_tokens: of the run's packed sequences.
        show: samples of each data set to keep. jobs: processes.
        on_row: called now and then with (rows done, rows in all).
    """
    tasks = _tasks(mix, show)
    tallies = [_Tally() for _ in mix.row_sets]
    shown: list[ShownSample] = []
    is_complete = False
    try:
        for task, found in zip(tasks, results(_Check(mix, make), tasks, jobs), strict=True):
            tallies[task.row_set].merge(found.tally)
            shown += found.shown
            on_row(sum(tally.num_read for tally in tallies), sum(mix.lengths))
        is_complete = True
    except KeyboardInterrupt:
        pass  # what was read until now is worth telling
    reports = tuple(
        tally.report(rows.name, share, len(rows))
        for tally, rows, share in zip(tallies, mix.row_sets, mix.shares, strict=True)
    )
    lengths = [length for tally in tallies for length in tally.lengths]
    return CheckedMix(MixReport(reports, _packed_share(lengths, num_tokens), is_complete), tuple(shown))


@dataclass(frozen=True)
class _Task:
    """Rows `start` to `stop` of a row set, and which of them to keep for people."""

    row_set: int
    start: int
    stop: int
    shown: frozenset[int]


@dataclass(frozen=True)
class _Found:
    tally: _Tally
    shown: list[ShownSample]


@dataclass(frozen=True)
class _Check:
    """The work on one task, in whichever process."""

    mix: Mix
    make: MakeSample

    def __call__(self, task: _Task) -> _Found:
        rows = self.mix.row_sets[task.row_set]
        tally, shown = _Tally(), list[ShownSample]()
        for index in range(task.start, task.stop):
            tally.num_read += 1
            try:
                row = rows.row(index)
                sample = self.make(row, rows.root, rows.where(index))
            except SampleError as error:
                tally.skipped.note(error)
                continue
            tally.add(row, sample)
            if index in task.shown:
                shown.append(ShownSample(rows.name, rows.where(index), sample))
        return _Found(tally, shown)


class _Tally:
    """Counts of rows of one data set."""

    def __init__(self) -> None:
        self.num_read = 0
        self.lengths: list[int] = []
        self.counts: Counter[str] = Counter()
        self.media_types: Counter[str] = Counter()
        self.skipped = SkippedSamples(limit=None)

    def add(self, row: PlmRow, sample: TrainingSample) -> None:
        self.lengths.append(sample.num_inputs)
        self.counts["cut"] += sample.is_cut
        self.counts["silent"] += any(turn.speaker == "assistant" and not turn.text.strip() for turn in row.turns)
        self.counts["learned"] += len(sample.label_positions)
        self.counts["chunks"] += 0 if sample.chunks is None else len(sample.chunks)
        self.media_types[sample.media_type] += 1

    def merge(self, other: _Tally) -> None:
        self.num_read += other.num_read
        self.lengths += other.lengths
        self.counts.update(other.counts)
        self.media_types.update(other.media_types)
        self.skipped.merge(other.skipped)

    def report(self, name: str, share: float, num_rows: int) -> RowSetReport:
        return RowSetReport(
            name=name,
            share=share,
            num_rows=num_rows,
            num_read=self.num_read,
            num_usable=len(self.lengths),
            num_cut=self.counts["cut"],
            num_silent=self.counts["silent"],
            num_tokens=sum(self.lengths),
            longest=max(self.lengths, default=0),
            num_learned=self.counts["learned"],
            num_chunks=self.counts["chunks"],
            media_types=dict(self.media_types),
            skipped=dict(self.skipped.counts),
            examples=self.skipped.examples,
        )


def _tasks(mix: Mix, show: int) -> list[_Task]:
    tasks = []
    for number, length in enumerate(mix.lengths):
        shown = spread(show, length)
        for start in range(0, length, _ROWS_AT_ONCE):
            stop = min(start + _ROWS_AT_ONCE, length)
            tasks.append(_Task(number, start, stop, shown & frozenset(range(start, stop))))
    return tasks


def _packed_share(lengths: list[int], num_tokens: int) -> float | None:
    some = lengths[:: -(-len(lengths) // _PACKED_ROWS)] if lengths else []
    sequences = pack_all(some, int, max(num_tokens, max(some, default=0)))
    return sum(some) / (len(sequences) * num_tokens) if sequences else None
