"""What a layer sweep is measured on: one small set of pictures and truths per task.

The synthetic world brings all of them (`layers_world`); folders of real data bring those they hold (`layers_folders`).

Shapes: N pictures, S side in pixels, F frames, H, W pixels of a truth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from perceptic.evaluate.layers_features import Pictures

TASKS = ("classification", "retrieval", "segmentation", "depth", "tracking")


@dataclass(frozen=True)
class Labelled:
    """Pictures with class numbers (N,)."""

    pictures: Pictures
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Classification:
    train: Labelled
    test: Labelled
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class Retrieval:
    """Query i shows the same thing as gallery picture i, changed; `change` says how."""

    queries: Pictures
    gallery: Pictures
    change: str


@dataclass(frozen=True)
class Dense:
    """Pictures with a truth for every pixel: classes (N, H, W) uint8 with 255 void, or depths (N, H, W) float32."""

    pictures: Pictures
    truth: NDArray[np.generic]


@dataclass(frozen=True)
class Segmentation:
    train: Dense
    test: Dense
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class Depth:
    train: Dense
    test: Dense
    unit: str


@dataclass(frozen=True)
class VideoMasks:
    """A clip: pixels (F, 3, S, S) in [-1, 1] and object numbers (F, H, W) uint8, 0 for the background."""

    name: str
    pixels: Tensor
    masks: NDArray[np.uint8]


@dataclass(frozen=True)
class Tracking:
    """Clips that are made one by one, from number `start` on; `identity` says everything that decides them."""

    identity: str
    count: int
    clips: Callable[[int], Iterator[VideoMasks]]


class SweepData(Protocol):
    """A source of sets, one method per task; each raises DataError that says what is missing and how it must lie."""

    @property
    def description(self) -> str:
        """Everything that decides the data, in words."""

    def classification(self) -> Classification: ...
    def retrieval(self) -> Retrieval: ...
    def segmentation(self) -> Segmentation: ...
    def depth(self) -> Depth: ...
    def tracking(self) -> Tracking: ...
