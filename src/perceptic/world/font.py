"""A 5 by 7 bitmap font of capitals and digits, and how it covers pixels.

Own bitmaps: font files differ between machines, and a world must not.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

GLYPH_WIDTH: Final = 5
GLYPH_HEIGHT: Final = 7

_ROWS: Final = {
    "A": "01110 10001 10001 11111 10001 10001 10001",
    "B": "11110 10001 10001 11110 10001 10001 11110",
    "C": "01111 10000 10000 10000 10000 10000 01111",
    "D": "11110 10001 10001 10001 10001 10001 11110",
    "E": "11111 10000 10000 11110 10000 10000 11111",
    "F": "11111 10000 10000 11110 10000 10000 10000",
    "G": "01111 10000 10000 10011 10001 10001 01111",
    "H": "10001 10001 10001 11111 10001 10001 10001",
    "I": "11111 00100 00100 00100 00100 00100 11111",
    "J": "00111 00010 00010 00010 00010 10010 01100",
    "K": "10001 10010 10100 11000 10100 10010 10001",
    "L": "10000 10000 10000 10000 10000 10000 11111",
    "M": "10001 11011 10101 10101 10001 10001 10001",
    "N": "10001 11001 11001 10101 10011 10011 10001",
    "O": "01110 10001 10001 10001 10001 10001 01110",
    "P": "11110 10001 10001 11110 10000 10000 10000",
    "Q": "01110 10001 10001 10001 10101 10010 01101",
    "R": "11110 10001 10001 11110 10100 10010 10001",
    "S": "01111 10000 10000 01110 00001 00001 11110",
    "T": "11111 00100 00100 00100 00100 00100 00100",
    "U": "10001 10001 10001 10001 10001 10001 01110",
    "V": "10001 10001 10001 10001 01010 01010 00100",
    "W": "10001 10001 10001 10101 10101 11011 10001",
    "X": "10001 10001 01010 00100 01010 10001 10001",
    "Y": "10001 10001 01010 00100 00100 00100 00100",
    "Z": "11111 00001 00010 00100 01000 10000 11111",
    "0": "01110 10001 10011 10101 11001 10001 01110",
    "1": "00100 01100 00100 00100 00100 00100 01110",
    "2": "01110 10001 00001 00110 01000 10000 11111",
    "3": "11110 00001 00001 01110 00001 00001 11110",
    "4": "00010 00110 01010 10010 11111 00010 00010",
    "5": "11111 10000 11110 00001 00001 10001 01110",
    "6": "01110 10000 10000 11110 10001 10001 01110",
    "7": "11111 00001 00010 00100 01000 01000 01000",
    "8": "01110 10001 10001 01110 10001 10001 01110",
    "9": "01110 10001 10001 01111 00001 00001 01110",
}
# Chart digits have less room: 3 by 5.
_SMALL_ROWS: Final = {
    "0": "111 101 101 101 111",
    "1": "010 110 010 010 111",
    "2": "111 001 111 100 111",
    "3": "111 001 111 001 111",
    "4": "101 101 111 001 001",
    "5": "111 100 111 001 111",
    "6": "111 100 111 101 111",
    "7": "111 001 001 010 010",
    "8": "111 101 111 101 111",
    "9": "111 101 111 001 111",
}


@lru_cache(maxsize=512)
def text_bitmap(text: str, small: bool = False) -> NDArray[np.bool_]:
    """The text as a bitmap (7 or 5 rows, columns with one empty column between glyphs), True where inked."""
    rows = _SMALL_ROWS if small else _ROWS
    glyphs = [np.array([[cell == "1" for cell in row] for row in rows[letter].split()]) for letter in text]
    gap = np.zeros((glyphs[0].shape[0], 1), dtype=bool)
    columns = [part for glyph in glyphs for part in (glyph, gap)]
    bitmap: NDArray[np.bool_] = np.concatenate(columns[:-1], axis=1)
    bitmap.setflags(write=False)
    return bitmap


@lru_cache(maxsize=2048)
def text_coverage(text: str, height: int, small: bool = False) -> NDArray[np.float64]:
    """Ink coverage in [0, 1] of the text drawn `height` pixels high, shape (height, width).

    Exact areas: the summed-area table of the bitmap is read at pixel edges, so any height is evenly antialiased.
    """
    bitmap = text_bitmap(text, small)
    rows, columns = bitmap.shape
    width = max(1, (height * columns + rows // 2) // rows)
    table = np.zeros((rows + 1, columns + 1))
    table[1:, 1:] = bitmap.cumsum(axis=0).cumsum(axis=1)
    down = _read_edges(table, height)
    across = _read_edges(down.T, width).T
    cells = across[1:, 1:] - across[:-1, 1:] - across[1:, :-1] + across[:-1, :-1]
    coverage: NDArray[np.float64] = np.clip(cells * (height * width / (rows * columns)), 0.0, 1.0)
    coverage.setflags(write=False)
    return coverage


def draw_ink(
    canvas: NDArray[np.float64], coverage: NDArray[np.float64], x: float, y: float, ink: NDArray[np.float64]
) -> None:
    """Blend `ink` into an (H, H, 3) canvas through a coverage bitmap centred on (x, y) in unit coordinates.

    The bitmap lies on whole pixels, so that strokes stay crisp, and is cut at the frame.
    """
    size = canvas.shape[0]
    height, width = coverage.shape
    top, left = int(y * size - 0.5 * height + 0.5), int(x * size - 0.5 * width + 0.5)
    first_row, first_column = max(0, -top), max(0, -left)
    patch = canvas[max(0, top) : max(0, top + height), max(0, left) : max(0, left + width)]
    share = coverage[first_row : first_row + patch.shape[0], first_column : first_column + patch.shape[1], None]
    patch += share * (ink - patch)


def _read_edges(table: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    cells = table.shape[0] - 1
    position = np.arange(count + 1) * cells / count
    lower = np.minimum(position.astype(np.int64), cells - 1)
    share = (position - lower)[:, None]
    result: NDArray[np.float64] = table[lower] * (1.0 - share) + table[lower + 1] * share
    return result
