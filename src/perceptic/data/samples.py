"""What a training sample is, and where samples come from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

CAPTION_LENGTHS: Final = ("short", "medium", "long")


@dataclass(frozen=True)
class Sample:
    """One picture or clip with its captions.

    Attributes:
        pixels: uint8 RGB, (F, 3, H, W); a picture has one frame.
        captions: one text per entry of CAPTION_LENGTHS.
        is_flip_safe: whether the mirrored pixels are described by the captions with left and right exchanged.
    """

    pixels: NDArray[np.uint8]
    captions: tuple[str, str, str]
    is_flip_safe: bool


class SampleSource(Protocol):
    """A finite, ordered collection of samples that can be read from any position."""

    def __len__(self) -> int: ...

    @property
    def identity(self) -> str:
        """Names the content: two sources with the same identity give the same samples."""

    def read(self, start: int, stop: int) -> Iterator[Sample]:
        """Samples `start` to `stop` in order. Raises DataError naming the file of a bad sample."""
