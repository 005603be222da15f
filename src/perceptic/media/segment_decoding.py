"""Decode the wanted frames of a video into one block of memory, from several keyframes at once.

Physics: a frame costs decoding everything it refers to, back to its keyframe. Uniformly sampled frames of a long video
lie in different groups of pictures, so the groups are decoded independently by one single-threaded decoder per core.
That beats several threads inside one decoder, which wait for each other and refill after every seek; those are used
where only one group is needed.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame

from perceptic.errors import MediaError
from perceptic.media.frame_table import Segment
from perceptic.media.pyav_stream import PyavStream
from perceptic.media.rgb_conversion import RgbConverter

# Above this the frames would fill the memory of a common machine: a mistake more often than a wish.
MAX_FRAME_BYTES = 8 << 30

# Opening a container costs about as much as decoding this many pixels (twenty frames of 720p).
_PIXELS_PER_DECODER = 20_000_000

# Work is handed out in pieces, several per decoder, so that none waits long for another at the end.
_PIECES_PER_DECODER = 8


class Canvas:
    """Memory for the wanted frames, filled by several threads in any order.

    Attributes:
        slots: frame index -> place in `pixels`.
        pixels: uint8 RGB (F, H, W, 3), upright; allocated when the first frame shows how large they are.
    """

    def __init__(self, name: str, indices: Iterable[int]) -> None:
        self.slots = {index: slot for slot, index in enumerate(sorted(set(indices)))}
        self.pixels: npt.NDArray[np.uint8] = np.empty((0, 0, 0, 3), np.uint8)
        self._name = name
        self._unfilled = set(self.slots.values())
        self._lock = threading.Lock()

    @property
    def is_complete(self) -> bool:
        return not self._unfilled

    def put(self, slot: int, upright: npt.NDArray[np.uint8]) -> None:
        with self._lock:
            if self.pixels.shape[0] == 0:
                self._allocate(upright.shape[0], upright.shape[1])
        if upright.shape != self.pixels.shape[1:]:
            raise MediaError(self._name, f"frames of different sizes: {self.pixels.shape[1:3]} and {upright.shape[:2]}")
        self.pixels[slot] = upright
        with self._lock:
            self._unfilled.discard(slot)

    def _allocate(self, height: int, width: int) -> None:
        needed = len(self.slots) * height * width * 3
        if needed > MAX_FRAME_BYTES:
            raise MediaError(
                self._name,
                f"{len(self.slots)} frames of {width} x {height} need {needed / 2**30:.1f} GiB, "
                f"above the limit of {MAX_FRAME_BYTES / 2**30:.0f} GiB",
                "ask for fewer frames, or for the video in time ranges",
            )
        self.pixels = np.empty((len(self.slots), height, width, 3), np.uint8)


class FramePainter:
    """Converts decoded frames and puts them upright on a canvas; one per thread."""

    def __init__(self, canvas: Canvas, width: int, height: int) -> None:
        self._canvas = canvas
        self._converter = RgbConverter(width, height)

    def keep(self, frame: VideoFrame, slot: int) -> None:
        self._canvas.put(slot, np.rot90(self._converter.convert(frame), quarter_turns(frame)))


def quarter_turns(frame: VideoFrame) -> int:
    """Counter-clockwise quarter turns that the display matrix asks for."""
    return round(frame.rotation / 90) % 4


class StreamPool:
    """Opened streams that are not in use, kept for the next read."""

    def __init__(self, open_stream: Callable[[int], PyavStream]) -> None:
        self._open_stream = open_stream
        self._idle: list[tuple[int, PyavStream]] = []
        self._lock = threading.Lock()

    def take(self, num_threads: int) -> PyavStream:
        with self._lock:
            for position, (threads, stream) in enumerate(self._idle):
                if threads == num_threads:
                    del self._idle[position]
                    return stream
        return self._open_stream(num_threads)

    def give_back(self, stream: PyavStream, num_threads: int) -> None:
        with self._lock:
            self._idle.append((num_threads, stream))

    def close(self) -> None:
        with self._lock:
            while self._idle:
                self._idle.pop()[1].close()


def decode_segments(segments: list[Segment], canvas: Canvas, pool: StreamPool, num_threads: int) -> None:
    """Put the wanted frames of all segments on the canvas; frames that do not decode are left out.

    Raises:
        SeekError: a keyframe was not found where the packets said it was.
        MediaError: the frames do not fit into memory or the file cannot be opened again.
    """
    stream = pool.take(1)
    num_pixels = sum(segment.num_packets for segment in segments) * stream.width * stream.height
    pool.give_back(stream, 1)
    num_decoders = max(1, min(num_threads, len(segments), num_pixels // _PIXELS_PER_DECODER))
    threads_each = max(1, num_threads // num_decoders) if num_pixels > _PIXELS_PER_DECODER else 1
    if num_decoders == 1:
        _work(deque([segments]), canvas, pool, threads_each)
        return
    jobs = deque(_shared_out(segments, num_decoders * _PIECES_PER_DECODER))
    with ThreadPoolExecutor(num_decoders, thread_name_prefix="video-decoder") as executor:
        for worker in [executor.submit(_work, jobs, canvas, pool, threads_each) for _ in range(num_decoders)]:
            worker.result()


def _work(jobs: deque[list[Segment]], canvas: Canvas, pool: StreamPool, num_threads: int) -> None:
    stream = pool.take(num_threads)
    painter = FramePainter(canvas, stream.width, stream.height)
    try:
        while jobs:
            try:
                job = jobs.popleft()
            except IndexError:  # another decoder took the last one
                break
            for segment in job:
                for frame in stream.decode_segment(segment):
                    assert frame.pts is not None
                    painter.keep(frame, segment.wanted[frame.pts])
    except BaseException:
        jobs.clear()
        stream.close()
        raise
    pool.give_back(stream, num_threads)


def _shared_out(segments: list[Segment], num_jobs: int) -> list[list[Segment]]:
    """Neighbouring segments together, so that a decoder reads on rather than seeks."""
    length = max(1, len(segments) // num_jobs)
    return [segments[start : start + length] for start in range(0, len(segments), length)]
