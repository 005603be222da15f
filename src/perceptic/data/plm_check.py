"""Read a whole mix once and say what is in it, before a run finds out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from perceptic.data.packing import pack_all
from perceptic.data.plm_samples import TrainingSample
from perceptic.data.plm_stream import MakeSample
from perceptic.data.registry import Mix
from perceptic.data.row_files import RowSet
from perceptic.data.samples import SampleError
from perceptic.data.skipped import SkippedSamples


@dataclass(frozen=True)
class RowSetReport:
    """What reading every row of a data set has shown.

    Attributes:
        share: of the draws of the mix.
        num_rows: lines. num_usable: rows that can be trained on.
        num_cut: usable rows whose later turns do not fit.
        num_tokens: that the model reads, of all usable rows; longest: of one.
        num_learned: tokens that are predicted. num_chunks: pictures, tiles and frames.
        media_types: usable rows by kind.
        skipped: rows that cannot be used, by reason; examples: the first few of each.
    """

    name: str
    share: float
    num_rows: int
    num_usable: int
    num_cut: int
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
    """

    row_sets: tuple[RowSetReport, ...]
    packed_share: float | None

    @property
    def num_skipped(self) -> int:
        """Rows that cannot be used."""
        return sum(report.num_rows - report.num_usable for report in self.row_sets)


def check_mix(
    mix: Mix,
    make: MakeSample,
    *,
    num_tokens: int,
    on_row: Callable[[int, int], None] = lambda done, total: None,
    on_sample: Callable[[str, TrainingSample], None] = lambda where, sample: None,
) -> MixReport:
    """Make a sample of every row, media included. Rows that cannot be used are counted, not raised.

    Args:
        make: rows to samples, as the run would.
        num_tokens: of the run's packed sequences.
        on_row: called after each row with (rows done, rows in all).
        on_sample: called with the place and sample of each usable row, for pages that show what is fed.
    """
    lengths: list[int] = []
    total = sum(mix.lengths)
    reports: list[RowSetReport] = []
    for rows, share in zip(mix.row_sets, mix.shares, strict=True):
        tally = _Tally()
        done = sum(report.num_rows for report in reports)
        for index in range(len(rows)):
            sample = _sample(rows, index, make, tally)
            if sample is not None:
                on_sample(rows.where(index), sample)
            on_row(done + index + 1, total)
        lengths += tally.lengths
        reports.append(tally.report(rows, share))
    sequences = pack_all(lengths, int, max(num_tokens, max(lengths, default=0)))
    packed_share = sum(lengths) / (len(sequences) * num_tokens) if sequences else None
    return MixReport(tuple(reports), packed_share)


class _Tally:
    """Counts of one data set while it is read."""

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self.num_cut = self.num_learned = self.num_chunks = 0
        self.media_types: Counter[str] = Counter()
        self.skipped = SkippedSamples(limit=None)

    def add(self, sample: TrainingSample) -> None:
        self.lengths.append(sample.num_inputs)
        self.num_cut += sample.is_cut
        self.num_learned += len(sample.label_positions)
        self.num_chunks += 0 if sample.chunks is None else len(sample.chunks)
        self.media_types[sample.media_type] += 1

    def report(self, rows: RowSet, share: float) -> RowSetReport:
        return RowSetReport(
            name=rows.name,
            share=share,
            num_rows=len(rows),
            num_usable=len(self.lengths),
            num_cut=self.num_cut,
            num_tokens=sum(self.lengths),
            longest=max(self.lengths, default=0),
            num_learned=self.num_learned,
            num_chunks=self.num_chunks,
            media_types=dict(self.media_types),
            skipped=dict(self.skipped.counts),
            examples=self.skipped.examples,
        )


def _sample(rows: RowSet, index: int, make: MakeSample, tally: _Tally) -> TrainingSample | None:
    try:
        sample = make(rows.row(index), rows.root, rows.where(index))
    except SampleError as error:
        tally.skipped.note(error)
        return None
    tally.add(sample)
    return sample
