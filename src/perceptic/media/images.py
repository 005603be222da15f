"""Image files, bytes and Pillow images to upright 8-bit RGB.

Every way a picture can be bad (missing, not an image, cut off, too large) is a `MediaError`; nothing else escapes and
no Pillow warning reaches the user.
"""

from __future__ import annotations

import contextlib
import io
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

# Imported for their registration with Pillow: what is not imported here is not tried, and so a file that only claims
# to be an image never starts Ghostscript or an exotic parser.
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from perceptic.errors import MediaError
from perceptic.media.color_modes import to_rgb

ImageSource = str | Path | bytes | BinaryIO | Image.Image

# Twice Pillow's warning size, where Pillow itself refuses: half a gigabyte of RGB pixels.
DEFAULT_MAX_PIXELS = 178_956_970

_PLUGINS = (
    JpegImagePlugin.JpegImageFile,
    MpoImagePlugin.MpoImageFile,
    PngImagePlugin.PngImageFile,
    WebPImagePlugin.WebPImageFile,
    GifImagePlugin.GifImageFile,
    TiffImagePlugin.TiffImageFile,
    BmpImagePlugin.BmpImageFile,
    PpmImagePlugin.PpmImageFile,
)
# A Pillow built without libwebp imports the plugin and registers nothing.
_FORMATS = tuple(plugin.format for plugin in _PLUGINS if plugin.format in Image.OPEN)

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_QUARTER_TURNED = frozenset({5, 6, 7, 8})
# Pillow turns these itself when it decodes them, and states the size that they will have.
_SIZED_UPRIGHT = (TiffImagePlugin.TiffImageFile,)

# What Pillow's parsers raise on damaged input. Listed rather than `Exception`, so that our own mistakes stay visible.
_PARSER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    EOFError,
    RuntimeError,
    AssertionError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

# warnings.catch_warnings changes the process's filters and must not overlap itself in the decoding threads. Only
# header and EXIF parsing happen under the lock, never the decoding of pixels.
_header_lock = threading.Lock()


def load_image(
    source: ImageSource,
    *,
    max_pixels: int | None = DEFAULT_MAX_PIXELS,
    decode_size: int | None = None,
) -> Image.Image:
    """Decode one picture (of an animation or a multi-page file: the first) to upright RGB.

    Args:
        source: a path, the bytes of a file, an open binary file (read from its start) or a Pillow image in any mode.
        max_pixels: larger pictures are refused before they are decoded; None lifts the limit.
        decode_size: let the JPEG decoder itself shrink the picture by 2, 4 or 8 as long as both sides stay at least
            this long. Much faster on large photographs, and **different pixels**: off unless asked for.

    Returns:
        A loaded `PIL.Image.Image` of mode RGB with the EXIF orientation applied; `color_modes.to_rgb` says how other
        modes are converted.

    Raises:
        MediaError: no such file, not a JPEG, PNG, WebP, GIF, TIFF, BMP or PPM image, cut off, damaged, or too large.
    """
    if isinstance(source, Image.Image):
        return _finish(source, _name_of(source), max_pixels)
    name = _name_of(source)
    with _opened(source, name) as stream:
        image = _read_header(stream, name, max_pixels)
        if decode_size is not None:
            image.draft("RGB", (decode_size, decode_size))
        return _finish(image, name, max_pixels)


@dataclass(frozen=True)
class ImageSize:
    """Of the upright picture, in pixels."""

    width: int
    height: int


def image_size(source: ImageSource, *, max_pixels: int | None = DEFAULT_MAX_PIXELS) -> ImageSize:
    """The size that `load_image` will give, from the header alone.

    One rare exception: a PNG whose EXIF block comes after its pixels and turns it has its sides swapped here.

    Raises:
        MediaError: as `load_image`, for what the header shows: no such file, not an image, too large.
    """
    name = _name_of(source)
    if isinstance(source, Image.Image):
        _check_size(source, name, max_pixels)
        return _upright_size(source)
    with _opened(source, name) as stream:
        return _upright_size(_read_header(stream, name, max_pixels))


