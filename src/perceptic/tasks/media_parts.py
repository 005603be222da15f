"""Pictures and videos as parts of a message: where they come from and how they are to be looked at.

Nothing is opened here but to see whether a file is a picture or a video.
"""

from __future__ import annotations

import hashlib
import reprlib
import urllib.parse
import urllib.request
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from PIL import Image

from perceptic.errors import ConfigError, MediaError
from perceptic.media.boxes import Box
from perceptic.media.collection import IMAGE_SUFFIXES, VIDEO_SUFFIXES, MediaKind, kind_of_content, media_kind
from perceptic.tasks.data_urls import is_data_url, parse_data_url, short_address

_LARGEST_COORDINATE = 1e6
_MOST = 100_000  # tiles or frames: beyond any model, and keeps nonsense numbers out of loops
_LATEST = 1e9  # seconds


@dataclass(frozen=True)
class WebAddress:
    """A file to be fetched over http or https when it is looked at."""

    url: str


MediaSource = Path | bytes | Image.Image | WebAddress
BoxLike = Box | Sequence[float]  # four numbers are left, top, right, bottom
Boxes = Box | Mapping[int, Box | None]


@dataclass(frozen=True, eq=False)
class MediaPart:
    """One picture or video. What is None here is decided by `Seeing`.

    Attributes:
        source: a file, its bytes, a decoded picture or an address.
        name: what people call it.
        max_num_tiles: of a picture; 0 squashes it into one chunk.
        num_frames, start_seconds, end_seconds: of a video.
        boxes: drawn in red before the model looks: one for a picture or for all frames of a video, or one for each
            frame by its number in the video (frames without an entry, or with None, stay as they are).

    Raises:
        ConfigError: a number that cannot be.
    """

    kind: MediaKind
    source: MediaSource
    name: str
    max_num_tiles: int | None = None
    num_frames: int | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None
    boxes: Boxes | None = None

    def __post_init__(self) -> None:
        check_looking(self.max_num_tiles, self.num_frames, self.start_seconds, self.end_seconds)

    @property
    def identity(self) -> Hashable | None:
        """Equal for equal content, as far as can be told without reading it; None: not known again."""
        if isinstance(self.source, Path):
            try:
                status = self.source.stat()
            except (OSError, ValueError):
                return None
            return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        if isinstance(self.source, bytes):
            return hashlib.blake2b(self.source, digest_size=16).digest()
        return self.source.url if isinstance(self.source, WebAddress) else None


@dataclass(frozen=True)
class Access:
    """What an address in a message may lead to. A server for strangers allows neither."""

    network: bool = False
    files: bool = True


def media_part(
    source: str | Path | bytes | Image.Image,
    *,
    boxes: BoxLike | Mapping[int, BoxLike | None] | None = None,
    allow_network: bool = False,
    **settings: Any,
) -> MediaPart:
    """A part out of what a person has: a path, an address, the bytes of a file or a Pillow picture.

    Args:
        settings: further fields of `MediaPart`.

    Raises:
        MediaError: no such file, or neither a picture nor a video.
        ConfigError: an address that is not allowed, or boxes that are none.
    """
    drawn = None if boxes is None else as_boxes(boxes)
    if isinstance(source, Image.Image):
        name = str(getattr(source, "filename", "") or "picture")
        return MediaPart("image", source, name, boxes=drawn, **settings)
    if isinstance(source, bytes):
        return MediaPart(_known(kind_of_content(source[:16]), "<bytes>"), source, "<bytes>", boxes=drawn, **settings)
    if not isinstance(source, str | Path):
        raise ConfigError(f"a picture or video is a path, bytes or a Pillow image, not {type(source).__name__}")
    found = Path(source) if isinstance(source, Path) else resolve_address(source, Access(allow_network))
    name = short_address(str(source))
    return MediaPart(_kind_of(found, name), found, name, boxes=drawn, **settings)


