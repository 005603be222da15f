"""What a video gives: frames with their times, facts about the file, and the protocol every reader fulfils."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import torch
from PIL import Image


@dataclass(frozen=True, eq=False)
class Frames:
    """Some frames of one video, in the order they were asked for.

    Attributes:
        pixels: uint8 RGB (F, 3, H, W), upright (rotation metadata applied). The memory is laid out frame, row,
            column, channel; `.contiguous()` makes it planar.
        seconds: float64 (F,), when each frame appears, counted from the first frame of the video.
        indices: int64 (F,), the number of each frame in presentation order, from 0.
    """

    pixels: torch.Tensor
    seconds: torch.Tensor
    indices: torch.Tensor

    def __len__(self) -> int:
        return self.pixels.shape[0]

    def image(self, position: int) -> Image.Image:
        """The frame at `position` of this selection as an RGB Pillow image."""
        return Image.fromarray(self.pixels[position].permute(1, 2, 0).contiguous().numpy())


@dataclass(frozen=True)
class VideoInfo:
    """Facts about one video stream. Width and height are of the upright frame.

    `frames_per_second` is the average rate the container states, or frames over duration where it states none;
    `rotation_degrees` is the counter-clockwise turn that the metadata asks for and the reader applies.
    """

    path: str
    num_frames: int
    frames_per_second: float
    duration_seconds: float
    width: int
    height: int
    codec: str
    rotation_degrees: int


class FrameReader(Protocol):
    """One open video: any frames by their number in presentation order. Close it, or use it in a `with` block."""

    @property
    def info(self) -> VideoInfo: ...

    @property
    def seconds(self) -> Sequence[float]:
        """When each frame of the video appears, ascending, the first at 0."""
        ...

    def read(self, indices: Sequence[int]) -> Frames:
        """Decode these frames; repeats and any order are fine.

        Raises:
            MediaError: an index that does not exist, or a frame that cannot be decoded.
        """
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None: ...