def _upright_size(image: Image.Image) -> ImageSize:
    turned = not isinstance(image, _SIZED_UPRIGHT) and _orientation_by_header(image) in _QUARTER_TURNED
    return ImageSize(image.height, image.width) if turned else ImageSize(image.width, image.height)


def _orientation_by_header(image: Image.Image) -> int:
    # Asked for EXIF that it has not met yet, Pillow decodes the whole PNG to look behind its pixels.
    unread = isinstance(image, PngImagePlugin.PngImageFile) and "exif" not in image.info
    return 1 if unread else _orientation(image)


def _name_of(source: ImageSource) -> str:
    if isinstance(source, str | Path):
        return str(source)
    if isinstance(source, bytes):
        return "<bytes>"
    if isinstance(source, Image.Image):
        return str(getattr(source, "filename", "") or "<PIL image>")
    return str(getattr(source, "name", "<file object>"))


@contextlib.contextmanager
def _opened(source: str | Path | bytes | BinaryIO, name: str) -> Iterator[BinaryIO]:
    if isinstance(source, bytes):
        yield io.BytesIO(source)
    elif isinstance(source, str | Path):
        with contextlib.ExitStack() as stack:
            try:
                stream = stack.enter_context(Path(source).open("rb"))
            except (OSError, ValueError) as error:
                raise MediaError(name, _open_failure(error)) from error
            yield stream
    else:
        yield source


def _open_failure(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, IsADirectoryError):
        return "is a folder, not an image"
    return f"cannot be opened: {getattr(error, 'strerror', None) or error}"


def _read_header(stream: BinaryIO, name: str, max_pixels: int | None) -> ImageFile.ImageFile:
    try:
        with _quiet_pillow(), _lifted_pillow_limit(max_pixels):
            image = Image.open(stream, formats=_FORMATS)
    except UnidentifiedImageError as error:
        raise MediaError(name, "not an image", f"readable: {', '.join(_FORMATS)}") from error
    except Image.DecompressionBombError as error:
        raise _too_large(name, None, max_pixels) from error
    except _PARSER_ERRORS as error:
        raise MediaError(name, f"damaged image: {_short(error)}") from error
    _check_size(image, name, max_pixels)
    return image


def _finish(image: Image.Image, name: str, max_pixels: int | None) -> Image.Image:
    _check_size(image, name, max_pixels)
    try:
        image.load()
        orientation = _orientation(image)
        upright = image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image
        return to_rgb(upright)
    except _PARSER_ERRORS as error:
        raise MediaError(name, f"damaged image: {_short(error)}") from error


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 where there is none or the EXIF block is broken (the pixels are still good)."""
    try:
        with _quiet_pillow():
            value = image.getexif().get(_ORIENTATION_TAG, 1)
    except _PARSER_ERRORS:
        return 1
    return value if isinstance(value, int) else 1


def _check_size(image: Image.Image, name: str, max_pixels: int | None) -> None:
    if max_pixels is not None and image.width * image.height > max_pixels:
        raise _too_large(name, image, max_pixels)
    if image.width * image.height == 0:
        raise MediaError(name, f"empty image of {image.width} x {image.height} pixels")


def _too_large(name: str, image: Image.Image | None, max_pixels: int | None) -> MediaError:
    size = f" of {image.width} x {image.height} pixels" if image is not None else ""
    return MediaError(name, f"image{size} is above the limit of {max_pixels:,} pixels", "raise max_pixels to read it")


@contextlib.contextmanager
def _quiet_pillow() -> Iterator[None]:
    with _header_lock, warnings.catch_warnings():
        # Only Pillow's own: should a filter outlive this block because another thread changed filters meanwhile,
        # nobody else's warnings are lost.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


@contextlib.contextmanager
def _lifted_pillow_limit(max_pixels: int | None) -> Iterator[None]:
    """Pillow refuses above a process-wide limit of its own; lift it while a larger picture is asked for.

    Called under the header lock. The size is checked by us before any pixel is decoded.
    """
    limit = Image.MAX_IMAGE_PIXELS
    if limit is None or (max_pixels is not None and max_pixels <= 2 * limit):
        yield
        return
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _short(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:120]
