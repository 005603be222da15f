"""What a list of paths names, where one wrong path among many must not stop the others."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from perceptic.errors import DataError, MediaError
from perceptic.media.collection import IMAGE_SUFFIXES, VIDEO_SUFFIXES, MediaFile, find_media, natural_key

Paths = str | Path | Sequence[str | Path]
FileState = tuple[int, int]  # size in bytes, modification time in nanoseconds


@dataclass(frozen=True)
class MediaList:
    """Images and videos in natural order, each once, and the paths that name none (path -> reason)."""

    files: list[MediaFile]
    missing: dict[str, str]


def list_media(paths: Paths) -> MediaList:
    """The images and videos that files, folders and globs name.

    Raises:
        MediaError: the only path names nothing that can be read.
        DataError: there is not one image or video in all of them.
    """
    wanted = [paths] if isinstance(paths, str | Path) else list(paths)
    found: dict[str, MediaFile] = {}
    errors: list[MediaError] = []
    for path in wanted:
        try:
            for file in find_media(path):
                found.setdefault(os.path.realpath(file.path), file)
        except MediaError as error:
            errors.append(error)
    if not found:
        if len(errors) == len(wanted) == 1:
            raise errors[0]
        named = ", ".join(str(path) for path in wanted[:3]) + (", ..." if len(wanted) > 3 else "")
        raise DataError(f"no image or video in {named or 'an empty list of paths'}")
    files = sorted(found.values(), key=lambda file: natural_key(str(file.path)))
    return MediaList(files, {error.path: error.reason for error in errors})


def is_media_name(path: str | Path) -> bool:
    """Whether a name ends like an image or a video, whatever the file holds and whether it exists."""
    return Path(path).suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES


def absolute_list(media: MediaList) -> MediaList:
    """The same files by paths that mean the same from every folder."""
    files = [replace(file, path=Path(_absolute(file.path))) for file in media.files]
    return MediaList(files, {_absolute(path): reason for path, reason in media.missing.items()})


def file_state(path: Path) -> FileState:
    """What changes when a file does; (-1, -1) where it cannot be asked."""
    try:
        status = path.stat()
    except OSError:
        return (-1, -1)  # decoding gives the reason
    return (status.st_size, status.st_mtime_ns)


def _absolute(path: str | Path) -> str:
    # Not resolve(): links into content stores would give names that mean nothing to their owner.
    return os.path.abspath(path)  # noqa: PTH100
