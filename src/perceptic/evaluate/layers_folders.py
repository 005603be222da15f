"""Folders of real data for a layer sweep, one subfolder per task; nothing is fetched.

    DIR/classification/{train,test}/<class>/<picture>
    DIR/retrieval/<picture>                                 (default: the pictures of classification/test)
    DIR/segmentation/{images,annotations}/{training,validation}/<name>.{jpg,png}    ADE20K's; 0 is void, k is class k-1
    DIR/depth/{images,depths}/{training,validation}/<name>.{jpg,png}                16-bit PNG, millimetres; 0 unknown
    DIR/tracking/{JPEGImages,Annotations}/480p/<sequence>/<frame>, ImageSets/2017/val.txt                     DAVIS's

Pictures are squashed to the model's square. Masks and depths are brought to the same square (nearest pixel) and scored
there; tracks are scored at the annotations' own size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from perceptic.configs import Preprocessing
from perceptic.errors import DataError
from perceptic.evaluate.dense import VOID
from perceptic.evaluate.layers_data import (
    Classification,
    Dense,
    Depth,
    Labelled,
    Retrieval,
    Segmentation,
    Tracking,
    VideoMasks,
)
from perceptic.evaluate.layers_features import Pictures
from perceptic.media.collection import find_media, natural_key
from perceptic.media.images import load_image
from perceptic.media.preprocess import ImageTransform

_MILLIMETRES = 1000.0
_CROP = 0.8
_DIM = 0.75
_LAYOUTS = {
    "classification": "{train,test}/<class>/<picture>",
    "segmentation": "{images,annotations}/{training,validation}/<name>",
    "depth": "{images,depths}/{training,validation}/<name>",
    "tracking": "{JPEGImages,Annotations}/480p/<sequence>/<frame>, ImageSets/2017/val.txt",
}
_MARKS = {"classification": "train", "segmentation": "annotations", "depth": "depths", "tracking": "JPEGImages"}
"""A folder that only the data of this task hold."""
ItemT = TypeVar("ItemT")


@dataclass(frozen=True)
class FolderData:
    """Sets of real data below `root`; at most `limit` items of each, spread evenly over it."""

    root: Path
    preprocessing: Preprocessing
    limit: int | None = None
    seed: int = 0

    @property
    def description(self) -> str:
        return f"{self.root.resolve()}, {self.preprocessing.image_size} px, limit {self.limit}"

    def classification(self) -> Classification:
        folder = _task_folder(self.root, "classification")
        names = sorted((one.name for one in (folder / "train").iterdir() if one.is_dir()), key=natural_key)
        if len(names) < 2:
            raise DataError(f"{folder / 'train'}: expected a folder for each of at least two classes")
        return Classification(
            self._labelled(folder / "train", names), self._labelled(folder / "test", names), (*names,)
        )

    def retrieval(self) -> Retrieval:
        own = self.root / "retrieval"
        folder = own if own.is_dir() else _task_folder(self.root, "classification") / "test"
        files = self._some(_pictures_in(folder))
        return Retrieval(
            Pictures(_identity("changed", files), len(files), lambda index: self._changed(files[index])),
            self._pictures(files),
            f"the middle {_CROP:.0%} of each side, mirrored and darkened to {_DIM:.0%}",
        )

    def segmentation(self) -> Segmentation:
        folder = _task_folder(self.root, "segmentation")
        sets = [self._dense(folder, "annotations", part, self._mask) for part in ("training", "validation")]
        largest = max(int(one.truth[one.truth != VOID].max(initial=0)) for one in sets)
        return Segmentation(sets[0], sets[1], tuple(f"class {number + 1}" for number in range(largest + 1)))

    def depth(self) -> Depth:
        folder = _task_folder(self.root, "depth")
        sets = [self._dense(folder, "depths", part, self._depths) for part in ("training", "validation")]
        return Depth(sets[0], sets[1], "metres")

    def tracking(self) -> Tracking:
        folder = _task_folder(self.root, "tracking")
        names = self._some(_sequences(folder))

        def clips(start: int) -> Iterator[VideoMasks]:
            return (self._sequence(folder, name) for name in names[start:])

        return Tracking(f"{folder.resolve()} {', '.join(names)}", len(names), clips)

    def _read(self, picture: Image.Image) -> Tensor:
        # A dense truth covers the whole picture, so nothing of it may be cropped away.
        return ImageTransform(self.preprocessing.replace(resize_mode="squash"))(picture)

    def _some(self, items: list[ItemT]) -> list[ItemT]:
        if self.limit is None or len(items) <= self.limit:
            return items
        return [items[int(place)] for place in np.linspace(0, len(items) - 1, self.limit)]

    def _labelled(self, folder: Path, names: list[str]) -> Labelled:
        pairs = [(file, number) for number, name in enumerate(names) for file in _pictures_in(folder / name)]
        chosen = self._some(pairs)
        return Labelled(self._pictures([file for file, _ in chosen]), np.array([number for _, number in chosen]))

    def _pictures(self, files: list[Path]) -> Pictures:
        return Pictures(_identity("plain", files), len(files), lambda index: self._read(load_image(files[index])))

    def _changed(self, file: Path) -> Tensor:
        picture = load_image(file)
        margins = [round(side * (1 - _CROP) / 2) for side in picture.size]
        box = (margins[0], margins[1], picture.width - margins[0], picture.height - margins[1])
        pixels = self._read(picture.crop(box).transpose(Image.Transpose.FLIP_LEFT_RIGHT))
        return (pixels + 1) * _DIM - 1

    def _dense(self, folder: Path, kind: str, part: str, read: Callable[[Path], NDArray[np.generic]]) -> Dense:
        pairs = self._some(_dense_pairs(folder, kind, part))
        return Dense(self._pictures([file for file, _ in pairs]), np.stack([read(truth) for _, truth in pairs]))

    def _mask(self, file: Path) -> NDArray[np.uint8]:
        numbers = self._square(file).astype(np.int64)
        # 0 becomes 255, which is void; class 1 becomes 0.
        return ((numbers - 1) % 256).astype(np.uint8)

    def _depths(self, file: Path) -> NDArray[np.float32]:
        return (self._square(file).astype(np.float32) / _MILLIMETRES).astype(np.float32)

    def _square(self, file: Path) -> NDArray[np.generic]:
        side = self.preprocessing.image_size
        with _opened(file) as image:
            if image.mode not in ("L", "P", "I", "I;16"):
                raise DataError(f"{file}: expected one number per pixel (8 or 16 bits, or palette), not {image.mode}")
            return np.asarray(image.resize((side, side), Image.Resampling.NEAREST))

    def _sequence(self, folder: Path, name: str) -> VideoMasks:
        frames = _pictures_in(folder / "JPEGImages" / "480p" / name)
        masks = _files_in(folder / "Annotations" / "480p" / name)
        if [file.stem for file in frames] != [file.stem for file in masks]:
            raise DataError(f"{folder}: sequence {name} has {len(frames)} frames and {len(masks)} masks of other names")
        numbers = []
        for file in masks:
            with _opened(file) as image:
                numbers.append(np.asarray(image if image.mode == "P" else image.convert("L"), dtype=np.uint8))
        return VideoMasks(name, torch.stack([self._read(load_image(file)) for file in frames]), np.stack(numbers))


def count_items(root: Path, task: str) -> int:
    """On how much a dense task is measured: pictures of the validation part, or sequences; nothing is read.

    Raises:
        DataError: data that lie otherwise.
    """
    folder = _task_folder(root, task)
    return len(_sequences(folder) if task == "tracking" else _dense_pairs(folder, _MARKS[task], "validation"))


def _task_folder(root: Path, task: str) -> Path:
    folder = root / task
    if folder.is_dir():
        return folder
    # One data set by itself, such as DAVIS as it is unpacked.
    if (root / _MARKS[task]).is_dir():
        return root
    raise DataError(
        f"{folder}: not found; {task} needs {folder}/{_LAYOUTS[task]}, or --data that is such a folder itself"
    )


def _sequences(folder: Path) -> list[str]:
    listing = folder / "ImageSets" / "2017" / "val.txt"
    if not listing.is_file():
        raise DataError(f"{listing}: not found; it lists the sequences, one per line")
    return [line.strip() for line in listing.read_text(encoding="utf-8").splitlines() if line.strip()]


def _dense_pairs(folder: Path, kind: str, part: str) -> list[tuple[Path, Path]]:
    """Pictures with the files of their truths."""
    truths = {file.stem: file for file in _files_in(folder / kind / part)}
    files = [file for file in _pictures_in(folder / "images" / part) if file.stem in truths]
    if not files:
        raise DataError(f"{folder / 'images' / part}: no picture has a file of its name in {folder / kind / part}")
    return [(file, truths[file.stem]) for file in files]


def _pictures_in(folder: Path) -> list[Path]:
    """Pictures below a folder in natural order. Raises DataError if there is none."""
    if not folder.is_dir():
        raise DataError(f"{folder}: not found")
    files = [found.path for found in find_media(folder) if found.kind == "image"]
    if not files:
        raise DataError(f"{folder}: expected pictures, found none")
    return files


def _files_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: not found")
    return sorted(folder.glob("*.png"), key=lambda file: natural_key(file.name))


def _opened(file: Path) -> Image.Image:
    try:
        return Image.open(file)
    except OSError as error:
        raise DataError(f"{file}: cannot be read as a picture: {error}") from error


def _identity(change: str, files: list[Path]) -> str:
    """Names, sizes and times of the files: features of a file that changed are computed anew."""
    digest = hashlib.sha256(change.encode())
    for file in files:
        facts = file.stat()
        digest.update(f"{file} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return f"{change} {len(files)} files {digest.hexdigest()}"
