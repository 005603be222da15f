"""What a training sample is, and where samples come from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from perceptic.errors import DataError

CAPTION_LENGTHS: Final = ("short", "medium", "long")


class SampleError(DataError):
    """A sample that cannot be trained on. `where` says which (file and line, shard and key); `reason` is one short
    phrase for tables, `detail` the rest."""

    def __init__(self, where: str, reason: str, detail: str = "") -> None:
        self.where = where
        self.reason = reason
        self.detail = detail
        super().__init__(f"{where}: {reason}" + (f": {detail}" if detail else ""))

    def __reduce__(self) -> tuple[type[SampleError], tuple[str, str, str]]:
        return type(self), (self.where, self.reason, self.detail)


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
