"""Finding media: folders, patterns, order, links, content."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from perceptic.errors import MediaError
from perceptic.media.collection import MediaFile, find_media, media_kind


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def _names(files: list[MediaFile], folder: Path) -> list[str]:
    return [file.path.relative_to(folder).as_posix() for file in files]


def test_a_folder_in_natural_order_with_kinds(tmp_path: Path) -> None:
    _touch(tmp_path, "b10.jpg", "b9.JPG", "B1.png", "sub/a.mp4", "sub/deeper/c.webm", "notes.txt", "data.json")
    files = find_media(tmp_path)
    assert _names(files, tmp_path) == ["B1.png", "b9.JPG", "b10.jpg", "sub/a.mp4", "sub/deeper/c.webm"]
    assert [file.kind for file in files] == ["image", "image", "image", "video", "video"]
    assert _names(find_media(tmp_path, recursive=False), tmp_path) == ["B1.png", "b9.JPG", "b10.jpg"]


def test_hidden_files_and_folders_are_left_out_unless_named(tmp_path: Path) -> None:
    _touch(tmp_path, ".hidden.jpg", ".cache/a.jpg", "seen.jpg")
    assert _names(find_media(tmp_path), tmp_path) == ["seen.jpg"]
    assert _names(find_media(tmp_path / ".hidden.jpg"), tmp_path) == [".hidden.jpg"]


def test_each_file_comes_once(tmp_path: Path) -> None:
    _touch(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "a.jpg")
    paths = [tmp_path, tmp_path / "a.jpg", str(tmp_path / "*.jpg"), tmp_path / "." / "b.jpg"]
    assert _names(find_media(paths), tmp_path) == ["a.jpg", "b.jpg"]


def test_links_that_lead_in_circles_end(tmp_path: Path) -> None:
    _touch(tmp_path, "one/a.jpg", "two/b.jpg")
    (tmp_path / "one" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "one" / "two").symlink_to(tmp_path / "two", target_is_directory=True)
    (tmp_path / "two" / "one").symlink_to(tmp_path / "one", target_is_directory=True)
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "nowhere.jpg")
    found = {file.path.resolve().relative_to(tmp_path.resolve()).as_posix() for file in find_media(tmp_path)}
    assert found == {"one/a.jpg", "two/b.jpg"}


def test_patterns(tmp_path: Path) -> None:
    _touch(tmp_path, "a1.jpg", "a2.png", "b.jpg", "sub/a3.mp4", "a.txt", "[1].jpg")
    assert _names(find_media(str(tmp_path / "a*")), tmp_path) == ["a1.jpg", "a2.png"]
    assert _names(find_media(str(tmp_path / "**" / "a?.*")), tmp_path) == ["a1.jpg", "a2.png", "sub/a3.mp4"]
    assert _names(find_media(str(tmp_path / "su*")), tmp_path) == ["sub/a3.mp4"]
    assert _names(find_media(tmp_path / "[1].jpg"), tmp_path) == ["[1].jpg"]


def test_unknown_extensions_are_looked_into(tmp_path: Path) -> None:
    for image_format in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{image_format}.data", format=image_format)
        assert media_kind(tmp_path / f"{image_format}.data") == "image"
    (tmp_path / "movie").write_bytes(b"\0\0\0\x20ftypisom")
    (tmp_path / "matroska.bin").write_bytes(b"\x1aE\xdf\xa3")
    (tmp_path / "photo.heic").write_bytes(b"\0\0\0\x20ftypheic")
    assert media_kind(tmp_path / "movie") == "video"
    assert media_kind(tmp_path / "matroska.bin") == "video"
    assert media_kind(tmp_path / "photo.heic") is None
    assert len(find_media(tmp_path)) == 8


def test_what_cannot_be_found_says_so(tmp_path: Path) -> None:
    _touch(tmp_path, "notes.txt")
    for path, message in [
        (tmp_path / "missing.jpg", "no such file or folder"),
        (tmp_path / "*.jpg", "the pattern matches no file"),
        (tmp_path / "notes.txt", "neither an image nor a video"),
        ("bad\0name", "no such file or folder"),
    ]:
        with pytest.raises(MediaError, match=message):
            find_media([path])


def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(MediaError, match="cannot be listed: Permission denied"):
        find_media(tmp_path)


def test_no_paths_give_no_files(tmp_path: Path) -> None:
    assert find_media([]) == []
    assert find_media(tmp_path) == []
