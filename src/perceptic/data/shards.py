"""Webdataset tar shards as a source of samples: members of one key are one sample.

A picture (png, jpg, jpeg or webp) or a video (mp4) comes with its captions in a `txt` member, one per line, or in the
fields of a `json` member (datasets-and-benchmarks 1.1 and 3.1). The tar is indexed once and then read by offset.
"""

from __future__ import annotations

import functools
import hashlib
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perceptic.configs import Preprocessing
from perceptic.data.captions import Captions, sidecar_captions, sidecar_fields, text_captions
from perceptic.data.samples import Sample, SampleError
from perceptic.data.tar_units import find_shards, is_hidden, require_end, split_name
from perceptic.data.units import IMAGE_EXTENSIONS, VIDEO_EXTENSIONS
from perceptic.errors import DataError, MediaError
from perceptic.media.images import load_image
from perceptic.media.preprocess import ImageTransform
from perceptic.media.video import read_video


@dataclass(frozen=True)
class Member:
    """Where a member's content lies in its tar, in bytes."""

    offset: int
    size: int


@dataclass(frozen=True)
class ShardEntry:
    """One sample of a shard: its members by extension."""

    shard: Path
    key: str
    members: dict[str, Member]

    def read(self, extension: str) -> bytes:
        """A member's content."""
        member = self.members[extension]
        with self.shard.open("rb") as stream:
            stream.seek(member.offset)
            return stream.read(member.size)

    @property
    def where(self) -> str:
        """Names the sample in messages."""
        return f"{self.shard}, sample {self.key}"

    def fail(self, reason: str, detail: str = "") -> SampleError:
        """An error that names the sample."""
        return SampleError(self.where, reason, detail)


def index_shard(shard: Path) -> list[ShardEntry]:
    """The samples of a tar in order.

    Raises:
        DataError: not a readable tar, or one that was cut off, between two members even.
    """
    found: dict[str, dict[str, Member]] = {}
    try:
        with shard.open("rb") as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
            for item in archive:
                if item.isfile() and not is_hidden(item.name):
                    key, extension = split_name(item.name)
                    found.setdefault(key, {})[extension] = Member(item.offset_data, item.size)
            require_end(stream, archive.offset)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"{shard}: cannot be read as a tar file: {error}") from error
    return [ShardEntry(shard, key, members) for key, members in found.items()]


@dataclass(frozen=True)
class ShardSource:
    """Samples of tar files, squashed to `image_size` pixels a side; `num_frames` above 1 reads videos."""

    entries: tuple[ShardEntry, ...]
    image_size: int
    num_frames: int = 1

    @classmethod
    def find(cls, patterns: tuple[str, ...], *, image_size: int, num_frames: int = 1) -> ShardSource:
        """The samples of every tar that the paths and globs name, in sorted order.

        Raises:
            DataError: a pattern that matches nothing, a tar that cannot be read, or no sample at all.
        """
        entries = tuple(entry for shard in find_shards(patterns) for entry in index_shard(shard))
        if not entries:
            raise DataError(f"shards: {', '.join(patterns) or 'an empty list'} holds no sample")
        return cls(entries, image_size, num_frames)

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def identity(self) -> str:
        """Names and sizes of the files and of every member in them; contents are not read."""
        digest = hashlib.sha256(repr(self.entries).encode()).hexdigest()
        return f"shards {digest} {self.image_size} {self.num_frames}"

    def read(self, start: int, stop: int) -> Iterator[Sample]:
        """See `SampleSource.read`. A sample counts as flip-safe only where its sidecar says so (`is_flip_safe`)."""
        for entry in self.entries[start:stop]:
            sidecar = _sidecar(entry)
            yield Sample(self._pixels(entry), _captions(entry, sidecar), sidecar.get("is_flip_safe") is True)

    def _pixels(self, entry: ShardEntry) -> NDArray[np.uint8]:
        transform = _transform(self.image_size)
        wanted = VIDEO_EXTENSIONS if self.num_frames > 1 else IMAGE_EXTENSIONS
        extension = next((name for name in wanted if name in entry.members), None)
        if extension is None:
            had = f"it has no {', '.join(wanted)}, only {', '.join(entry.members)}"
            raise entry.fail("no picture or video", had)
        content = entry.read(extension)
        try:
            if self.num_frames > 1:
                return transform.frame_pixels(read_video(content, num_frames=self.num_frames)).numpy()
            return transform.pixels(load_image(content)).numpy()[None]
        except MediaError as error:
            raise entry.fail(error.reason) from error


@functools.cache
def _transform(image_size: int) -> ImageTransform:
    return ImageTransform(Preprocessing(image_size=image_size))


def _sidecar(entry: ShardEntry) -> dict[str, Any]:
    return sidecar_fields(entry.read("json"), entry.where) if "json" in entry.members else {}


def _captions(entry: ShardEntry, sidecar: dict[str, Any]) -> Captions:
    if "txt" in entry.members:
        return text_captions(entry.read("txt"), entry.where)
    return sidecar_captions(sidecar, entry.where)
