"""Decoded pools: the source's samples, built once, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from perceptic.data.pool import open_pool
from perceptic.data.samples import Sample
from perceptic.errors import DataError


@dataclass
class CountingSource:
    """Numbered samples; remembers how many were read and can fail at one."""

    count: int
    fail_at: int | None = None
    wide_at: int | None = None
    reads: int = 0

    def __len__(self) -> int:
        return self.count

    @property
    def identity(self) -> str:
        return f"counting {self.count}"

    def read(self, start: int, stop: int) -> Iterator[Sample]:
        for index in range(start, stop):
            self.reads += 1
            if index == self.fail_at:
                raise DataError(f"sample {index} is bad")
            pixels = np.full((1, 3, 2, 4 if index == self.wide_at else 2), index % 251, dtype=np.uint8)
            yield Sample(pixels, (f"s{index}", f"m{index}", f"l{index}"), index % 2 == 0)


def test_a_pool_holds_the_source_s_samples_and_is_built_once(tmp_path):
    source = CountingSource(2300)
    seen = []
    pool = open_pool(source, tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1000, 2300), (2000, 2300), (2300, 2300)]
    assert len(pool) == 2300
    assert pool.pixels[:, 0, 0, 0, 0].tolist() == [index % 251 for index in range(2300)]
    assert pool.captions[7] == ("s7", "m7", "l7")
    assert pool.flip_safe[:4].tolist() == [True, False, True, False]
    reads = source.reads
    again = open_pool(source, tmp_path)
    assert source.reads == reads
    assert again.captions == pool.captions


def test_a_failed_build_leaves_no_pool(tmp_path):
    with pytest.raises(DataError, match="sample 1500 is bad"):
        open_pool(CountingSource(2300, fail_at=1500), tmp_path)
    assert list(tmp_path.rglob("pool.json")) == []
    assert list(tmp_path.rglob("*.npy")) == []
    assert len(open_pool(CountingSource(2300), tmp_path)) == 2300


@pytest.mark.parametrize("place", [5, 1200])
def test_samples_of_another_shape_are_refused(tmp_path, place):
    with pytest.raises(DataError, match=r"shape|are"):
        open_pool(CountingSource(1201 if place == 1200 else 20, wide_at=place), tmp_path)
