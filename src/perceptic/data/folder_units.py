"""Plain folders of pictures and videos with captions: `photo.txt` or `photo.json` beside `photo.jpg`, or one table.

A table is `captions.csv`, `.tsv`, `.jsonl` or `.parquet` in the folder, with the columns `file` (path below the folder)
and `caption`; several lines of one file are several captions of it.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from perceptic.data.captions import MAX_BYTES, Captions, sidecar_captions, sidecar_fields, text_captions, three_captions
from perceptic.data.json_lines import objects
from perceptic.data.samples import SampleError
from perceptic.data.units import IMAGE_EXTENSIONS, VIDEO_EXTENSIONS, Place, RawPair
from perceptic.errors import DataError

TABLES: Final = ("captions.csv", "captions.tsv", "captions.jsonl", "captions.parquet")

_FILES_OF_A_UNIT = 1000
_MEDIA = {f".{name}" for name in (*IMAGE_EXTENSIONS, *VIDEO_EXTENSIONS)}


@dataclass(frozen=True)
class CaptionedFile:
    """A picture or video, and the captions that a table has for it; None: they are in the file beside it."""

    path: Path
    texts: tuple[str, ...] | None = None

    @property
    def is_video(self) -> bool:
        return self.path.suffix.lower().lstrip(".") in VIDEO_EXTENSIONS

    def captions(self) -> Captions:
        """Short, medium and long. Raises SampleError if there is none that can be read."""
        if self.texts is not None:
            return three_captions(self.texts, str(self.path))
        for suffix, read in ((".txt", text_captions), (".json", _sidecar)):
            try:
                file = self.path.with_suffix(suffix)
                if file.stat().st_size > MAX_BYTES:
                    raise SampleError(str(self.path), "caption too large", f"{file.name} has more than 16 MiB")
                return read(file.read_bytes(), str(self.path))
            except FileNotFoundError:
                continue
            except OSError as error:
                raise SampleError(str(self.path), "caption cannot be read", str(error.strerror)) from error
        raise SampleError(str(self.path), "no caption", f"there is no {self.path.stem}.txt or .json beside it")


def _sidecar(content: bytes, where: str) -> Captions:
    return sidecar_captions(sidecar_fields(content, where), where)


def find_captioned(folder: Path) -> tuple[CaptionedFile, ...]:
    """Every file that the folder's table names, in its order; without a table every picture and video below it, sorted.

    Files are not looked at: a missing one is found when it is read.

    Raises:
        DataError: no such folder, nothing in it, several tables, or a table without the two columns.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: is no folder of pictures or videos")
    tables = [folder / name for name in TABLES if (folder / name).is_file()]
    if len(tables) > 1:
        raise DataError(f"{folder}: has {' and '.join(table.name for table in tables)}; keep one")
    files = _from_table(tables[0]) if tables else _from_names(folder)
    if not files:
        raise DataError(f"{tables[0] if tables else folder}: has no picture or video with a caption")
    return files


@dataclass(frozen=True)
class FolderUnits:
    """The files of a folder; a unit is a run of a thousand, a place its number in the run."""

    folder: Path
    files: tuple[CaptionedFile, ...]

    @classmethod
    def find(cls, folder: Path) -> FolderUnits:
        """See `find_captioned`."""
        return cls(folder, find_captioned(folder))

    def __len__(self) -> int:
        return -(-len(self.files) // _FILES_OF_A_UNIT)

    @property
    def identity(self) -> str:
        """Names the files below the folder, and the captions that a table gives them."""
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(f"{os.path.relpath(file.path, self.folder)}\0{file.texts}\n".encode())
        return f"{len(self.files)} files {digest.hexdigest()[:16]}"

    def scan(self, unit: int, offset: int = 0) -> Iterator[Place | SampleError]:
        """See `Units.scan`."""
        size = min(_FILES_OF_A_UNIT, len(self.files) - unit * _FILES_OF_A_UNIT)
        return (Place(number, number + 1) for number in range(offset, size))

    def read(self, unit: int, offset: int) -> RawPair:
        """See `Units.read`; the picture itself is read where it is decoded."""
        file = self.files[unit * _FILES_OF_A_UNIT + offset]
        if file.path.suffix.lower() not in _MEDIA:
            raise SampleError(str(file.path), "no picture or video", f"known: {', '.join(sorted(_MEDIA))}")
        name = os.path.relpath(file.path, self.folder)
        return RawPair(str(file.path), name, file.path, file.is_video, file.captions())


def _from_names(folder: Path) -> tuple[CaptionedFile, ...]:
    paths = (Path(root) / name for root, _, names in os.walk(folder) for name in names)
    seen = (path for path in sorted(paths) if not path.name.startswith("."))
    return tuple(CaptionedFile(path) for path in seen if path.suffix.lower() in _MEDIA)


def _from_table(table: Path) -> tuple[CaptionedFile, ...]:
    texts: dict[str, list[str]] = {}
    for number, record in enumerate(_records(table), start=1):
        file, caption = record.get("file"), record.get("caption")
        if not isinstance(file, str) or not file:
            columns = ", ".join(map(str, record)) or "none"
            raise DataError(f"{table}, record {number}: needs the columns file and caption; it has {columns}")
        # A file without a caption stays in the list: it is counted as one when its turn comes.
        texts.setdefault(file, []).append(caption if isinstance(caption, str) else "")
    return tuple(CaptionedFile(table.parent / file, tuple(said)) for file, said in texts.items())


def _records(table: Path) -> Iterable[Mapping[str, Any]]:
    try:
        match table.suffix:
            case ".parquet":
                return list(pq.read_table(table).to_pylist())
            case ".jsonl":
                return objects(table)
            case suffix:
                with table.open(encoding="utf-8-sig", newline="") as stream:
                    return list(csv.DictReader(stream, delimiter="\t" if suffix == ".tsv" else ","))
    except (OSError, UnicodeDecodeError, csv.Error, pa.ArrowException) as error:
        raise DataError(f"{table}: cannot be read: {error}") from error
