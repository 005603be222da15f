"""A data set as benchmarks see it, whatever the layout it was read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from perceptic.errors import DataError
from perceptic.evaluate.features import Medium

CAPTION_FIELDS = ("human_caption", "captions", "caption", "sentence", "text", "txt", "model_caption", "description")
"""Names of captions in tables and sidecars, the best first."""
LABEL_FIELDS = ("label", "labels", "cls", "class", "class_name", "category")
MEDIA_FIELDS = ("image", "video", "video_id", "img", "jpg", "png", "webp", "mp4", "file", "filepath", "path")


@dataclass(frozen=True)
class EvalItem:
    """A medium with what is true of it. `positives` are the classes of a multi-label item."""

    medium: Medium
    label: int | None = None
    captions: tuple[str, ...] = ()
    positives: tuple[int, ...] | None = None


@dataclass(frozen=True)
class EvalData:
    """Items of one split.

    Attributes:
        where: what was read. layout: "webdataset", "folders", "parquet", "jsonl" or "csv".
        class_names: index = label. templates: prompts that came with the data, () if none did.
        prompts: class name -> whole prompts, where the data word each class for themselves.
        notes: what the reader should know, such as a split that was not there.
    """

    where: Path
    layout: str
    items: tuple[EvalItem, ...]
    class_names: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    prompts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def media(self) -> list[Medium]:
        return [item.medium for item in self.items]

    def labelled(self) -> EvalData:
        """This, if it can be classified. Raises DataError that says what is missing."""
        if not self.items:
            raise DataError(f"{self.where}: holds no picture or video")
        without = sum(item.label is None and item.positives is None for item in self.items)
        if without:
            raise DataError(
                f"{self.where}: {without} of {len(self.items)} items have no label (read as {self.layout}); expected "
                "class folders, .cls members, or a column label, class or category"
            )
        largest = max(max((item.label or 0, *(item.positives or ()))) for item in self.items)
        if largest >= len(self.class_names):
            raise DataError(
                f"{self.where}: label {largest} has no name, there are {len(self.class_names)}; give classnames.txt "
                "with one name a line"
            )
        return self

    def captioned(self) -> EvalData:
        """This, if every item has a caption. Raises DataError that says what is missing."""
        without = sum(not item.captions for item in self.items)
        if without or not self.items:
            raise DataError(
                f"{self.where}: {without} of {len(self.items)} items have no caption (read as {self.layout}); expected "
                f".txt members or files, or a column {', '.join(CAPTION_FIELDS[:4])}"
            )
        return self

    def limited(self, limit: int | None, seed: int) -> EvalData:
        """A random part of `limit` items, in their order; everything without a limit."""
        if limit is None or limit >= len(self.items):
            return self
        chosen = np.sort(np.random.default_rng(seed).permutation(len(self.items))[:limit])
        return replace(self, items=tuple(self.items[int(number)] for number in chosen))


def as_captions(value: object) -> tuple[str, ...]:
    """A caption or a list of them; empty ones are none."""
    values = value if isinstance(value, list | tuple) else [value]
    return tuple(text for text in values if isinstance(text, str) and text.strip())


def named_labels(
    labels: list[object], class_names: tuple[str, ...], where: Path
) -> tuple[list[int | None], tuple[str, ...]]:
    """Labels as numbers. Names (strings) are numbered in sorted order unless `class_names` has them.

    Raises:
        DataError: a name that `class_names` lacks, numbers without names, or neither numbers nor names.
    """
    present = [label for label in labels if label is not None]
    if all(isinstance(label, str) for label in present):
        names = class_names or tuple(sorted({str(label) for label in present}))
        numbers = {name: number for number, name in enumerate(names)}
        unknown = next((label for label in present if label not in numbers), None)
        if unknown is not None:
            raise DataError(f"{where}: the label {unknown!r} is not in classnames.txt")
        return [None if label is None else numbers[str(label)] for label in labels], names
    if not all(isinstance(label, int) and label >= 0 for label in present):
        raise DataError(f"{where}: expected labels that are all names or all numbers from 0")
    return [label if isinstance(label, int) else None for label in labels], class_names
