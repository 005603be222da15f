"""What a stream reads: samples in units that are read front to back, such as the tar files of a data set.

Reading within a unit is sequential, which disks and networks like; units and a buffer of places are shuffled
(`shuffled_units`). A unit is scanned for the places of its samples first and a sample is read only when its turn has
come, so that the buffer holds numbers and no pictures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from perceptic.data.captions import Captions
from perceptic.data.samples import SampleError

IMAGE_EXTENSIONS: Final = ("png", "jpg", "jpeg", "webp")
VIDEO_EXTENSIONS: Final = ("mp4", "webm", "mkv", "mov", "avi")


@dataclass(frozen=True)
class Place:
    """A sample's place in its unit: where it begins, and where the next one does. Any numbers that grow."""

    offset: int
    next_offset: int


@dataclass(frozen=True)
class RawPair:
    """A picture or video, still encoded, with its captions.

    Attributes:
        where: names it in messages. name: of the file, below its shard or folder.
        content: the file's bytes, or its path.
        is_flip_safe: the mirrored pixels are described by the captions with left and right exchanged.
    """

    where: str
    name: str
    content: bytes | Path
    is_video: bool
    captions: Captions
    is_flip_safe: bool = False


class Units(Protocol):
    """Samples in units."""

    def __len__(self) -> int:
        """Number of units."""

    @property
    def identity(self) -> str:
        """Names the units and their order: a saved position is good for these only."""

    def scan(self, unit: int, offset: int = 0) -> Iterator[Place | SampleError]:
        """Places of the samples of a unit from `offset` on, a place's `next_offset` or 0. An error stands for what
        cannot be read: after it comes the next sample, or nothing if the rest of the unit is lost."""

    def read(self, unit: int, offset: int) -> RawPair:
        """The sample at a place. Raises SampleError if it cannot be used."""


def check_extension(extensions: set[str], where: str) -> tuple[str, bool]:
    """Which of a sample's members is its medium, and whether that is a video.

    Raises:
        SampleError: none is.
    """
    for known, is_video in ((IMAGE_EXTENSIONS, False), (VIDEO_EXTENSIONS, True)):
        found = next((name for name in known if name in extensions), None)
        if found is not None:
            return found, is_video
    raise SampleError(where, "no picture or video", f"it has only {', '.join(sorted(extensions)) or 'nothing'}")
