"""A decoded copy of a source on disk, memory-mapped, so that reading a batch costs a copy and no decoding.

Several runs on one machine share the pages. A pool folder holds `pixels.npy` (N, F, 3, H, W) uint8, `captions.jsonl`
(one line per sample) and `pool.json`, which is written last: a folder without it is incomplete and is rebuilt.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perceptic.data.samples import Sample, SampleSource
from perceptic.errors import DataError
from perceptic.files import atomic_path, write_text

_FORMAT = 1
_PART = 1000
"""Samples per unit of work: large enough to amortise a process's start, small enough for a lively progress bar."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Pool:
    """Random access to decoded samples. `pixels` is uint8 (N, F, 3, H, W), mapped from disk."""

    pixels: NDArray[np.uint8]
    captions: list[tuple[str, str, str]]
    flip_safe: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.captions)


def open_pool(source: SampleSource, cache: Path, workers: int = 1, progress: Progress | None = None) -> Pool:
    """The pool of a source, built below `cache` if it is not there yet.

    Args:
        source: where the samples come from; its identity names the folder.
        cache: parent folder of pools.
        workers: processes that decode.
        progress: called with (samples done, samples in all).

    Raises:
        DataError: a bad sample, or samples of different shapes.
    """
    folder = cache / hashlib.sha256(f"{_FORMAT} {source.identity}".encode()).hexdigest()[:16]
    if not (folder / "pool.json").exists():
        _build(source, folder, workers, progress or (lambda done, total: None))
    return _load(folder)


def _load(folder: Path) -> Pool:
    captions: list[tuple[str, str, str]] = []
    flip_safe: list[bool] = []
    with (folder / "captions.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            captions.append(tuple(row["captions"]))
            flip_safe.append(row["is_flip_safe"])
    pixels = np.load(folder / "pixels.npy", mmap_mode="r")
    return Pool(pixels, captions, np.array(flip_safe))


def _build(source: SampleSource, folder: Path, workers: int, progress: Progress) -> None:
    starts = range(0, len(source), _PART)
    shape = next(source.read(0, 1)).pixels.shape
    lines: list[str] = []
    with atomic_path(folder / "pixels.npy") as temporary:
        pixels = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=(len(source), *shape))
        for start, (part, captions) in zip(starts, _read_parts(source, starts, workers), strict=True):
            stop = start + len(part)
            if part.shape[1:] != shape:
                raise DataError(f"{source.identity}: samples {start} to {stop} are {part.shape[1:]}, not {shape}")
            pixels[start:stop] = part
            lines.extend(captions)
            progress(stop, len(source))
        pixels.flush()
    write_text(folder / "captions.jsonl", "".join(lines))
    write_text(folder / "pool.json", json.dumps({"format": _FORMAT, "source": source.identity, "samples": len(source)}))


def _read_parts(source: SampleSource, starts: range, workers: int) -> Iterator[tuple[NDArray[np.uint8], list[str]]]:
    read = functools.partial(_read_part, source)
    if workers <= 1:
        yield from map(read, starts)
        return
    # Spawned, not forked: the parent may already hold torch's threads.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as executor:
        yield from executor.map(read, starts)


def _read_part(source: SampleSource, start: int) -> tuple[NDArray[np.uint8], list[str]]:
    samples = list(source.read(start, min(start + _PART, len(source))))
    shapes = {sample.pixels.shape for sample in samples}
    if len(shapes) != 1:
        raise DataError(f"{source.identity}: samples of different shapes {sorted(shapes)}; resize them to one first")
    return np.stack([sample.pixels for sample in samples]), [_line(sample) for sample in samples]


def _line(sample: Sample) -> str:
    return json.dumps({"captions": sample.captions, "is_flip_safe": sample.is_flip_safe}) + "\n"
