"""Decoded frames to RGB exactly as the ffmpeg command line and torchcodec convert them.

PyAV's own conversion (`to_ndarray("rgb24")`) agrees with them on ordinary 8-bit 4:2:0 video only, and by version:

- PyAV before 17 ignores BT.709 tags: 7 levels off on average on saturated pictures.
- Where swscale has no special-cased path (odd heights, more than 8 bits) PyAV interpolates chroma bilinearly, ffmpeg
  bicubically: 0.8 to 1.3 levels on average, up to 48.
- PyAV 17 and later also place the chroma samples differently there: 2 levels on average, up to 100.

A filter graph with a bare `format` filter is what ffmpeg and torchcodec run, and gives their pixels to the bit in all
these cases, with PyAV 15, 16, 17 and 18.
"""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from av.filter import Graph
from av.video.frame import VideoFrame

Pixels = npt.NDArray[np.uint8]


class RgbConverter:
    """Converts the frames of one stream; not for sharing between threads.

    Frames of another size than (width, height), as in a stream that changes size midway, are scaled to it.
    """

    def __init__(self, width: int, height: int) -> None:
        self._size = (width, height)
        self._layout: tuple[object, ...] | None = None
        self._graph: Graph | None = None

    def convert(self, frame: VideoFrame) -> Pixels:
        """uint8 RGB (height, width, 3), a view into the converted frame's memory: copy it before the next call."""
        layout = (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range)
        if self._graph is None or layout != self._layout:
            self._graph, self._layout = self._new_graph(frame), layout
        self._graph.push(frame)
        converted = self._graph.pull()
        assert isinstance(converted, VideoFrame)
        return _as_array(converted)

    def _new_graph(self, frame: VideoFrame) -> Graph:
        graph = Graph()
        if hasattr(graph, "threads"):  # since PyAV 18; one: the frames themselves are already read in parallel
            graph.threads = 1
        ticks = frame.time_base or Fraction(1, 1000)
        source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=ticks)
        nodes = [source]
        if (frame.width, frame.height) != self._size:
            nodes.append(graph.add("scale", f"{self._size[0]}:{self._size[1]}"))
        nodes += [graph.add("format", "rgb24"), graph.add("buffersink")]
        for upstream, downstream in itertools.pairwise(nodes):
            upstream.link_to(downstream)
        graph.configure()
        return graph


def _as_array(frame: VideoFrame) -> Pixels:
    plane = frame.planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return rows[: frame.height, : frame.width * 3].reshape(frame.height, frame.width, 3)
