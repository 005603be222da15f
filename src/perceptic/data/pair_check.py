"""Read the shards and folders of a contrastive mix once and say what is in them."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from perceptic.data.checking import results
from perceptic.data.pair_decoder import decode
from perceptic.data.samples import SampleError
from perceptic.data.skipped import SkippedSamples
from perceptic.data.stream import StreamPart
from perceptic.data.units import Place, RawPair
from perceptic.text.clip_tokenizer import ClipTokenizer

_THUMBNAIL_SIDE = 224


@dataclass(frozen=True)
class PartReport:
    """What reading every sample of a data set has shown.

    Attributes:
        share: of the samples of the mix.
        num_units: shards, or thousands of files. num_read: of them, fewer only after an interruption.
        num_samples: found; num_usable: of them. num_videos: usable samples that are videos.
        num_tokens: of the short captions, cut to the model's text length; num_cut: usable samples with a caption that
            is longer than that.
        smallest_side, largest_side: pixels, over all usable samples.
        skipped: samples (and damaged shards) that cannot be used, by reason; examples: the first few of each.
    """

    name: str
    share: float
    num_units: int
    num_read: int
    num_samples: int
    num_usable: int
    num_videos: int
    num_tokens: int
    num_cut: int
    smallest_side: int
    largest_side: int
    skipped: dict[str, int]
    examples: dict[str, list[str]]


@dataclass(frozen=True)
class ShownPair:
    """A sample for people to look at. `pictures` are JPEG files of its frames, small."""

    data_set: str
    where: str
    captions: tuple[str, ...]
    pictures: tuple[bytes, ...]


@dataclass(frozen=True)
class CheckedPairs:
    """A report of each data set, and some of the samples."""

    reports: tuple[PartReport, ...]
    shown: tuple[ShownPair, ...]
    is_complete: bool

    @property
    def num_skipped(self) -> int:
        """Samples and damaged shards that cannot be used."""
        return sum(sum(report.skipped.values()) for report in self.reports)


def check_pairs(
    parts: Sequence[StreamPart],
    tokenizer: ClipTokenizer,
    *,
    num_frames: int = 1,
    show: int = 0,
    jobs: int = 1,
    on_unit: Callable[[int, int], None] = lambda done, total: None,
) -> CheckedPairs:
    """Decode every sample. Those that cannot be used are counted, not raised; Ctrl-C ends it with what was read.

    Args:
        num_frames: 1 for pictures; more for clips, where a picture cannot be used.
        show: samples of each data set to keep. jobs: processes.
        on_unit: called after each shard (or thousand files) with (done, in all).
    """
    tasks = [
        _Task(number, unit, -(-show // len(part.units)) if unit < show else 0)
        for number, part in enumerate(parts)
        for unit in range(len(part.units))
    ]
    tallies = [_Tally() for _ in parts]
    is_complete = False
    try:
        for done, (task, found) in enumerate(
            zip(tasks, results(_Check(tuple(parts), tokenizer, num_frames), tasks, jobs), strict=True), start=1
        ):
            tallies[task.part].merge(found)
            on_unit(done, len(tasks))
        is_complete = True
    except KeyboardInterrupt:
        pass  # what was read until now is worth telling
    total = sum(part.weight for part in parts)
    return CheckedPairs(
        tuple(tally.report(part, part.weight / total) for tally, part in zip(tallies, parts, strict=True)),
        tuple(shown for tally in tallies for shown in tally.shown[:show]),
        is_complete,
    )


@dataclass(frozen=True)
class _Task:
    """A unit of a part, and how many of its samples to keep for people."""

    part: int
    unit: int
    show: int


class _Tally:
    """Counts of samples of one data set."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.sides: list[int] = []
        self.skipped = SkippedSamples(limit=None)
        self.shown: list[ShownPair] = []

    def merge(self, other: _Tally) -> None:
        self.counts.update(other.counts)
        self.sides = self.widest(other.sides)
        self.skipped.merge(other.skipped)
        self.shown += other.shown

    def widest(self, sides: Sequence[int]) -> list[int]:
        """Smallest and largest of all sides so far."""
        together = [*self.sides, *sides]
        return [min(together), max(together)] if together else []

    def report(self, part: StreamPart, share: float) -> PartReport:
        counts, sides = self.counts, self.sides or [0, 0]
        return PartReport(
            name=part.name,
            share=share,
            num_units=len(part.units),
            num_read=counts["units"],
            num_samples=counts["samples"],
            num_usable=counts["usable"],
            num_videos=counts["videos"],
            num_tokens=counts["tokens"],
            num_cut=counts["cut"],
            smallest_side=sides[0],
            largest_side=sides[-1],
            skipped=dict(self.skipped.counts),
            examples=self.skipped.examples,
        )


@dataclass(frozen=True)
class _Check:
    """The work on one unit, in whichever process."""

    parts: tuple[StreamPart, ...]
    tokenizer: ClipTokenizer
    num_frames: int

    def __call__(self, task: _Task) -> _Tally:
        part, tally = self.parts[task.part], _Tally()
        tally.counts["units"] += 1
        for place in part.units.scan(task.unit):
            try:
                raw = self._read(part, task.unit, place, tally)
                pixels = decode(raw, self.num_frames)
            except SampleError as error:
                tally.skipped.note(error)
                continue
            self._add(raw, pixels, tally)
            if len(tally.shown) < task.show:
                tally.shown.append(ShownPair(part.name, raw.where, raw.captions, tuple(map(_thumbnail, pixels))))
        return tally

    def _read(self, part: StreamPart, unit: int, place: Place | SampleError, tally: _Tally) -> RawPair:
        if isinstance(place, SampleError):
            raise place
        tally.counts["samples"] += 1
        return part.units.read(unit, place.offset)

    def _add(self, raw: RawPair, pixels: NDArray[np.uint8], tally: _Tally) -> None:
        lengths = [len(self.tokenizer.encode(text)) + 2 for text in raw.captions]  # and the marks of start and end
        tally.counts["usable"] += 1
        tally.counts["videos"] += raw.is_video
        tally.counts["tokens"] += min(lengths[0], self.tokenizer.context_length)
        tally.counts["cut"] += max(lengths) > self.tokenizer.context_length
        tally.sides = tally.widest(pixels.shape[-2:])


def _thumbnail(pixels_CHW: NDArray[np.uint8]) -> bytes:
    picture = Image.fromarray(pixels_CHW.transpose(1, 2, 0))
    picture.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=90)
    return stream.getvalue()
