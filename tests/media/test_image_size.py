"""The size of a picture is known from its header, and is that of the decoded one."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image, ImageFile

from perceptic.errors import MediaError
from perceptic.media.collection import kind_of_content
from perceptic.media.images import ImageSize, image_size, load_image

ORIENTATION = 0x0112


def turned(form: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    buffer = io.BytesIO()
    Image.new("RGB", (40, 20)).save(buffer, form, exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_upright_size(form: str, orientation: int) -> None:
    content = turned(form, orientation)
    image = load_image(content)
    assert image_size(content) == ImageSize(image.width, image.height)


def test_no_pixel_is_decoded(goldens: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = sorted(path for path in (goldens / "media").iterdir() if path.suffix != ".mp4")
    wanted = [load_image(path).size for path in files]

    def refuse(self: ImageFile.ImageFile) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", refuse)
    assert [(size.width, size.height) for size in map(image_size, files)] == wanted
    assert image_size(Image.new("RGB", (3, 5))) == ImageSize(3, 5)


def test_what_a_header_shows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no such file"):
        image_size(tmp_path / "gone.png")
    with pytest.raises(MediaError, match="not an image"):
        image_size(b"not an image")
    with pytest.raises(MediaError, match="above the limit of 100 pixels"):
        image_size(turned("PNG", 1), max_pixels=100)


def test_kinds_by_content(goldens: Path) -> None:
    kinds = {path.suffix: kind_of_content(path.read_bytes()[:16]) for path in (goldens / "media").iterdir()}
    assert kinds == {".png": "image", ".jpg": "image", ".mp4": "video"}
    assert kind_of_content(b"") is None
    assert kind_of_content(b"plain text, long enough") is None
