"""Training rows of the language model, JSON objects to frozen dataclasses (perception-language-model spec 8.3).

Region markers `<|bboxN|>` become text here, so that a row says all that is learned from it. Keys that rows do not have
(ids, sources, scores) are left alone: real data is full of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from perceptic.data.samples import SampleError
from perceptic.errors import ConfigError
from perceptic.media.boxes import Box, fill_regions

Speaker = Literal["human", "assistant"]


class RowError(SampleError):
    """A row that cannot be trained on. `where` is its file and line."""


@dataclass(frozen=True)
class Turn:
    """What one side says."""

    speaker: Speaker
    text: str


@dataclass(frozen=True)
class TextRow:
    """A conversation about nothing to see."""

    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class ImageRow:
    """A conversation about one picture, which is cut into tiles. `path` is as written in the row."""

    turns: tuple[Turn, ...]
    path: str


@dataclass(frozen=True)
class MultiImageRow:
    """A conversation about several pictures of one squashed chunk each; one `<image>` in the text stands for each."""

    turns: tuple[Turn, ...]
    paths: tuple[str, ...]


@dataclass(frozen=True)
class VideoRow:
    """A conversation about a video or a part of it.

    Attributes:
        boxes: what is drawn on frames, by their number in the file; frames without an entry stay as they are.
    """

    turns: tuple[Turn, ...]
    path: str
    start_seconds: float | None
    end_seconds: float | None
    boxes: Mapping[int, Box]


PlmRow = TextRow | ImageRow | MultiImageRow | VideoRow


def parse_row(value: object, where: str) -> PlmRow:
    """One JSON object as a row.

    Args:
        where: file and line, for messages.

    Raises:
        RowError: a missing or misshapen key, a region marker without its box, or a picture and a video at once.
    """
    if not isinstance(value, dict):
        raise RowError(where, "not an object", f"a row is {{...}}, not {type(value).__name__}")
    row = _Row(value, where)
    images, video = row.images(), row.text_or_none("video")
    if images and video is not None:
        raise row.error("image and video in one row", "a conversation is about pictures or one video")
    turns = row.turns()
    if video is not None:
        return VideoRow(turns, video, row.seconds("start_time"), row.seconds("end_time"), row.box_map())
    row.refuse("start_time", "end_time", "bbox_map", of="video")
    if not images:
        return TextRow(turns)
    return ImageRow(turns, images[0]) if len(images) == 1 else MultiImageRow(turns, images)


@dataclass(frozen=True)
class _Row:
    """Typed reading of one object's keys; null counts as absent, which is how parquet writes it."""

    value: dict[str, Any]
    where: str

    def error(self, reason: str, detail: str = "") -> RowError:
        return RowError(self.where, reason, detail)

    def get(self, key: str) -> Any:
        return self.value.get(key)

    def refuse(self, *keys: str, of: str) -> None:
        for key in keys:
            if self.get(key) is not None:
                raise self.error(f"{key} without {of}", f"{key} belongs to rows with the key '{of}'")

    def text_or_none(self, key: str) -> str | None:
        value = self.get(key)
        if value is not None and not (isinstance(value, str) and value):
            raise self.error(f"bad {key}", f"expected a path, not {value!r}")
        return value

    def images(self) -> tuple[str, ...]:
        value = self.get("image")
        if value is None:
            return ()
        paths = value if isinstance(value, list) else [value]
        if not paths or not all(isinstance(path, str) and path for path in paths):
            raise self.error("bad image", f"expected a path or a list of paths, not {value!r}")
        return tuple(paths)

    def seconds(self, key: str) -> float | None:
        """Some published rows start a little before 0: the video's start is meant."""
        value = self.get(key)
        if value is None:
            return None
        if not _is_number(value):
            raise self.error(f"bad {key}", f"expected seconds, not {value!r}")
        return max(0.0, float(value))

    def turns(self) -> tuple[Turn, ...]:
        spoken = self.get("conversations")
        if spoken is None:
            caption = self.get("text")
            if not isinstance(caption, str):
                raise self.error("no conversation", "a row needs the key 'conversations', or 'text' with a caption")
            spoken = [{"from": "human", "value": ""}, {"from": "assistant", "value": caption}]
        if not isinstance(spoken, list):
            raise self.error("bad conversations", f"expected a list of turns, not {type(spoken).__name__}")
        turns = [self._turn(number, entry) for number, entry in enumerate(spoken, start=1)]
        return tuple(self._with_regions(turns))

    def _turn(self, number: int, entry: object) -> Turn:
        match entry:
            case {"from": str() as speaker, "value": str() | int() | float() as value}:
                if speaker not in get_args(Speaker):
                    raise self.error("unknown speaker", f"turn {number} is of '{speaker}'; known: human, assistant")
                return Turn(speaker, str(value))  # type: ignore[arg-type]  # one of them, as just seen
        raise self.error("bad turn", f"turn {number} must have the keys 'from' and 'value', both text")

    def _with_regions(self, turns: Sequence[Turn]) -> list[Turn]:
        boxes = self._boxes()
        width, height = (self._side("width"), self._side("height")) if boxes else (1.0, 1.0)
        try:
            return [Turn(turn.speaker, fill_regions(turn.text, boxes, width, height)) for turn in turns]
        except ConfigError as error:
            raise self.error("region without its box", str(error)) from error

    def _boxes(self) -> list[Box]:
        value = self.get("bbox")
        if value is None:
            return []
        if self.get("image") is None:
            self.refuse("bbox", of="image")
        if not isinstance(value, list) or not all(_is_numbers(box, 4) for box in value):
            raise self.error("bad bbox", f"expected a list of [x, y, width, height], not {value!r}")
        return [Box.from_xywh(*map(float, box)) for box in value]

    def _side(self, key: str) -> float:
        value = self.get(key)
        if not _is_number(value) or value <= 0:
            raise self.error(f"bbox without {key}", f"boxes need the picture's {key} in pixels, not {value!r}")
        return float(value)

    def box_map(self) -> dict[int, Box]:
        value = self.get("bbox_map")
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self.error("bad bbox_map", f"expected frame numbers and boxes, not {type(value).__name__}")
        return {self._frame(key): self._corners(box) for key, box in value.items() if box}

    def _frame(self, key: str) -> int:
        if not (key.isascii() and key.isdigit()):
            raise self.error("bad bbox_map", f"'{key}' is no frame number")
        return int(key)

    def _corners(self, value: object) -> Box:
        if not isinstance(value, list) or not _is_numbers(value, 4):
            raise self.error("bad bbox_map", f"expected [x1, y1, x2, y2] or null, not {value!r}")
        left, top, right, bottom = map(float, value)
        if right < left or bottom < top:
            raise self.error("bad bbox_map", f"corners are swapped in {value!r}")
        return Box(left, top, right, bottom)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_numbers(value: object, count: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(map(_is_number, value))
