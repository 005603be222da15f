"""Pixels to file bytes: PNG and H.264 in MP4, the same bytes for the same pixels and library versions."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from perceptic.errors import ConfigError

# BT.601, limited range: what decoders assume of small pictures that say nothing; said here all the same.
_BT601 = 5
_LIMITED_RANGE = 1


def png_bytes(pixels: NDArray[np.uint8]) -> bytes:
    """An (H, W, 3) uint8 RGB picture as PNG."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG", compress_level=6)
    return stream.getvalue()


def mp4_bytes(frames: NDArray[np.uint8], frames_per_second: float, *, crf: int = 18) -> bytes:
    """(F, H, W, 3) uint8 RGB frames as H.264 (yuv420p) in MP4.

    Args:
        frames: height and width must be even, as chroma is halved.
        frames_per_second: constant frame rate.
        crf: x264's constant quality, 0 (lossless) to 51; 18 is visually lossless.

    Raises:
        ConfigError: odd height or width, or no frames.
    """
    if frames.ndim != 4 or not len(frames) or frames.shape[1] % 2 or frames.shape[2] % 2:
        raise ConfigError(f"frames of shape {frames.shape}: H.264 needs (F, H, W, 3) with even H and W and F above 0")
    stream = io.BytesIO()
    with av.open(stream, mode="w", format="mp4") as container:
        rate = Fraction(frames_per_second).limit_denominator(1000)
        # One thread: x264's decisions, and so the bytes, depend on their number.
        video = container.add_stream(
            "libx264", rate=rate, options={"crf": str(crf), "preset": "medium", "threads": "1"}
        )
        video.width, video.height, video.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        video.codec_context.colorspace = _BT601
        video.codec_context.color_range = _LIMITED_RANGE
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return stream.getvalue()
