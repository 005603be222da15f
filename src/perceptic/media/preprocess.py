"""Pixels to what a vision tower takes: resize or crop to a square, then float in [-1, 1].

Source: perception-encoder spec 4 (images, and video frames as images), perception-language-model spec 5.2 (the tensor
resize of decoded video).

Two resizing methods:

- `exact` is Pillow's filter, bit for bit what the released encoders were evaluated with.
- `fast` resizes the 8-bit tensor with torch's antialiased kernels: the same filter in other fixed-point arithmetic,
  at most 1 grey level off.
"""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
import torch
from PIL import Image

from perceptic.configs import Preprocessing
from perceptic.errors import MediaError
from perceptic.media.color_modes import to_rgb

Interpolation = Literal["bilinear", "bicubic"]

_PILLOW_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


class HasPixels(Protocol):
    """Anything with uint8 RGB `pixels` of shape (F, 3, H, W), such as `media.video.Frames`."""

    @property
    def pixels(self) -> torch.Tensor: ...


class ImageTransform:
    """Preprocessing as a function of one image, or of the frames of a video. Safe to share between threads."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.preprocessing = preprocessing
        self._mean = torch.tensor(preprocessing.mean).view(3, 1, 1)
        self._std = torch.tensor(preprocessing.std).view(3, 1, 1)

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Float32 (3, S, S), normalised: [-1, 1] with the encoders' mean and std of 0.5.

        The image is resized in its own mode and converted to RGB afterwards, as the original does. That matters for
        palette, 1-bit and transparent pictures only; `images.load_image` returns RGB, the saner default.
        """
        return self.normalize(self.pixels(image))

    def frames(self, frames: HasPixels | torch.Tensor) -> torch.Tensor:
        """Float32 (F, 3, S, S) from decoded frames, uint8 RGB (F, 3, H, W); each frame is treated as an image."""
        return self.normalize(self.frame_pixels(frames))

    def pixels(self, image: Image.Image) -> torch.Tensor:
        """uint8 RGB (3, S, S): the image before normalisation, a quarter of the memory."""
        try:
            if self.preprocessing.method == "fast":
                return self._tensor_square(image_to_tensor(to_rgb(image)).unsqueeze(0)).squeeze(0)
            return image_to_tensor(to_rgb(self._pillow_square(image)))
        except (OSError, SyntaxError, ValueError) as error:  # a lazily opened, damaged file decodes only now
            raise MediaError(getattr(image, "filename", "") or "<PIL image>", f"damaged image: {error}") from error

    def frame_pixels(self, frames: HasPixels | torch.Tensor) -> torch.Tensor:
        """uint8 RGB (F, 3, S, S): the frames before normalisation."""
        pixels = frames if isinstance(frames, torch.Tensor) else frames.pixels
        _require_uint8_rgb(pixels)
        if self.preprocessing.method == "fast":
            return self._tensor_square(pixels)
        return torch.stack([self.pixels(tensor_to_image(frame)) for frame in pixels])

    def normalize(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 (..., 3, H, W) to float32: pixels / 255, minus mean, over std."""
        _require_uint8_rgb(pixels)
        return pixels.to(torch.float32).div_(255).sub_(self._mean).div_(self._std)

    def _pillow_square(self, image: Image.Image) -> Image.Image:
        size, resampling = self.preprocessing.image_size, _PILLOW_FILTERS[self.preprocessing.interpolation]
        if self.preprocessing.resize_mode == "squash":
            return image.resize((size, size), resampling)
        width, height = short_side_size(image.width, image.height, size)
        left, top = crop_origin(width, size), crop_origin(height, size)
        return image.resize((width, height), resampling).crop((left, top, left + size, top + size))

    def _tensor_square(self, pixels: torch.Tensor) -> torch.Tensor:
        size, mode = self.preprocessing.image_size, self.preprocessing.interpolation
        if self.preprocessing.resize_mode == "squash":
            return _resize_uint8(pixels, size, size, mode)
        width, height = short_side_size(pixels.shape[-1], pixels.shape[-2], size)
        left, top = crop_origin(width, size), crop_origin(height, size)
        resized = _resize_uint8(pixels, height, width, mode)
        return resized[..., top : top + size, left : left + size].contiguous()


def short_side_size(width: int, height: int, size: int) -> tuple[int, int]:
    """Width and height after scaling so that the short side is `size`; the long side is rounded down."""
    if width <= height:
        return size, int(size * height / width)
    return int(size * width / height), size


def crop_origin(length: int, size: int) -> int:
    """First pixel of a centred crop; half pixels round half to even."""
    return round((length - size) / 2)


def image_to_tensor(image: Image.Image) -> torch.Tensor:
    """RGB Pillow image to uint8 (3, H, W). The memory is laid out row, column, channel, as torch resizes fastest."""
    return torch.from_numpy(np.array(image, dtype=np.uint8)).permute(2, 0, 1)


def tensor_to_image(pixels: torch.Tensor) -> Image.Image:
    """uint8 RGB (3, H, W) to a Pillow image."""
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def resize_tensor(
    pixels: torch.Tensor, height: int, width: int, interpolation: Interpolation = "bicubic"
) -> torch.Tensor:
    """Resize decoded video as the language model does (perception-language-model spec 5.2).

    uint8 to float32, antialiased, corners not aligned, clamped to [0, 255], rounded half to even, uint8 again. Not
    Pillow's filter: up to 3 levels apart on natural pictures.

    Args:
        pixels: uint8 (..., 3, H, W).

    Returns:
        uint8 (..., 3, height, width).
    """
    _require_uint8_rgb(pixels)
    flat = pixels.reshape(-1, *pixels.shape[-3:]).to(torch.float32)
    resized = torch.nn.functional.interpolate(
        flat, size=(height, width), mode=interpolation, antialias=True, align_corners=False
    )
    return resized.clamp_(0, 255).round_().to(torch.uint8).reshape(*pixels.shape[:-2], height, width)


def _resize_uint8(pixels: torch.Tensor, height: int, width: int, interpolation: Interpolation) -> torch.Tensor:
    # The vectorised kernel wants the channels of a pixel side by side in memory.
    channels_last = pixels.contiguous(memory_format=torch.channels_last)
    return torch.nn.functional.interpolate(
        channels_last, size=(height, width), mode=interpolation, antialias=True, align_corners=False
    )


def _require_uint8_rgb(pixels: torch.Tensor) -> None:
    if pixels.dtype != torch.uint8 or pixels.ndim < 3 or pixels.shape[-3] != 3:
        raise MediaError(
            "<tensor>", f"expected uint8 RGB of shape (..., 3, H, W), got {pixels.dtype} {tuple(pixels.shape)}"
        )
