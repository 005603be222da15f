"""Read a video: choose a reader, choose frames, decode them.

Two readers stand behind the `FrameReader` protocol. PyAV is always there, and faster than torchcodec on all but the
tiniest clips (`benchmarks/video_decode.py`) with the same pixels. torchcodec, where it loads, uses the FFmpeg of the
system, which may know codecs that PyAV's own does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from perceptic.errors import ConfigError, MediaError
from perceptic.media import sampling, torchcodec_reader
from perceptic.media.frames import FrameReader, Frames, VideoInfo
from perceptic.media.pyav_reader import PyavReader
from perceptic.media.pyav_stream import CodecMissingError

__all__ = ["FrameReader", "Frames", "ReaderName", "VideoInfo", "open_video", "probe_video", "read_chosen", "read_video"]

ReaderName = Literal["auto", "pyav", "torchcodec"]


def open_video(source: str | Path | bytes, reader: ReaderName = "auto") -> FrameReader:
    """Open a video for reading frames by number. Close the result, or use it in a `with` block.

    Args:
        source: a path or the bytes of a file.
        reader: `pyav`, `torchcodec`, or `auto`: PyAV, and torchcodec for codecs that PyAV lacks, if it loads.

    Raises:
        MediaError: no such file, not a video, no video stream (audio only), no frames.
        MissingDependencyError: torchcodec was asked for by name and does not load.
        ConfigError: an unknown reader.
    """
    if reader == "auto":
        return _open_with_any(source)
    if reader == "pyav":
        return PyavReader(source)
    if reader == "torchcodec":
        return torchcodec_reader.TorchcodecReader(source)
    raise ConfigError(f"reader must be auto, pyav or torchcodec, not {reader!r}")


def _open_with_any(source: str | Path | bytes) -> FrameReader:
    try:
        return PyavReader(source)
    except CodecMissingError:
        if torchcodec_reader.load_failure() is None:
            return torchcodec_reader.TorchcodecReader(source)
        raise


def probe_video(source: str | Path | bytes, reader: ReaderName = "auto") -> VideoInfo:
    """Size, length, rate and codec; reads the whole file's packets but decodes one frame only. Raises MediaError."""
    with open_video(source, reader) as video:
        return video.info


def read_video(
    source: str | Path | bytes,
    *,
    num_frames: int = 8,
    frames_per_second: float | None = None,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    reader: ReaderName = "auto",
) -> Frames:
    """Frames of a video, spread evenly or at a fixed rate, of all of it or of a time range.

    Args:
        source: a path or the bytes of a file.
        num_frames: how many, evenly from the first frame to the last (`sampling.uniform_indices`); shorter videos
            repeat some. Not used with `frames_per_second`.
        frames_per_second: the frame on screen at each tick of a clock of this rate (`sampling.rate_indices`); no frame
            comes twice.
        start_seconds, end_seconds: only frames that start in [start, end), counted from the first frame.
        reader: see `open_video`.

    Raises:
        MediaError: the file cannot be read, or the time range is empty or past the end.
        ConfigError: a number of frames or a rate that is not positive.
    """
    if num_frames < 1:
        raise ConfigError(f"num_frames must be at least 1, not {num_frames}")
    with open_video(source, reader) as video:
        return read_chosen(
            video, lambda: _choose(video, source, num_frames, frames_per_second, start_seconds, end_seconds)
        )


def read_chosen(video: FrameReader, choose: Callable[[], Sequence[int]]) -> Frames:
    """The frames that a rule chooses. Raises MediaError as `FrameReader.read` does.

    Args:
        choose: gives frame numbers by what the reader knows of the file; asked again if that changes.
    """
    for attempt in range(2):
        known_frames = len(video.seconds)
        try:
            return video.read(choose())
        except MediaError:
            # A cut-off file holds fewer frames than it says. The reader has counted them now: choose again.
            if attempt == 1 or len(video.seconds) >= known_frames:
                raise
    raise AssertionError("unreachable")


def _choose(
    video: FrameReader,
    source: str | Path | bytes,
    num_frames: int,
    frames_per_second: float | None,
    start_seconds: float | None,
    end_seconds: float | None,
) -> list[int]:
    name = "<bytes>" if isinstance(source, bytes) else source
    try:
        chosen = sampling.frames_in_range(video.seconds, start_seconds, end_seconds)
    except ConfigError as error:
        raise MediaError(name, str(error), f"it lasts {video.seconds[-1]:.2f} s") from error
    if frames_per_second is not None:
        return sampling.rate_indices(
            video.seconds, frames_per_second, start_seconds=start_seconds, end_seconds=end_seconds
        )
    return [chosen[index] for index in sampling.uniform_indices(len(chosen), num_frames)]
