"""Every image format and mode to upright RGB; every bad file to a MediaError."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from perceptic.errors import MediaError
from perceptic.media.images import DEFAULT_MAX_PIXELS, load_image

GOLDENS = Path(__file__).parents[1] / "goldens"


def _encoded(image: Image.Image, image_format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=image_format, **options)
    return stream.getvalue()


def _gradient(width: int = 24, height: int = 16) -> Image.Image:
    rows, columns = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([rows * 15, columns * 10, rows * 5 + columns * 5], axis=-1).astype(np.uint8))


@pytest.mark.parametrize(
    ("image_format", "tolerance"),
    [("PNG", 0), ("BMP", 0), ("TIFF", 0), ("PPM", 0), ("GIF", 40), ("JPEG", 12), ("WEBP", 12)],
)
def test_formats(image_format: str, tolerance: int) -> None:
    loaded = load_image(_encoded(_gradient(), image_format))
    assert loaded.mode == "RGB"
    assert np.abs(np.asarray(loaded).astype(int) - np.asarray(_gradient())).mean() <= tolerance


@pytest.mark.parametrize("as_source", [str, Path, lambda path: path.read_bytes(), lambda path: Image.open(path)])
def test_sources(as_source: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    _gradient().save(path)
    assert load_image(as_source(path)).tobytes() == _gradient().tobytes()  # type: ignore[arg-type]
    with path.open("rb") as stream:
        assert load_image(stream).tobytes() == _gradient().tobytes()
        assert not stream.closed


def test_first_frame_of_an_animation() -> None:
    red, blue = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    for image_format in ("GIF", "PNG", "WEBP", "TIFF"):
        options = {"lossless": True} if image_format == "WEBP" else {}
        data = _encoded(red, image_format, save_all=True, append_images=[blue], **options)
        assert load_image(data).getpixel((4, 4)) == (255, 0, 0), image_format


@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
def test_sixteen_bit_greyscale_is_scaled_not_clipped(image_format: str) -> None:
    levels = np.array([[0, 128, 129, 257, 32768, 65535]], dtype=np.uint16)
    loaded = load_image(_encoded(Image.fromarray(levels), image_format))
    assert np.asarray(loaded)[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]


def test_deep_integer_and_float_images() -> None:
    def first_row(values: object, dtype: type) -> list[int]:
        image = load_image(_encoded(Image.fromarray(np.array([values], dtype=dtype)), "TIFF"))
        return np.asarray(image)[0, :, 1].tolist()  # type: ignore[no-any-return]

    assert first_row([0, 65535], np.int32) == [0, 255]
    assert first_row([0, 1_000_000, 500_000], np.int32) == [0, 255, 128]
    assert first_row([0.0, 0.5, 1.0], np.float32) == [0, 128, 255]
    assert first_row([-10.0, 0.0, 10.0], np.float32) == [0, 128, 255]
    assert first_row([float("nan"), 0.0, 1.0], np.float32) == [0, 0, 255]


def test_palette_with_transparency_keeps_its_colours_and_does_not_warn() -> None:
    image = Image.new("P", (4, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2, 0])
    loaded = load_image(_encoded(image, "PNG", transparency=bytes([0, 128, 255])))
    assert [loaded.getpixel((x, 0)) for x in range(3)] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


def test_alpha_is_dropped_and_not_blended() -> None:
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[..., 0] = 200
    assert load_image(_encoded(Image.fromarray(pixels), "PNG")).getpixel((0, 0)) == (200, 0, 0)
    grey = np.full((2, 2, 2), (90, 0), np.uint8)
    assert load_image(_encoded(Image.fromarray(grey, "LA"), "PNG")).getpixel((0, 0)) == (90, 90, 90)


def test_cmyk_is_converted() -> None:
    for image_format in ("JPEG", "TIFF"):
        data = _encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), image_format)
        red, green, blue = load_image(data).getpixel((8, 8))  # type: ignore[misc]
        assert red > 250
        assert green < 5
        assert blue < 5


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(orientation: int, image_format: str) -> None:
    stored = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40).resize((48, 32), Image.Resampling.NEAREST)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if image_format == "WEBP" else {"quality": 100} if image_format == "JPEG" else {}
    loaded = load_image(_encoded(stored.convert("RGB"), image_format, exif=exif, **options))
    grid = np.arange(6).reshape(2, 3)
    upright = {
        1: grid,
        2: grid[:, ::-1],
        3: grid[::-1, ::-1],
        4: grid[::-1],
        5: grid.T,
        6: np.rot90(grid, -1),
        7: grid[::-1, ::-1].T,
        8: np.rot90(grid),
    }[orientation]
    centres = np.asarray(loaded)[8::16, 8::16, 0]
    assert np.rint(centres / 40).astype(int).tolist() == upright.tolist()


def test_broken_exif_does_not_lose_the_picture() -> None:
    data = _encoded(_gradient(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x05nonsense")
    assert load_image(data).size == (24, 16)


def test_a_bomb_is_refused_with_the_limit_named_before_it_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    Image.new("1", (20_000, 20_000)).save(path)
    with pytest.raises(MediaError, match=r"limit of 178,956,970 pixels") as caught:
        load_image(path)
    assert caught.value.path == str(path)
    with pytest.raises(MediaError, match=r"24 x 16 pixels is above the limit of 100 pixels"):
        load_image(_encoded(_gradient(), "PNG"), max_pixels=100)
    with pytest.raises(MediaError, match="limit of 100 pixels"):
        load_image(_gradient(), max_pixels=100)


def test_the_limit_can_be_raised_and_pillows_own_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    data = _encoded(_gradient(), "PNG")
    assert load_image(data).size == (24, 16)
    assert load_image(data, max_pixels=None).size == (24, 16)
    assert Image.MAX_IMAGE_PIXELS == 50
    assert DEFAULT_MAX_PIXELS > 50


def test_pillow_warnings_do_not_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)  # 384 pixels: Pillow would warn
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_image(_encoded(_gradient(), "PNG"), max_pixels=400)
    assert caught == []


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"])
def test_truncated_files(image_format: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = _encoded(Image.fromarray(noise), image_format)
    for length in (len(data) // 2, len(data) // 4, 40, 12):
        with pytest.raises(MediaError, match=r"damaged image|not an image"):
            load_image(data[:length])


def test_unreadable_sources_say_why(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty.png").write_bytes(b"")
    for source, message in [
        (tmp_path / "missing.jpg", "no such file"),
        (tmp_path, "is a folder"),
        (tmp_path / "notes.txt", "not an image"),
        (tmp_path / "empty.png", "not an image"),
        (b"", "<bytes>: not an image"),
        ("bad\0name.png", "cannot be opened"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    ]:
        with pytest.raises(MediaError, match=message):
            load_image(source)


def test_draft_decoding_only_on_request() -> None:
    data = _encoded(_gradient(640, 480), "JPEG")
    assert load_image(data).size == (640, 480)
    assert load_image(data, decode_size=100).size == (160, 120)
    assert load_image(data, decode_size=300).size == (640, 480)
    assert load_image(_encoded(_gradient(64, 48), "PNG"), decode_size=10).size == (64, 48)
