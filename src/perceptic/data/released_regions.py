"""RCap, RTLoc and RDCap tables of PLM-Video-Human as training rows (datasets-and-benchmarks 1.2).

The tables say what a subject does and when; where it is, a box table says that users bring, in the form that the
benchmark has for its test videos. The published script that words the questions is not there: these wordings are those
that its example rows and the benchmark use.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from perceptic.data.json_lines import objects
from perceptic.data.plm_rows import RowError
from perceptic.errors import DataError
from perceptic.text.region_prompts import events_prompt, interval_format, rcap_prompts, rdcap_prompts, rtloc_prompts

RegionKind = Literal["rcap", "rtloc", "rdcap"]

NUM_FRAMES: Final = 32
"""Questions and answers count time in this many sampled frames."""

COLUMNS: Final[Mapping[RegionKind, tuple[str, ...]]] = {
    "rcap": ("video", "masklet_id", "total_frames", "caption", "start_frame", "end_frame"),
    "rtloc": ("video", "masklet_id", "total_frames", "caption", "start_frame", "end_frame"),
    "rdcap": ("video", "masklet_id", "total_frames", "dense_captions"),
}

_BOXED: Final[Mapping[RegionKind, tuple[str, ...]]] = {
    "rcap": rcap_prompts(NUM_FRAMES),
    "rtloc": rtloc_prompts(NUM_FRAMES),
    "rdcap": rdcap_prompts(NUM_FRAMES),
}
_UNBOXED: Final[Mapping[RegionKind, tuple[str, ...]]] = {
    "rcap": ("Give a detailed description of the events occurring within frames [{start}, {end}] in this 32 frame "
             "video.",),
    "rtloc": ("Please provide the start and end frame of when '{caption}' happens in the video. "
              f"{interval_format(NUM_FRAMES)}",),
    "rdcap": (events_prompt(NUM_FRAMES, is_boxed=False),),
}  # fmt: skip


@dataclass(frozen=True)
class Track:
    """A subject of a video."""

    video: str
    masklet_id: int


Boxes = Mapping[Track, Mapping[str, Sequence[float] | None]]
"""Of each subject, its box [x1, y1, x2, y2] in pixels by frame number; None where it cannot be seen."""


@dataclass(frozen=True)
class RegionRows:
    """Records of one kind to rows.

    Attributes:
        boxes: None: rows without boxes, whose questions do not speak of rectangles.
        frame_step: frames of the video files for each frame of the tables: 1 for the 6-fps files that they are
            about, 4 for the 24-fps ones.
    """

    kind: RegionKind
    boxes: Boxes | None
    frame_step: int = 1

    def __call__(self, record: Mapping[str, Any], where: str) -> dict[str, Any]:
        """One record as a row. Raises RowError for fields of another kind, or a subject without boxes."""
        question, answer = self._said(record, where)
        row: dict[str, Any] = {"video": record["video"]}
        if self.boxes is not None:
            row["bbox_map"] = self._box_map(record, where)
        return {
            **row,
            "conversations": [{"from": "human", "value": question}, {"from": "assistant", "value": answer}],
        }

    def _said(self, record: Mapping[str, Any], where: str) -> tuple[str, str]:
        wordings = (_UNBOXED if self.boxes is None else _BOXED)[self.kind]
        # The same record gets the same words in every conversion.
        ask = wordings[zlib.crc32(repr(sorted(record.items(), key=str)).encode()) % len(wordings)]
        if self.kind == "rdcap":
            return ask, "\n".join(self._line(record, item, where) for item in record["dense_captions"])
        span, caption = self._span(record, record, where), str(record["caption"]).strip()
        if self.kind == "rtloc":
            return ask.format(caption=caption.removesuffix(".")), f"[{span.start}, {span.end}]"
        return ask.format(start=span.start, end=span.end), caption

    def _line(self, record: Mapping[str, Any], item: Mapping[str, Any], where: str) -> str:
        span = self._span(record, item, where)
        return f"Frame [{span.start}, {span.end}]: {str(item['caption']).strip()}"

    def _span(self, record: Mapping[str, Any], item: Mapping[str, Any], where: str) -> _Span:
        total, start, end = record["total_frames"], item["start_frame"], item["end_frame"]
        if not (all(isinstance(value, int) for value in (total, start, end)) and 0 <= start <= end and total > 0):
            raise RowError(where, "bad frame numbers", f"{start} to {end} of {total}")
        return _Span(_sampled(start, total), _sampled(end, total))

    def _box_map(self, record: Mapping[str, Any], where: str) -> dict[str, Any]:
        assert self.boxes is not None, "only called with boxes"
        track = Track(str(record["video"]), int(record["masklet_id"]))
        boxes = self.boxes.get(track)
        if boxes is None:
            raise RowError(where, "no boxes", f"the box table has none of subject {track.masklet_id} in {track.video}")
        return {
            str(int(frame) * self.frame_step + further): box
            for frame, box in boxes.items()
            for further in range(self.frame_step)
        }


@dataclass(frozen=True)
class _Span:
    """First and last sampled frame."""

    start: int
    end: int


def _sampled(frame: int, total_frames: int) -> int:
    """A frame's number among the sampled ones: floor(frame / (total / 32))."""
    return min(int(frame / (total_frames / NUM_FRAMES)), NUM_FRAMES - 1)


def read_boxes(path: Path) -> dict[Track, Mapping[str, Sequence[float] | None]]:
    """A box table: JSON lines `{"video": ..., "masklet_id": ..., "bbox": {"<frame>": [x1, y1, x2, y2] or null}}`.

    Raises:
        DataError: the file cannot be read, or a line is of another form.
    """
    boxes: dict[Track, Mapping[str, Sequence[float] | None]] = {}
    for number, line in enumerate(objects(path), start=1):
        try:
            boxes[Track(str(line["video"]), int(line["masklet_id"]))] = dict(line["bbox"])
        except (KeyError, TypeError, ValueError) as error:
            wanted = "video, masklet_id and bbox, frame numbers to boxes"
            raise DataError(f"{path}, object {number}: expected {wanted}; it has {', '.join(line)}") from error
    return boxes
