"""Class folders of pictures or videos, and flat folders with a caption file beside each medium (section 3.1)."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from perceptic.errors import DataError, MediaError
from perceptic.evaluate.data_types import EvalData, EvalItem
from perceptic.evaluate.features import Medium
from perceptic.media.collection import MediaFile, find_media


def read_folders(root: Path, folder: Path) -> EvalData:
    """One folder for each class, or media with `<name>.txt` captions beside them.

    A class is called as its folder, underscores and parentheses cleaned, unless `classnames.txt` in `root` names it:
    one name a line in the sorted order of the folders (or by number where folders are called 0, 1, ...), or lines of
    `folder,name`.

    Raises:
        DataError: no media at all, or names that do not fit the folders.
    """
    try:
        folders = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        classes = [(path, find_media(path)) for path in folders]
        flat = [] if any(files for _, files in classes) else find_media(folder, recursive=False)
    except (MediaError, OSError) as error:
        raise DataError(f"{folder}: cannot be listed: {error}") from error
    if flat:
        items = [EvalItem(medium_of(file, folder), captions=_captions(file.path)) for file in flat]
        return EvalData(folder, "folders", tuple(items))
    classes = [(path, files) for path, files in classes if files]
    if not classes:
        raise DataError(f"{folder}: holds no picture, no video, no tar, no parquet, no JSONL and no CSV")
    labels, names = _labels([path.name for path, _ in classes], root / "classnames.txt")
    items = [
        EvalItem(medium_of(file, folder), label)
        for (_, files), label in zip(classes, labels, strict=True)
        for file in files
    ]
    return EvalData(folder, "folders", tuple(items), names)


def medium_of(file: MediaFile, root: Path) -> Medium:
    """A file as a medium, named by its path below `root`."""
    name = file.path.relative_to(root) if file.path.is_relative_to(root) else file.path
    return Medium(name.as_posix(), file.kind, partial(read_bytes, file.path))


def read_bytes(path: Path) -> bytes:
    """A file's content. Raises MediaError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise MediaError(path, f"cannot be read: {error.strerror or error}") from error


def clean_class_name(folder_name: str) -> str:
    """`applauding_(hands)_` to `applauding hands`: parentheses go, edge underscores are stripped, others are spaces."""
    return re.sub(r"[()]", "", folder_name).strip("_").replace("_", " ").strip()


def _labels(folders: list[str], file: Path) -> tuple[list[int], tuple[str, ...]]:
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    lines = [line for line in lines if line.strip()]
    if all(name.isdigit() for name in folders) and len(lines) > max(map(int, folders)):
        return [int(name) for name in folders], tuple(lines)
    pairs = dict(line.split(",", 1) for line in lines if "," in line)
    if lines and len(pairs) == len(lines) and all(name in pairs for name in folders):
        return list(range(len(folders))), tuple(pairs[name].strip() for name in folders)
    if lines and len(lines) != len(folders):
        raise DataError(
            f"{file}: {len(lines)} names for {len(folders)} class folders; expected one a line, or folder,name"
        )
    return list(range(len(folders))), tuple(lines) or tuple(map(clean_class_name, folders))


def _captions(path: Path) -> tuple[str, ...]:
    sidecar = path.with_suffix(".txt")
    if not sidecar.exists():
        return ()
    return tuple(line for line in sidecar.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip())
