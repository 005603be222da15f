"""Pictures and videos to chunks, the squares that the language model sees (perception-language-model spec 4 and 5.2).

Still pictures go through Pillow's bicubic filter, decoded video through the tensor resize: the models were trained
with both.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image

from perceptic.configs_plm import PerceptionLMPreprocessing
from perceptic.errors import ConfigError
from perceptic.media.color_modes import to_rgb
from perceptic.media.preprocess import HasPixels, image_to_tensor, resize_tensor
from perceptic.media.tiling import Grid, choose_grid


class ChunkTransform:
    """Preprocessing as functions of pictures and frames. Safe to share between threads.

    Chunks are float32 (C, 3, S, S) in [-1, 1], S = `tile_size`.
    """

    def __init__(self, preprocessing: PerceptionLMPreprocessing) -> None:
        self.preprocessing = preprocessing
        self._mean = torch.tensor(preprocessing.mean).view(3, 1, 1)
        self._std = torch.tensor(preprocessing.std).view(3, 1, 1)

    def __call__(self, image: Image.Image, max_num_tiles: int | None = None) -> torch.Tensor:
        """One picture: thumbnail and tiles, or a single chunk.

        Args:
            image: any mode; converted to RGB first.
            max_num_tiles: overrides the model's; 0 means a single chunk without tiles.

        Raises:
            ConfigError: a negative number of tiles.
        """
        return self.normalize(self.pixels(image, max_num_tiles))

    def images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Several pictures, one squashed chunk each, as in prompts that compare pictures."""
        return self.normalize(self.images_pixels(images))

    def frames(self, frames: HasPixels | torch.Tensor) -> torch.Tensor:
        """Decoded video frames, uint8 RGB (F, 3, H, W): one squashed chunk each."""
        return self.normalize(self.frame_pixels(frames))

    def pixels(self, image: Image.Image, max_num_tiles: int | None = None) -> torch.Tensor:
        """uint8 RGB (C, 3, S, S) of one picture, before normalisation."""
        image = to_rgb(image)
        grid = self.grid(image.width, image.height, max_num_tiles)
        thumbnail = self._squashed(image)[None]
        return thumbnail if grid is None else torch.cat([thumbnail, self._tiles(image, grid)])

    def images_pixels(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """uint8 RGB (C, 3, S, S) of several pictures, before normalisation."""
        return torch.stack([self._squashed(to_rgb(image)) for image in images])

    def frame_pixels(self, frames: HasPixels | torch.Tensor) -> torch.Tensor:
        """uint8 RGB (F, 3, S, S) of video frames, before normalisation."""
        size = self.preprocessing.tile_size
        pixels = frames if isinstance(frames, torch.Tensor) else frames.pixels
        return resize_tensor(pixels, size, size, "bicubic")

    def normalize(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 (..., 3, H, W) on any device to float32: pixels / 255, minus mean, over std."""
        mean, std = self._mean.to(pixels.device), self._std.to(pixels.device)
        return pixels.to(torch.float32).div_(255).sub_(mean).div_(std)

    def grid(self, width: int, height: int, max_num_tiles: int | None = None) -> Grid | None:
        """The tiles of a picture of this size; None for a single chunk."""
        tiles = self.preprocessing.max_num_tiles if max_num_tiles is None else max_num_tiles
        if tiles < 0:
            raise ConfigError(f"max_num_tiles must not be negative, not {tiles}")
        if tiles == 0 or (max_num_tiles is None and self.preprocessing.vision_input_type == "vanilla"):
            return None
        return choose_grid(width, height, self.preprocessing.tile_size, tiles)

    def num_chunks(self, width: int, height: int, max_num_tiles: int | None = None) -> int:
        """Chunks of a picture of this size, known before it is decoded."""
        grid = self.grid(width, height, max_num_tiles)
        return 1 if grid is None else grid.num_tiles + 1

    def _squashed(self, image: Image.Image) -> torch.Tensor:
        size = self.preprocessing.tile_size
        return image_to_tensor(image.resize((size, size), Image.Resampling.BICUBIC))

    def _tiles(self, image: Image.Image, grid: Grid) -> torch.Tensor:
        """The picture, stretched over the grid and cut row by row."""
        size = self.preprocessing.tile_size
        canvas = image_to_tensor(image.resize((size * grid.columns, size * grid.rows), Image.Resampling.BICUBIC))
        tiles = canvas.reshape(3, grid.rows, size, grid.columns, size).permute(1, 3, 0, 2, 4)
        return tiles.reshape(grid.num_tiles, 3, size, size)
