"""How many tiles a picture is cut into, and which (perception-language-model spec section 4).

The released models know these grids, so the arithmetic is the original's, in doubles and in its order: an exact
version disagrees on one size in a thousand.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from perceptic.errors import ConfigError


@dataclass(frozen=True)
class Grid:
    """Tiles across and down."""

    columns: int
    rows: int

    @property
    def num_tiles(self) -> int:
        return self.columns * self.rows


@functools.lru_cache(65536)
def choose_grid(width: int, height: int, tile_size: int, max_num_tiles: int) -> Grid:
    """The grid of a picture: the one on which it stays largest without shrinking, else the one nearest in shape.

    The picture is then resized to fill the grid, whatever its aspect ratio. Small pictures are enlarged to nearly
    all the tiles allowed.

    Args:
        width, height: of the picture, in pixels.
        tile_size: side of a tile in pixels.
        max_num_tiles: tiles allowed, the thumbnail not counted.

    Raises:
        ConfigError: a size or number that is not positive.
    """
    for name, value in (("width", width), ("height", height), ("tile_size", tile_size)):
        if value < 1:
            raise ConfigError(f"{name} must be at least 1 pixel, not {value}")
    if max_num_tiles < 1:
        raise ConfigError(f"max_num_tiles must be at least 1, not {max_num_tiles}")
    return _largest_fit(width, height, tile_size, max_num_tiles) or _nearest_shape(width, height, max_num_tiles)


def _largest_fit(width: int, height: int, tile_size: int, max_num_tiles: int) -> Grid | None:
    """Of the grids that hold the picture unshrunk, the one with the largest short side; the later of equals."""
    shape = width / height
    best: Grid | None = None
    best_side = 0.0
    for group in _candidates(max_num_tiles).values():
        for grid in group:
            if tile_size * grid.columns < width or tile_size * grid.rows < height:
                continue
            factor = min(tile_size * grid.columns / width, tile_size * grid.rows / height)
            # Which side is rounded, and where, decides ties.
            if shape > 1:
                side = float(math.floor(factor * width / shape))
            elif shape < 1:
                side = float(math.floor(factor * height * shape))
            else:
                side = factor * height
            if best is None or side >= best_side:
                best, best_side = grid, side
    return best


def _nearest_shape(width: int, height: int, max_num_tiles: int) -> Grid:
    """Wide pictures take the widest grid that is not wider than they are; tall ones a grid less tall."""
    shape = width / height
    groups = _candidates(max_num_tiles)
    if shape >= 1:
        nearest = max(key for key in groups if key <= shape)
        return max(groups[nearest], key=lambda grid: grid.columns)
    # Strictly less tall: an exact match counts for wide pictures only, as in the original.
    nearest = min((key for key in groups if key > shape), key=lambda key: abs(1 / key - 1 / shape))
    return max(groups[nearest], key=lambda grid: grid.rows)


@functools.lru_cache(64)
def _candidates(max_num_tiles: int) -> dict[float, tuple[Grid, ...]]:
    """All grids of up to that many tiles, grouped by columns / rows, in the order ties are broken by."""
    groups: dict[float, list[Grid]] = {}
    for count in range(max_num_tiles, 0, -1):
        for columns in range(1, count + 1):
            if count % columns == 0:
                grid = Grid(columns, count // columns)
                groups.setdefault(grid.columns / grid.rows, []).append(grid)
    return {key: tuple(grids) for key, grids in groups.items()}
