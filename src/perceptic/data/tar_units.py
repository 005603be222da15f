"""Webdataset tar shards, read front to back: neighbouring members of one key are one sample.

A picture (png, jpg, jpeg, webp) or video (mp4, webm, mkv, mov, avi) has its captions in a `txt` member, one per line,
or in the fields of a `json` member (datasets-and-benchmarks 1.1 and 3.1).
"""

from __future__ import annotations

import functools
import glob
import hashlib
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from perceptic.data.captions import MAX_BYTES, Captions, sidecar_captions, sidecar_fields, text_captions
from perceptic.data.samples import SampleError
from perceptic.data.units import Place, RawPair, check_extension
from perceptic.errors import DataError

MAX_MEMBER_BYTES: Final = 1 << 30
"""Larger members are refused before they are read: a damaged header may claim any size."""

_BLOCK = 512


def find_shards(patterns: tuple[str, ...]) -> tuple[Path, ...]:
    """Every file that the paths and globs name, sorted within each, once. Raises DataError: a pattern without any."""
    shards: list[Path] = []
    for pattern in patterns:
        matches = sorted(Path(match) for match in glob.glob(pattern, recursive=True))  # noqa: PTH207
        if not matches:
            raise DataError(f"shards: '{pattern}' matches no file")
        shards.extend(matches)
    return tuple(dict.fromkeys(shards))


@dataclass(frozen=True)
class TarUnits:
    """The samples of tar files; a unit is a file, a place is the byte where a sample's first header begins."""

    shards: tuple[Path, ...]

    @classmethod
    def find(cls, patterns: tuple[str, ...]) -> TarUnits:
        """Every tar that the paths and globs name, sorted within each. Contents are not read.

        Raises:
            DataError: a pattern that matches nothing.
        """
        shards = find_shards(patterns)
        if not shards:
            raise DataError("shards: the list of patterns is empty")
        return cls(shards)

    def __len__(self) -> int:
        return len(self.shards)

    @functools.cached_property
    def identity(self) -> str:
        """The shards' names below their common folder, in order: the data may be moved, not renamed."""
        parent = os.path.commonpath([shard.absolute().parent for shard in self.shards])
        names = [os.path.relpath(shard.absolute(), parent) for shard in self.shards]
        return f"{len(names)} shards {hashlib.sha256(repr(names).encode()).hexdigest()[:16]}"

    def scan(self, unit: int, offset: int = 0) -> Iterator[Place | SampleError]:
        """See `Units.scan`. A shard that is missing, cut off or damaged ends there with an error; the sample before the
        cut, which may have lost members, is not given."""
        shard = self.shards[unit]
        try:
            with shard.open("rb") as stream:
                stream.seek(offset)
                yield from (Place(group.start, group.end) for group in _groups(stream))
        except (tarfile.TarError, OSError, EOFError) as error:
            reason = "shard cannot be read" if isinstance(error, OSError) else "damaged shard"
            yield SampleError(str(shard), reason, f"what follows in it is lost: {error}")

    def read(self, unit: int, offset: int) -> RawPair:
        """See `Units.read`."""
        shard = self.shards[unit]
        try:
            with shard.open("rb") as stream:
                stream.seek(offset)
                group = next(_groups(stream))
                return _Sample(f"{shard}, sample {group.key}", group, stream).pair()
        except (tarfile.TarError, OSError, EOFError, StopIteration) as error:
            raise SampleError(f"{shard}, byte {offset}", "shard cannot be read", str(error)) from error


@dataclass(frozen=True)
class _Member:
    """Content of a member: where in its tar, and how long, in bytes."""

    extension: str
    offset: int
    size: int


@dataclass(frozen=True)
class _Group:
    """Neighbouring members of one key, from `start` to `end` in the tar."""

    key: str
    start: int
    end: int
    members: tuple[_Member, ...]


def _groups(stream: BinaryIO) -> Iterator[_Group]:
    """Samples from the stream's position on. A member that comes twice begins another sample of the same name."""
    start = stream.tell()
    key, members = "", list[_Member]()
    for item in _headers(stream):
        item_key, extension = split_name(item.name)
        if members and (item_key != key or extension in {member.extension for member in members}):
            yield _Group(key, start, item.offset, tuple(members))
            start, members = item.offset, []
        key = item_key
        members.append(_Member(extension, item.offset_data, item.size))
    if members:
        last = members[-1]
        yield _Group(key, start, last.offset + -(-last.size // _BLOCK) * _BLOCK, tuple(members))


def _headers(stream: BinaryIO) -> Iterator[tarfile.TarInfo]:
    with tarfile.open(fileobj=stream, mode="r:") as archive:
        while (item := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # it would remember every member of a large shard
            if item.isreg() and not is_hidden(item.name):
                yield item
        require_end(stream, archive.offset)


def require_end(stream: BinaryIO, offset: int) -> None:
    """That a walk over the members of a tar came to its end, which is a block of zeros.

    `tarfile` ends a walk in silence at a damaged header and at the end of the file, too: a file that was cut off
    between two members looks whole to it.

    Raises:
        tarfile.ReadError: anything else stands at `offset`, or nothing.
    """
    stream.seek(offset)
    block = stream.read(_BLOCK)
    if block.strip(b"\0"):
        raise tarfile.ReadError(f"no tar header at byte {offset}")
    if len(block) < _BLOCK:
        raise tarfile.ReadError(
            f"no end-of-archive marker at byte {offset}: the file was cut off, or what wrote it did not close it; its "
            "last sample may lack members"
        )


def split_name(name: str) -> tuple[str, str]:
    """Key and extension: a key ends at the first dot of the file's name."""
    folder, _, file = name.rpartition("/")
    key, _, extension = file.partition(".")
    return f"{folder}/{key}".lstrip("/"), extension.lower()


def is_hidden(name: str) -> bool:
    """Whether a file's name begins with a dot, as what macOS puts between the members of a tar does."""
    return name.rpartition("/")[2].startswith(".")


@dataclass(frozen=True)
class _Sample:
    """One group's members, read as they are needed."""

    where: str
    group: _Group
    stream: BinaryIO

    def pair(self) -> RawPair:
        extension, is_video = check_extension({member.extension for member in self.group.members}, self.where)
        captions, is_flip_safe = self._captions()
        name = f"{self.group.key}.{extension}"
        return RawPair(self.where, name, self._content(extension), is_video, captions, is_flip_safe)

    def _captions(self) -> tuple[Captions, bool]:
        fields = sidecar_fields(self._content("json"), self.where) if self._has("json") else {}
        is_flip_safe = fields.get("is_flip_safe") is True
        if self._has("txt"):
            return text_captions(self._content("txt"), self.where), is_flip_safe
        return sidecar_captions(fields, self.where), is_flip_safe

    def _has(self, extension: str) -> bool:
        return any(member.extension == extension for member in self.group.members)

    def _content(self, extension: str) -> bytes:
        member = next(member for member in self.group.members if member.extension == extension)
        if member.size > (MAX_BYTES if extension in ("txt", "json") else MAX_MEMBER_BYTES):
            raise SampleError(self.where, "member too large", f"its {extension} has {member.size:,} bytes")
        self.stream.seek(member.offset)
        return self.stream.read(member.size)
