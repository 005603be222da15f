"""Frames of a video through torchcodec, where it is installed and finds the FFmpeg libraries it needs."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self

import torch

from perceptic import optional
from perceptic.errors import MediaError, MissingDependencyError
from perceptic.media.frames import Frames, VideoInfo
from perceptic.media.pyav_reader import PyavReader
from perceptic.media.pyav_stream import CodecMissingError

# torchcodec reports libav errors as RuntimeError and bad arguments as the other two.
_FAILURES = (RuntimeError, ValueError, IndexError)


class TorchcodecReader:
    """A `FrameReader` on torchcodec.

    Args:
        source: a path, or the bytes of a file.

    Raises:
        MissingDependencyError: torchcodec is not installed or cannot load FFmpeg.
        MediaError: no such file, not a video, no frame in it.
    """

    def __init__(self, source: str | Path | bytes) -> None:
        reason = load_failure()
        if reason is not None:
            raise MissingDependencyError(f"reader='torchcodec' cannot be used: {reason}. reader='auto' needs none.")
        self._name = "<bytes>" if isinstance(source, bytes) else str(source)
        times = _packet_times(source)
        try:
            self._decoder: Any = _decoders().VideoDecoder(source if isinstance(source, bytes) else str(source))
            self._seconds = times or self._even_times()
            num_frames = len(self._decoder)
        except _FAILURES as error:
            raise MediaError(self._name, f"not a readable video: {_short(error)}") from error
        if num_frames != len(self._seconds):
            counts = f"torchcodec counts {num_frames} frames, decoding all of them gives {len(self._seconds)}"
            raise MediaError(self._name, counts, "use reader='pyav'")

    @property
    def seconds(self) -> Sequence[float]:
        return self._seconds

    @property
    def info(self) -> VideoInfo:
        facts = self._decoder.metadata
        first = self.read([0]).pixels
        return VideoInfo(
            path=self._name,
            num_frames=len(self._seconds),
            frames_per_second=float(facts.average_fps or 0.0),
            duration_seconds=float(facts.duration_seconds or 0.0),
            width=first.shape[-1],
            height=first.shape[-2],
            codec=str(facts.codec),
            rotation_degrees=round(getattr(facts, "rotation", None) or 0) % 360,
        )

    def read(self, indices: Sequence[int]) -> Frames:
        """See `FrameReader.read`."""
        count = len(self._seconds)
        for index in indices:
            if not 0 <= index < count:
                raise MediaError(self._name, f"has no frame {index}", f"it holds {count}, numbered from 0")
        try:
            batch = self._decoder.get_frames_at(list(indices))
        except _FAILURES as error:
            raise MediaError(self._name, f"frames cannot be decoded: {_short(error)}") from error
        seconds = torch.tensor([self._seconds[index] for index in indices], dtype=torch.float64)
        return Frames(batch.data, seconds, torch.tensor(list(indices), dtype=torch.int64))

    def _even_times(self) -> Sequence[float]:
        rate = float(self._decoder.metadata.average_fps or 25.0)
        return tuple(index / rate for index in range(len(self._decoder)))

    def close(self) -> None:
        self._decoder = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


@functools.cache
def load_failure() -> str | None:
    """Why torchcodec cannot be used here, or None if it can. Importing it succeeds even without FFmpeg, so this
    loads its libraries as the first video would."""
    if not optional.is_installed("torchcodec"):
        return "the package 'torchcodec' is not installed (pip install 'perceptic[torchcodec]')"
    try:
        _decoders().VideoDecoder(b"not a video")
    except ImportError as error:
        return f"torchcodec does not import: {_short(error)}"
    except (OSError, RuntimeError, ValueError) as error:
        # With its libraries loaded, it complains about these bytes instead.
        if "libtorchcodec" in str(error):
            return "torchcodec found no FFmpeg libraries that it can load"
    return None


def _packet_times(source: str | Path | bytes) -> Sequence[float] | None:
    """When each frame is shown, None if PyAV lacks the codec.

    torchcodec itself tells a frame's time only by decoding it. PyAV also refuses here what is not a video: playlists
    and text files, which torchcodec would open.
    """
    try:
        with PyavReader(source) as reader:
            return reader.seconds
    except CodecMissingError:
        return None


def _decoders() -> ModuleType:
    return importlib.import_module("torchcodec.decoders")


def _short(error: BaseException) -> str:
    """The cause at the end of a message that begins with a source file and line of torchcodec."""
    return str(error).strip().splitlines()[0].rsplit(".cpp:", 1)[-1].partition(", ")[2][:120] or str(error)[:120]
