"""Seeded choices that give the same result on every machine and numpy version.

Only `Generator.random()` is drawn from: it is PCG64's raw stream, while `choice`, `shuffle` and `integers` may change
their algorithms between numpy releases (and are ten times slower for single values).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from perceptic.errors import ConfigError

Item = TypeVar("Item")


def seeded(seed: int | np.random.Generator, *purpose: str) -> np.random.Generator:
    """A generator for `seed` within a stream named by `purpose`; a generator is passed through unchanged.

    Streams of different purposes (splits, images against clips) never share values, so equal seeds stay disjoint.

    Raises:
        ConfigError: a negative seed.
    """
    if isinstance(seed, np.random.Generator):
        return seed
    if seed < 0:
        raise ConfigError(f"seed {seed}: give a number from 0, or a numpy Generator")
    return np.random.Generator(np.random.PCG64([zlib.crc32("/".join(purpose).encode()), int(seed)]))


def pick(rng: np.random.Generator, items: Sequence[Item]) -> Item:
    """One item, all equally likely."""
    return items[int(rng.random() * len(items))]


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """A number in [low, high)."""
    return low + (high - low) * float(rng.random())


def whole(rng: np.random.Generator, low: int, high: int) -> int:
    """A whole number in low..high, both included."""
    return low + int(rng.random() * (high - low + 1))


def chance(rng: np.random.Generator, probability: float) -> bool:
    """True with the given probability."""
    return bool(rng.random() < probability)


def shuffled(rng: np.random.Generator, items: Sequence[Item]) -> list[Item]:
    """A new list in random order (Fisher-Yates)."""
    order = list(items)
    for last in range(len(order) - 1, 0, -1):
        other = int(rng.random() * (last + 1))
        order[last], order[other] = order[other], order[last]
    return order


def cos_sin(degrees: float) -> tuple[float, float]:
    """Cosine and sine, rounded so that the last bit of a machine's libm cannot change a pixel."""
    angle = math.radians(degrees)
    return round(math.cos(angle), 9), round(math.sin(angle), 9)
