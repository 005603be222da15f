"""Small videos made for the tests: each frame shows its own number as stripes, so that it can be told after coding."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

NUM_BITS = 8
WIDTH, HEIGHT = 64, 48


@dataclass(frozen=True)
class Recipe:
    """How to encode a test video. `pts` are in 1/1000 s; without them the rate is constant."""

    name: str
    codec: str = "libx264"
    num_frames: int = 60
    pix_fmt: str = "yuv420p"
    options: dict[str, str] = field(default_factory=dict)
    mux_options: dict[str, str] = field(default_factory=dict)
    pts: Sequence[int] | None = None
    rate: int = 25
    width: int = WIDTH
    height: int = HEIGHT


def numbered_picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> npt.NDArray[np.uint8]:
    """RGB (height, width, 3): the bits of `number` as bright and dark stripes, over a colour gradient that drifts."""
    rows, columns = np.mgrid[0:height, 0:width]
    picture = np.stack([(columns * 3 + number * 7) % 200, (rows * 4 + number * 3) % 200, rows + columns], axis=-1)
    stripe = width // NUM_BITS
    for bit in range(NUM_BITS):
        level = 255 if number >> bit & 1 else 0
        picture[height // 4 : -height // 4, bit * stripe : (bit + 1) * stripe] = level
    return picture.astype(np.uint8)


def number_in(pixels: npt.NDArray[np.uint8]) -> int:
    """The number a decoded frame (3, H, W) shows."""
    _, height, width = pixels.shape
    stripe = width // NUM_BITS
    middle = pixels.astype(float).mean(0)[height // 2 - 4 : height // 2 + 4]
    levels = [middle[:, bit * stripe + 2 : (bit + 1) * stripe - 2].mean() for bit in range(NUM_BITS)]
    return sum(int(level > 127) << bit for bit, level in enumerate(levels))


def write_video(folder: Path, recipe: Recipe) -> Path:
    path = folder / recipe.name
    with av.open(str(path), "w", options=dict(recipe.mux_options)) as container:
        stream = container.add_stream(recipe.codec, rate=recipe.rate)
        stream.width, stream.height, stream.pix_fmt = recipe.width, recipe.height, recipe.pix_fmt
        stream.options = dict(recipe.options)
        if recipe.pts is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
            stream.time_base = Fraction(1, 1000)
        for number in range(recipe.num_frames):
            picture = numbered_picture(number, recipe.width, recipe.height)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if recipe.pts is not None:
                frame.pts, frame.time_base = recipe.pts[number], Fraction(1, 1000)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def write_audio(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16_000)
        samples = np.sin(np.arange(16_000) / 20).astype(np.float32)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate = 16_000
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)
    return path


def decode_all(path: Path) -> list[npt.NDArray[np.uint8]]:
    """Every frame by plain decoding from the start, RGB (3, H, W), converted as ffmpeg does. The yardstick."""
    pictures: list[npt.NDArray[np.uint8]] = []
    graph = None
    for frame in _frames(path):
        graph = graph or _rgb_graph(frame)
        graph.push(frame)
        pictures.append(graph.pull().to_ndarray().transpose(2, 0, 1))  # type: ignore[union-attr]
    return pictures


def _frames(path: Path) -> Iterator[av.VideoFrame]:
    with av.open(str(path)) as container, contextlib.suppress(av.error.FFmpegError):  # a file cut off ends early
        for packet in container.demux(video=0):
            if not packet.is_corrupt:  # cut off in the middle: not a frame
                with contextlib.suppress(av.error.InvalidDataError):
                    yield from packet.decode()


def _rgb_graph(frame: av.VideoFrame) -> av.filter.Graph:
    graph = av.filter.Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    to_rgb, sink = graph.add("format", "rgb24"), graph.add("buffersink")
    source.link_to(to_rgb)
    to_rgb.link_to(sink)
    graph.configure()
    return graph


def set_rotation(path: Path, degrees: int) -> None:
    """Write a display matrix for a counter-clockwise turn into an MP4's track header."""
    cosine, sine = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    # Positive angles of the matrix turn clockwise in ISO base media files.
    matrix = [cosine, -sine, 0, sine, cosine, 0, 0, 0]
    packed = struct.pack(">9i", *(value << 16 for value in matrix), 1 << 30)
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 40  # version 0: 4 flags, 20 times and ids, 16 layer, group and volume
    data[start : start + 36] = packed
    path.write_bytes(data)


def skip_first_frames(path: Path, num_frames: int, ticks_per_frame: int) -> None:
    """Move the start of an MP4's edit list, so that the first frames are needed for decoding but not shown."""
    data = bytearray(path.read_bytes())
    start = data.index(b"elst") + 4 + 8  # version, flags, entry count
    duration, media_time = struct.unpack_from(">Ii", data, start)
    struct.pack_into(">Ii", data, start, duration, media_time + num_frames * ticks_per_frame)
    path.write_bytes(data)
