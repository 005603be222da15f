"""A long H.264 file with motion and grain, drawn with numpy: what a phone or a screen cut would look like to a codec.

Flat synthetic pictures decode unrealistically fast (few coefficients, large skip blocks), so two textures move over
each other at different speeds and a little fresh noise is added to every frame. Encoded straight from YUV planes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

CACHE = Path(tempfile.gettempdir()) / "perceptic-benchmarks"


def long_video(
    seconds: int = 600, keyframe_interval: int = 250, width: int = 1280, height: int = 720, rate: int = 24
) -> Path:
    """Path of the file, made on the first call (a few minutes) and kept in the temporary folder."""
    path = CACHE / f"synthetic_{width}x{height}_{rate}fps_{seconds}s_key{keyframe_interval}.mp4"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part.mp4")
        _encode(partial, seconds * rate, keyframe_interval, width, height, rate)
        partial.replace(path)
    return path


def _encode(path: Path, num_frames: int, keyframe_interval: int, width: int, height: int, rate: int) -> None:
    drawing = _Drawing(width, height)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "23", "g": str(keyframe_interval)}
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(drawing.planes(number), format="yuv420p")
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


class _Drawing:
    """YUV 4:2:0 planes of frame number n, in the (height * 3 / 2, width) layout of PyAV."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        random = np.random.default_rng(0)
        self.background = _texture(random, 2 * height, 2 * width, smoothness=24)
        self.object = _texture(random, height // 2, width // 2, smoothness=6)
        self.chroma = _texture(random, height, width, smoothness=48)
        self.grain = random.integers(-4, 5, (16, height, width)).astype(np.int16)

    def planes(self, number: int) -> npt.NDArray[np.uint8]:
        height, width = self.height, self.width
        top, left = _bounce(number * 2, height), _bounce(number * 3, width)
        luma = self.background[top : top + height, left : left + width].astype(np.int16)
        row, column = _bounce(number * 5, height // 2), _bounce(number * 7, width // 2)
        luma[row : row + height // 2, column : column + width // 2] = self.object
        luma += self.grain[number % 16]
        u = self.chroma[top // 2 : top // 2 + height // 2, left // 2 : left // 2 + width // 2]
        v = u[::-1, ::-1]
        planes = [luma.clip(16, 235).astype(np.uint8).ravel(), u.ravel(), v.ravel()]
        return np.concatenate(planes).reshape(height * 3 // 2, width)


def _texture(random: np.random.Generator, height: int, width: int, smoothness: int) -> npt.NDArray[np.uint8]:
    coarse = random.integers(40, 216, (height // smoothness + 2, width // smoothness + 2)).astype(np.float32)
    rows, columns = np.arange(height) / smoothness, np.arange(width) / smoothness
    r, c = rows.astype(int), columns.astype(int)
    down, right = (rows - r)[:, None], (columns - c)[None, :]
    upper = coarse[r][:, c] * (1 - right) + coarse[r][:, c + 1] * right
    lower = coarse[r + 1][:, c] * (1 - right) + coarse[r + 1][:, c + 1] * right
    return (upper * (1 - down) + lower * down).astype(np.uint8)


def _bounce(distance: int, length: int) -> int:
    position = distance % (2 * length)
    return position if position <= length else 2 * length - position
