"""Where things are, in words: the column (a to h) and the row (one to eight) of an 8 x 8 grid.

Every text about places uses the same words, as the patches of pictures do that learn where they are
(`perceptic.world.maps`): digits here and letters there would be two languages to learn for one thing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from perceptic.world.scene import SceneObject

COLUMNS: Final = tuple("abcdefgh")
ROWS: Final = ("one", "two", "three", "four", "five", "six", "seven", "eight")
GRID_SIDE: Final = 8
"""Columns and rows: the patches of PLM-Nano's pictures."""

_BOXES_FIRST: Final = "Name every object after its box [x1, y1, x2, y2] and its column and row."
_NAMES_FIRST: Final = "Give the column and row and the box [x1, y1, x2, y2] of every object after its name."


def cell_of(item: SceneObject) -> tuple[int, int]:
    """Column and row of an object's middle, from 0 to `GRID_SIDE` - 1."""
    return _cell(item.x), _cell(item.y)


def place_words(item: SceneObject) -> str:
    """The same in words: "c four"."""
    return cell_words(*cell_of(item))


def column_word(item: SceneObject) -> str:
    """The column of its middle: "c"."""
    return COLUMNS[cell_of(item)[0]]


def row_word(item: SceneObject) -> str:
    """The row of its middle: "four"."""
    return ROWS[cell_of(item)[1]]


def point_words(x: float, y: float) -> str:
    """Column and row of a point, from 0 to 1, in words."""
    return cell_words(_cell(x), _cell(y))


def cell_words(column: int, row: int) -> str:
    """A column and a row, from 0 to `GRID_SIDE` - 1, in words."""
    return f"{COLUMNS[column]} {ROWS[row]}"


def boxes_turn(told: Sequence[tuple[str, str]], boxes_first: bool) -> tuple[str, str]:
    """Question and answer about every box of a row, one after the other.

    Args:
        told: place and name of what is in each box. boxes_first: or the names.
    """
    parts = [(f"<|bbox{index}|>", place, name) for index, (place, name) in enumerate(told)]
    ask, step = (_BOXES_FIRST, 1) if boxes_first else (_NAMES_FIRST, -1)
    return ask, ", ".join(" ".join(part[::step]) for part in parts)


def _cell(position: float) -> int:
    return min(max(int(position * GRID_SIDE), 0), GRID_SIDE - 1)
