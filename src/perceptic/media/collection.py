"""Find images and videos: files, folders and patterns to one ordered list without duplicates."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from perceptic.errors import MediaError

MediaKind = Literal["image", "video"]

_IMAGE_NAMES = "jpg jpeg jpe jfif png webp gif tif tiff bmp dib ppm pgm pbm pnm"
_VIDEO_NAMES = (
    "mp4 m4v mov mkv webm avi mpg mpeg ts m2ts mts flv ogv wmv asf 3gp 3g2 mxf vob h264 264 hevc 265 ivf y4m mjpeg mjpg"
)
IMAGE_SUFFIXES = frozenset(f".{name}" for name in _IMAGE_NAMES.split(" "))
VIDEO_SUFFIXES = frozenset(f".{name}" for name in _VIDEO_NAMES.split(" "))

_HEADER_BYTES = 16
# Longest first signature of each format; the position is where it stands in the file.
_SIGNATURES: tuple[tuple[int, bytes, MediaKind], ...] = (
    (0, b"\xff\xd8\xff", "image"),
    (0, b"\x89PNG\r\n\x1a\n", "image"),
    (8, b"WEBP", "image"),
    (0, b"GIF87a", "image"),
    (0, b"GIF89a", "image"),
    (0, b"II*\0", "image"),
    (0, b"MM\0*", "image"),
    (0, b"BM", "image"),
    (4, b"ftyp", "video"),
    (4, b"moov", "video"),
    (0, b"\x1aE\xdf\xa3", "video"),
    (8, b"AVI ", "video"),
    (0, b"\0\0\x01\xba", "video"),
    (0, b"FLV\x01", "video"),
    (0, b"OggS", "video"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "video"),
)
# Still images in the same container as MP4 video.
_STILL_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")


@dataclass(frozen=True)
class MediaFile:
    """One file and what to read it as. An animated GIF is an image: its first frame."""

    path: Path
    kind: MediaKind


def find_media(paths: str | Path | Iterable[str | Path], *, recursive: bool = True) -> list[MediaFile]:
    """Images and videos among `paths`, in natural order (`frame9` before `frame10`), each file once.

    A folder gives the media files in it, by extension; unknown extensions are looked into. Hidden files and folders
    are left out, links are followed and a link that leads back up ends there. A pattern (`*`, `?`, `[...]`, `**`) is
    expanded here too, for shells that do not. A file that is named is taken whatever its extension.

    Args:
        recursive: look into the folders of a folder.

    Raises:
        MediaError: a path that does not exist or cannot be listed, a pattern that matches nothing, a named file that is
            neither an image nor a video.
    """
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    found: dict[Path, MediaFile] = {}
    for path in given:
        for file in _expanded(path, recursive):
            found.setdefault(_identity(file.path), file)
    return sorted(found.values(), key=lambda file: natural_key(str(file.path)))


def media_kind(path: str | Path) -> MediaKind | None:
    """Image, video or neither (None): by extension, and by the first bytes where the extension says nothing.

    Raises:
        MediaError: the file has to be looked into and cannot be opened.
    """
    suffix = Path(path).suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return "image"
    if suffix in VIDEO_SUFFIXES:
        return "video"
    return _kind_by_content(Path(path))


def natural_key(text: str) -> tuple[tuple[tuple[int, str], ...], str]:
    """Sorting key: runs of digits compare as numbers, letters without regard to case."""
    parts = re.split(r"([0-9]+)", text.casefold())
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in parts), text


def _expanded(path: str | Path, recursive: bool) -> Iterator[MediaFile]:
    # Existence first: a file may well be called `[1].jpg`.
    if _exists(path):
        yield from _folder(Path(path), recursive) if Path(path).is_dir() else [_named_file(Path(path))]
        return
    if not glob.has_magic(str(path)):
        raise MediaError(path, "no such file or folder")
    matches = glob.glob(str(path), recursive=True)  # noqa: PTH207 - Path.glob takes no absolute patterns
    if not matches:
        raise MediaError(path, "the pattern matches no file")
    for match in matches:
        if Path(match).is_dir():
            yield from _folder(Path(match), recursive)
        elif (kind := media_kind(match)) is not None:
            yield MediaFile(Path(match), kind)


def _exists(path: str | Path) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # too long, or with a null character
        return False


def _named_file(path: Path) -> MediaFile:
    kind = media_kind(path)
    if kind is None:
        raise MediaError(path, "neither an image nor a video that perceptic reads")
    return MediaFile(path, kind)


def _folder(folder: Path, recursive: bool, above: frozenset[Path] = frozenset()) -> Iterator[MediaFile]:
    inside = above | {_identity(folder)}
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: natural_key(entry.name))
    except OSError as error:
        raise MediaError(folder, f"cannot be listed: {error.strerror or error}") from error
    for entry in entries:
        path = Path(entry.path)
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if recursive and _identity(path) not in inside:
                yield from _folder(path, recursive, inside)
        elif entry.is_file() and (kind := _kind_or_none(path)) is not None:
            yield MediaFile(path, kind)


def _kind_or_none(path: Path) -> MediaKind | None:
    """Of a file met in a folder: one that cannot even be opened to look is not taken for media."""
    try:
        return media_kind(path)
    except MediaError:
        return None


def _kind_by_content(path: Path) -> MediaKind | None:
    try:
        with path.open("rb") as stream:
            return kind_of_content(stream.read(_HEADER_BYTES))
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise MediaError(path, f"cannot be opened: {getattr(error, 'strerror', None) or error}") from error


def kind_of_content(header: bytes) -> MediaKind | None:
    """Image, video or neither (None), by the first 16 bytes of a file."""
    if header[4:8] == b"ftyp" and header[8:12] in _STILL_BRANDS:
        return None
    for position, signature, kind in _SIGNATURES:
        if header[position : position + len(signature)] == signature:
            return kind
    return None


def _identity(path: Path) -> Path:
    return Path(os.path.realpath(path))
