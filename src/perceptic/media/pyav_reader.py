"""Frames of a video through PyAV, by seeking where the file allows it and by counting where it does not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from av.video.frame import VideoFrame

from perceptic.errors import MediaError
from perceptic.media.cores import usable_cores
from perceptic.media.frame_table import FrameTable, plan_segments, table_from_decoding, table_from_packets
from perceptic.media.frames import Frames, VideoInfo
from perceptic.media.images import DEFAULT_MAX_PIXELS
from perceptic.media.pyav_stream import PyavStream, SeekError, VideoSource
from perceptic.media.segment_decoding import Canvas, FramePainter, StreamPool, decode_segments, quarter_turns

# Assumed only where neither the container nor the codec states a rate.
_FALLBACK_RATE = 25.0

_MAX_DECODERS = 4


class PyavReader:
    """A `FrameReader` on PyAV. Frame i is the i-th that decoding the whole file would give.

    Args:
        source: a path, or the bytes of a file.
        num_threads: decoding threads; the number of usable cores, at most 4, unless given.
        max_pixels: videos with larger frames are refused.

    Raises:
        MediaError: no such file, not a video, no video stream, no frame in it, frames too large.
    """

    def __init__(
        self, source: VideoSource | str, *, num_threads: int | None = None, max_pixels: int = DEFAULT_MAX_PIXELS
    ) -> None:
        self._name = "<bytes>" if isinstance(source, bytes) else str(source)
        self._source = source if isinstance(source, bytes) else existing_file(source)
        self._max_pixels = max_pixels
        self._num_threads = num_threads or min(_MAX_DECODERS, usable_cores())
        self._pool = StreamPool(self._open_stream)
        self._info: VideoInfo | None = None
        stream = self._pool.take(1)
        self._codec, self._average_rate = stream.codec, stream.average_rate
        try:
            self._table = self._scan_packets(stream) or self._count_frames()
            stream.restart()
        except BaseException:
            stream.close()
            self.close()
            raise
        self._pool.give_back(stream, 1)

    @property
    def seconds(self) -> Sequence[float]:
        return self._table.seconds

    @property
    def info(self) -> VideoInfo:
        if self._info is None:
            self._info = self._describe()
        return self._info

    def read(self, indices: Sequence[int]) -> Frames:
        """See `FrameReader.read`.

        A damaged file may prove to hold fewer frames than its packets promised. Then the frames are counted anew by
        decoding all of them and `seconds` shrinks; an index that is gone raises `MediaError`.
        """
        canvas = self._read_seeking(indices) if self._table.is_seekable else None
        if canvas is None:
            canvas = self._read_counting(indices)
        slots = [canvas.slots[index] for index in indices]
        pixels = torch.from_numpy(canvas.pixels).permute(0, 3, 1, 2)
        if slots != list(range(len(pixels))):
            pixels = pixels[slots]
        seconds = torch.tensor([self._table.seconds[index] for index in indices], dtype=torch.float64)
        return Frames(pixels, seconds, torch.tensor(list(indices), dtype=torch.int64))

    def close(self) -> None:
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _open_stream(self, num_threads: int) -> PyavStream:
        return PyavStream(self._source, self._name, num_threads=num_threads, max_pixels=self._max_pixels)

    @staticmethod
    def _scan_packets(stream: PyavStream) -> FrameTable | None:
        if not stream.states_display_times:
            return None
        return table_from_packets(stream.packet_facts(), stream.time_base)

    def _read_seeking(self, indices: Sequence[int]) -> Canvas | None:
        """The frames by seeking, or None if what the packets promised is not there."""
        canvas = self._new_canvas(indices)
        try:
            decode_segments(plan_segments(self._table, canvas.slots), canvas, self._pool, self._num_threads)
        except SeekError:
            return None
        return canvas if canvas.is_complete else None

    def _read_counting(self, indices: Sequence[int]) -> Canvas:
        """The frames by decoding from the beginning of the file."""
        if self._table.is_seekable:
            self._table, self._info = self._count_frames(), None
        canvas = self._new_canvas(indices)
        stream = self._open_stream(self._num_threads)
        try:
            painter = FramePainter(canvas, stream.width, stream.height)
            for number, frame in enumerate(stream.decode_all()):
                if number in canvas.slots:
                    painter.keep(frame, canvas.slots[number])
                if canvas.is_complete:
                    return canvas
        finally:
            stream.close()
        raise MediaError(self._name, "changed while it was read", "try again when it is completely written")

    def _count_frames(self) -> FrameTable:
        """Decode every frame and keep none: the truth where packets are no guide. Memory stays flat."""
        stream = self._open_stream(self._num_threads)
        try:
            pts = [frame.pts for frame in stream.decode_all()]
            each_packet_a_frame = len(pts) == stream.num_packets_read
        finally:
            stream.close()
        if not each_packet_a_frame and self._num_threads > 1:
            # Several threads in one decoder silently lose good frames around a damaged one.
            self._num_threads = 1
            return self._count_frames()
        if not pts:
            raise MediaError(self._name, "holds no frame that can be decoded")
        return table_from_decoding(pts, stream.time_base, self._average_rate or _FALLBACK_RATE)

    def _new_canvas(self, indices: Sequence[int]) -> Canvas:
        count = len(self._table)
        for index in indices:
            if not 0 <= index < count:
                raise MediaError(self._name, f"has no frame {index}", f"it holds {count}, numbered from 0")
        if not indices:
            raise MediaError(self._name, "no frames were asked for")
        return Canvas(self._name, indices)

    def _describe(self) -> VideoInfo:
        first = self._first_frame()
        turns = quarter_turns(first)
        width, height = (first.height, first.width) if turns % 2 else (first.width, first.height)
        seconds = self._table.seconds
        rate = self._average_rate or _FALLBACK_RATE
        interval = seconds[-1] / (len(seconds) - 1) if len(seconds) > 1 else 1 / rate
        return VideoInfo(
            path=self._name,
            num_frames=len(seconds),
            frames_per_second=rate,
            duration_seconds=seconds[-1] + interval,
            width=width,
            height=height,
            codec=self._codec,
            rotation_degrees=turns * 90,
        )

    def _first_frame(self) -> VideoFrame:
        stream = self._pool.take(1)
        try:
            stream.restart()
            first = next(iter(stream.decode_all()), None)
        finally:
            stream.close()
        if first is None:
            raise MediaError(self._name, "holds no frame that can be decoded")
        return first


def existing_file(path: str | Path) -> Path:
    """The path, if it is a readable file; libav's own message would not say which of these it is not."""
    try:
        if not Path(path).exists():
            raise MediaError(path, "no such file")
        if Path(path).is_dir():
            raise MediaError(path, "is a folder, not a video")
        if not Path(path).is_file():  # a pipe would wait for ever on the second pass
            raise MediaError(path, "is not a regular file", "videos are read in several passes")
    except (OSError, ValueError) as error:  # a name that no file can have
        raise MediaError(path, f"cannot be opened: {error}") from error
    return Path(path)
