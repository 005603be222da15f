"""Boxes, and the text that the language model reads and writes of them (perception-language-model spec 6.1)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from perceptic.errors import ConfigError

BoxFormat = Literal["xyxy", "xywh"]

_LARGEST = 0.999  # a whole side, so that three digits always suffice
_MARKER = re.compile(r"<\|bbox(\d+)\|>")
_GROUP = re.compile(r"\[([^\[\]]*)\]")
_NUMBER = re.compile(r"(?:0?\.)?(\d+)")


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels of the picture: x to the right, y down. Corners may lie outside the picture."""

    left: float
    top: float
    right: float
    bottom: float

    @classmethod
    def from_xywh(cls, x: float, y: float, width: float, height: float) -> Box:
        """From the left top corner and the size."""
        return cls(x, y, x + width, y + height)


def region_text(
    box: Box, width: float, height: float, *, box_format: BoxFormat = "xyxy", with_point: bool = False, digits: int = 3
) -> str:
    """A box as text, such as `[289,129,601,337]`: thousandths of the picture's sides.

    Args:
        width, height: of the picture in pixels.
        box_format: corners (what the released models know) or corner and size.
        with_point: write `0.289` instead of `289`.
        digits: after the point.

    Raises:
        ConfigError: a picture without pixels.
    """
    if width <= 0 or height <= 0:
        raise ConfigError(f"a region needs the size of its picture in pixels, not {width} x {height}")
    right, bottom = box.right, box.bottom
    if box_format == "xywh":
        right, bottom = box.right - box.left, box.bottom - box.top
    sides = (box.left / width, box.top / height, right / width, bottom / height)
    fractions = [min(max(side, 0.0), _LARGEST) for side in sides]
    if with_point:
        return "[" + ",".join(f"{fraction:.{digits}f}" for fraction in fractions) + "]"
    return "[" + ",".join(f"{int(fraction * 10**digits):0{digits}d}" for fraction in fractions) + "]"


def fill_regions(text: str, boxes: Sequence[Box], width: float, height: float) -> str:
    """Replace each `<|bboxN|>` by box N as text.

    Raises:
        ConfigError: a marker without a box.
    """

    def replacement(match: re.Match[str]) -> str:
        index = int(match.group(1))
        if index >= len(boxes):
            raise ConfigError(f"the text has {match.group()} but there are {len(boxes)} boxes; they count from 0")
        return region_text(boxes[index], width, height)

    return _MARKER.sub(replacement, text)


@dataclass(frozen=True)
class ParsedRegion:
    """A box read from a model's answer; `box` is None where the answer has none, and `text` says what it was."""

    box: Box | None
    text: str


def parse_region(answer: str, width: float, height: float) -> ParsedRegion:
    """The first `[x1,y1,x2,y2]` of an answer, in pixels of a picture of that size.

    Numbers count as the digits after `0.`, whether or not it is written.
    """
    group = _GROUP.search(answer)
    numbers = [] if group is None else [_NUMBER.fullmatch(part.strip()) for part in group.group(1).split(",")]
    if len(numbers) != 4:
        return ParsedRegion(None, answer)
    fractions: list[float] = []
    for number in numbers:
        if number is None:
            return ParsedRegion(None, answer)
        fractions.append(float(f"0.{number.group(1)}"))
    left, top, right, bottom = fractions
    return ParsedRegion(Box(left * width, top * height, right * width, bottom * height), answer)
