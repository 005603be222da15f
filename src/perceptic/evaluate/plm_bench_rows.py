"""PLM-VideoBench as released: rows of five tasks, boxes, and where the videos lie (datasets-and-benchmarks 1.5).

Columns that are not needed are left alone and rows are not counted here: revisions of the files differ.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from perceptic.errors import ConfigError, DataError
from perceptic.evaluate.table_rows import read_table
from perceptic.media.boxes import Box
from perceptic.tasks.media_parts import as_box

BenchSection = Literal["fgqa", "sgqa", "rcap", "rdcap", "rtloc"]
SECTIONS: tuple[BenchSection, ...] = get_args(BenchSection)
REGION_SECTIONS = ("rcap", "rdcap", "rtloc")
_LETTERS = "AB"


@dataclass(frozen=True)
class FgqaRow:
    """One of the binary variants of a question. `group` names the question, `letter` the right option."""

    uid: str
    video: str
    group: str
    question: str
    options: tuple[str, str]
    letter: str
    kind: str = ""


@dataclass(frozen=True)
class SgqaRow:
    """A question of the camera wearer."""

    uid: str
    video: str
    question: str
    answer: str
    kind: str = ""


@dataclass(frozen=True)
class BenchSegment:
    """What a subject does from one frame of the file to another."""

    start_frame: int
    end_frame: int
    caption: str


@dataclass(frozen=True)
class RegionRow:
    """A subject of a video and what it does: one segment (RCap, RTLoc) or all of them (RDCap).

    Attributes:
        total_frames: of the video at 6 frames per second; frames of the segments count in it.
    """

    uid: str
    video: str
    masklet_id: int
    total_frames: int
    segments: tuple[BenchSegment, ...]


BenchRow = FgqaRow | SgqaRow | RegionRow
BoxTrack = Mapping[int, Box | None]


def read_rows(data: Path, section: BenchSection, split: str = "test") -> list[BenchRow]:
    """The rows of a task, in the order of its file.

    Args:
        data: the released folder (or the world's export).

    Raises:
        ConfigError: no such file below `data`.
        DataError: a file or row that cannot be read.
    """
    file = find_rows(data, section, split)
    parse = _PARSERS[section]
    rows = [parse(_Fields(value, f"{file}, row {number}")) for number, value in enumerate(read_table(file), start=1)]
    if not rows:
        raise DataError(f"{file}: holds no rows")
    # The world numbers its rows; the released files do as well, but nobody promised that no number comes twice.
    if len({row.uid for row in rows}) < len(rows):
        raise DataError(f"{file}: two rows have the same uid")
    return rows


def find_rows(data: Path, section: str, split: str) -> Path:
    """The file of a task. Raises ConfigError that says where it was looked for."""
    for folder in (data / section, data, data / "videobench" / section):
        for suffix in (".jsonl", ".parquet"):
            file = folder / f"plm_{section}_{split}{suffix}"
            if file.is_file():
                return file
    raise ConfigError(
        f"{data}: has no {section}/plm_{section}_{split}.jsonl or .parquet; give the folder of facebook/PLM-VideoBench"
    )


def read_boxes(data: Path, wanted: Collection[tuple[str, int]], split: str = "test") -> dict[tuple[str, int], BoxTrack]:
    """The boxes of subjects by (video, masklet_id); frames count in the file.

    Raises:
        ConfigError: no metadata file. DataError: a line that cannot be read, or subjects without boxes.
    """
    names = (f"metadata/metadata_{split}.jsonl", f"videobench/metadata/metadata_{split}.jsonl")
    file = next((data / name for name in names if (data / name).is_file()), None)
    if file is None:
        raise ConfigError(f"{data}: has no {names[0]}, which holds the boxes of the region tasks")
    found: dict[tuple[str, int], BoxTrack] = {}
    for number, value in enumerate(read_table(file), start=1):
        fields = _Fields(value, f"{file}, row {number}")
        subject = (fields.text("video"), fields.number("masklet_id"))
        if subject in wanted:
            found[subject] = fields.track("bbox")
    missing = sorted(set(wanted) - set(found))
    if missing:
        video, masklet = missing[0]
        raise DataError(f"{file}: no boxes for {len(missing)} subjects, such as masklet {masklet} of {video}")
    return found


@dataclass(frozen=True)
class VideoFolders:
    """Where videos are looked for, in this order."""

    folders: tuple[Path, ...]

    @classmethod
    def of(cls, data: Path, section: str, given: str = "") -> VideoFolders:
        """`given` alone, or the places where the released files and the world's export have them."""
        if given:
            return cls((Path(given).expanduser(),))
        return cls(
            (data / "videos" / section, data / "videos", data / section / "videos", data.parent / "videos", data)
        )

    def find(self, video: str) -> Path | None:
        """The file of a video, None if it is nowhere."""
        return next((path for folder in self.folders if (path := folder / video).is_file()), None)


@dataclass(frozen=True)
class _Fields:
    """Typed reading of one row."""

    value: Mapping[str, Any]
    where: str

    def error(self, text: str) -> DataError:
        return DataError(f"{self.where}: {text}")

    def text(self, key: str) -> str:
        found = self.value.get(key)
        if isinstance(found, bool) or not isinstance(found, str | int):
            raise self.error(f"'{key}' must be text, not {found!r}")
        return str(found)

    def number(self, key: str) -> int:
        found = self.value.get(key)
        if isinstance(found, bool) or not isinstance(found, int):
            raise self.error(f"'{key}' must be a whole number, not {found!r}")
        return found

    def mapping(self, key: str) -> Mapping[str, Any]:
        found = self.value.get(key)
        found = json.loads(found) if isinstance(found, str) and found.startswith("{") else found
        if not isinstance(found, Mapping):
            raise self.error(f"'{key}' must be an object, not {found!r}")
        return found

    def options(self) -> dict[str, str]:
        """Option texts by letter: `option_0` is A."""
        options = self.mapping("options")
        return {letter: str(options.get(f"option_{place}", "")) for place, letter in enumerate(_LETTERS)}

    def segment(self) -> BenchSegment:
        start, end = self.number("start_frame"), self.number("end_frame")
        return BenchSegment(start, end, self.text("caption"))

    def segments(self) -> tuple[BenchSegment, ...]:
        found = self.value.get("dense_captions")
        if not isinstance(found, Sequence) or isinstance(found, str) or not found:
            raise self.error(f"'dense_captions' must be a list of segments, not {found!r}")
        return tuple(_Fields(item, f"{self.where}, segment {place}").segment() for place, item in enumerate(found))

    def track(self, key: str) -> BoxTrack:
        boxes = self.mapping(key)
        try:
            return {int(frame): None if not box else as_box(list(box)) for frame, box in boxes.items()}
        except (ValueError, TypeError, ConfigError) as error:
            raise self.error(f"'{key}': {error}") from error


def _fgqa(row: _Fields) -> BenchRow:
    options, answer = row.options(), row.text("answer")
    letters = [letter for letter, text in options.items() if text == answer]
    if not letters:
        raise row.error(f"the answer {answer!r} is none of the options")
    metadata = row.value.get("metadata")
    kind = metadata.get("question_type") if isinstance(metadata, Mapping) else None
    texts = (options["A"], options["B"])
    return FgqaRow(
        row.text("uid"), row.text("video"), row.text("qa_uid"), row.text("question"), texts, letters[0], str(kind or "")
    )


def _sgqa(row: _Fields) -> BenchRow:
    kind = str(row.value.get("domain") or "")
    return SgqaRow(row.text("uid"), row.text("video"), row.text("question"), row.text("answer"), kind)


def _region(segments: Callable[[_Fields], tuple[BenchSegment, ...]]) -> Callable[[_Fields], BenchRow]:
    def parse(row: _Fields) -> BenchRow:
        total = row.number("total_frames")
        if total < 1:
            raise row.error(f"'total_frames' must be at least 1, not {total}")
        return RegionRow(row.text("uid"), row.text("video"), row.number("masklet_id"), total, segments(row))

    return parse


_PARSERS: dict[BenchSection, Callable[[_Fields], BenchRow]] = {
    "fgqa": _fgqa,
    "sgqa": _sgqa,
    "rcap": _region(lambda row: (row.segment(),)),
    "rtloc": _region(lambda row: (row.segment(),)),
    "rdcap": _region(_Fields.segments),
}


def subjects(rows: Sequence[BenchRow]) -> Iterator[tuple[str, int]]:
    """(video, masklet_id) of region rows."""
    for row in rows:
        if isinstance(row, RegionRow):
            yield row.video, row.masklet_id