def resolve_address(address: str, access: Access) -> Path | bytes | WebAddress:
    """Where an address leads: a path, `file://`, `data:`, or http(s) where allowed.

    Raises:
        MediaError: a damaged data address.
        ConfigError: not allowed, or of an unknown scheme.
    """
    if is_data_url(address):
        return parse_data_url(address).content
    try:
        parts = urllib.parse.urlsplit(address)
    except ValueError:  # "//[" is no address, but may be a file
        parts = urllib.parse.SplitResult("", "", address, "", "")
    scheme = parts.scheme.lower() if "://" in address else ""
    if scheme in ("http", "https"):
        if not access.network:
            raise ConfigError(
                f"{short_address(address)} is on the network; allow_network=True (--allow-network) fetches it"
            )
        return WebAddress(address)
    if scheme not in ("", "file"):
        raise ConfigError(
            f"{short_address(address)}: addresses of scheme '{scheme}' are not read; give a file or https"
        )
    if not access.files:
        raise ConfigError(f"{short_address(address)}: files of this machine are not read here; send a data address")
    if scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise ConfigError(f"{short_address(address)}: names another machine; write file:///path")
        return Path(urllib.request.url2pathname(parts.path))
    return Path(address)


def check_looking(max_num_tiles: object, num_frames: object, start_seconds: object, end_seconds: object) -> None:
    """Raises ConfigError unless these can be settings of how a medium is looked at; None always can."""
    for name, value, smallest in (("max_num_tiles", max_num_tiles, 0), ("num_frames", num_frames, 1)):
        is_whole = isinstance(value, int) and not isinstance(value, bool) and smallest <= value <= _MOST
        if value is not None and not is_whole:
            raise ConfigError(f"{name} must be a whole number from {smallest} to {_MOST}, not {reprlib.repr(value)}")
    for name, time in (("start_seconds", start_seconds), ("end_seconds", end_seconds)):
        if time is not None and not (_is_number(time) and 0 <= time <= _LATEST):
            raise ConfigError(f"{name} must be a time in seconds, not {reprlib.repr(time)}")
    if _is_number(start_seconds) and _is_number(end_seconds) and end_seconds < start_seconds:
        raise ConfigError(f"end_seconds={end_seconds:g} is before start_seconds={start_seconds:g}")


def as_box(value: object) -> Box:
    """A box out of one or of `[left, top, right, bottom]` in pixels.

    Raises:
        ConfigError: anything else, numbers that are not finite, or corners that are swapped.
    """
    if isinstance(value, Box):
        numbers: list[Any] = [value.left, value.top, value.right, value.bottom]
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        numbers = list(value)
    else:
        numbers = []
    if len(numbers) != 4 or not all(_is_number(n) and abs(n) <= _LARGEST_COORDINATE for n in numbers):
        raise ConfigError(f"a box is [left, top, right, bottom] in pixels, not {reprlib.repr(value)}")
    box = Box(*map(float, numbers))
    if box.right < box.left or box.bottom < box.top:
        raise ConfigError(f"a box needs left <= right and top <= bottom, not {numbers}")
    return box


def as_boxes(value: object) -> Boxes:
    """One box, or a mapping from frame numbers (also as text, as in JSON) to boxes or None. Raises ConfigError."""
    if not isinstance(value, Mapping):
        return as_box(value)
    boxes: dict[int, Box | None] = {}
    for key, entry in value.items():
        is_number = isinstance(key, int) and not isinstance(key, bool) and key >= 0
        if not is_number and not (isinstance(key, str) and key.isascii() and key.isdecimal() and len(key) < 10):
            raise ConfigError(f"boxes are given by the number of the frame, not by {reprlib.repr(key)}")
        boxes[int(key)] = None if entry is None else as_box(entry)
    return boxes


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _kind_of(source: Path | bytes | WebAddress, name: str) -> MediaKind:
    if isinstance(source, bytes):
        return _known(kind_of_content(source[:16]), name)
    if isinstance(source, Path):
        return _known(media_kind(source), name)
    suffix = Path(urllib.parse.urlsplit(source.url).path).suffix.lower()
    kinds: list[tuple[frozenset[str], MediaKind]] = [(IMAGE_SUFFIXES, "image"), (VIDEO_SUFFIXES, "video")]
    for suffixes, kind in kinds:
        if suffix in suffixes:
            return kind
    raise MediaError(name, "does not say whether it is a picture or a video", "write it as a message part")


def _known(kind: MediaKind | None, name: str) -> MediaKind:
    if kind is None:
        raise MediaError(name, "neither an image nor a video that perceptic reads")
    return kind
