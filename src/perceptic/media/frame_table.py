"""Where every frame of a video is: built by reading the packets of a file, without decoding any.

Frame i is the i-th in presentation order. A packet states when its frame is shown (`pts`) and whether decoding can
start there (keyframe), so the table says from which packet to start decoding to get any frame. Memory is a few dozen
bytes per frame.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PacketFacts:
    """One packet of the video stream: times in stream ticks (None where the container has none)."""

    pts: int | None
    dts: int | None
    is_keyframe: bool
    is_shown: bool


@dataclass(frozen=True, eq=False)
class FrameTable:
    """Frames in presentation order.

    Attributes:
        pts: stream ticks, ascending, distinct.
        seconds: since the first frame.
        order: place of each frame's packet in the file (its decoding order).
        start: for each frame, the row in `keyframes` at which to start decoding.
        keyframes: (K, 3) rows of pts, time to seek to, place in the file. Empty if the packets do not tell: then
            frames can only be counted by decoding from the beginning.
    """

    pts: Int64s
    seconds: tuple[float, ...]
    order: Int64s
    start: Int64s
    keyframes: Int64s

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def is_seekable(self) -> bool:
        return len(self.keyframes) > 0


@dataclass(frozen=True)
class Segment:
    """Frames that are decoded in one go from one keyframe.

    Attributes:
        keyframe_pts, seek_to: stream ticks of the keyframe and a time to seek to that is not after it.
        wanted: pts of the frames to keep, by their slot in the output.
        num_packets: how many packets must be fed at most.
        first_packet: place of the keyframe in the file.
    """

    keyframe_pts: int
    seek_to: int
    wanted: dict[int, int]
    num_packets: int
    first_packet: int


def table_from_packets(packets: Iterable[PacketFacts], time_base: Fraction) -> FrameTable | None:
    """Build the table, or None if the packets cannot be trusted to tell frame from frame.

    They cannot where a time is missing or given twice (raw streams, some AVI files), where the stream does not begin
    with a keyframe, or where a frame comes before its keyframe.
    """
    pts, order = array("q"), array("q")
    keyframes = array("q")
    for place, packet in enumerate(packets):
        if packet.pts is None or (place == 0 and not packet.is_keyframe):
            return None
        if packet.is_keyframe:
            keyframes.extend((packet.pts, packet.pts if packet.dts is None else min(packet.dts, packet.pts), place))
        if packet.is_shown:
            pts.append(packet.pts)
            order.append(place)
    if not pts:
        return None
    return _sorted_table(np.array(pts), np.array(order), np.array(keyframes).reshape(-1, 3), time_base)


def table_from_decoding(pts: Sequence[int | None], time_base: Fraction, frames_per_second: float) -> FrameTable:
    """The table of a video that had to be decoded to be counted; it has no keyframes to seek to.

    Where the decoder gave no usable times, frames are taken to be evenly spaced.
    """
    count = len(pts)
    places = np.arange(count, dtype=np.int64)
    known = [value for value in pts if value is not None]
    no_keyframes = np.empty((0, 3), np.int64)
    if len(known) == count and all(a < b for a, b in itertools.pairwise(known)):
        ticks = np.array(known, dtype=np.int64)
        return FrameTable(ticks, _seconds(ticks, time_base), places, np.zeros_like(places), no_keyframes)
    even = tuple((places / frames_per_second).tolist())
    return FrameTable(places, even, places, np.zeros_like(places), no_keyframes)


def plan_segments(table: FrameTable, slots: dict[int, int]) -> list[Segment]:
    """Group frames by the keyframe they need.

    Args:
        slots: frame index -> place in the output.

    Returns:
        Segments in file order.
    """
    by_start: dict[int, list[int]] = {}
    for index in sorted(slots):
        by_start.setdefault(int(table.start[index]), []).append(index)
    segments = []
    for row in sorted(by_start, key=lambda row: int(table.keyframes[row, 2])):
        keyframe_pts, seek_to, place = (int(value) for value in table.keyframes[row])
        indices = by_start[row]
        last_place = max(int(table.order[index]) for index in indices)
        wanted = {int(table.pts[index]): slots[index] for index in indices}
        segments.append(Segment(keyframe_pts, seek_to, wanted, last_place - place + 1, place))
    return segments


def _sorted_table(pts: Int64s, order: Int64s, keyframes: Int64s, time_base: Fraction) -> FrameTable | None:
    by_time = np.argsort(pts, kind="stable")
    pts, order = pts[by_time], order[by_time]
    if len(pts) > 1 and bool((np.diff(pts) == 0).any()):
        return None
    keyframes = keyframes[np.argsort(keyframes[:, 0], kind="stable")]
    # A picture shown before a keyframe but stored after it needs the keyframe before: choose by time, not by place.
    start = np.searchsorted(keyframes[:, 0], pts, side="right") - 1
    if bool((start < 0).any()) or bool((keyframes[start, 2] > order).any()):
        return None
    return FrameTable(pts, _seconds(pts, time_base), order, start.astype(np.int64), keyframes)


def _seconds(pts: Int64s, time_base: Fraction) -> tuple[float, ...]:
    ticks = (pts - pts[0]).astype(np.float64)
    return tuple((ticks * time_base.numerator / time_base.denominator).tolist())
