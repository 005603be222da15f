"""Boxes drawn on pictures (perception-language-model spec 5.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from perceptic.errors import ConfigError
from perceptic.media.boxes import Box

RED = (255, 0, 0)


def draw_box(pixels: torch.Tensor, box: Box, color: tuple[int, int, int] = RED, stroke_width: int = 4) -> torch.Tensor:
    """A copy of a frame with the outline of a box; the stroke lies inside the box, corner pixels included.

    Args:
        pixels: uint8 RGB (3, H, W), of full resolution: draw before resizing.

    Raises:
        ConfigError: a box whose corners are swapped.
    """
    left, top, right, bottom = int(box.left), int(box.top), int(box.right), int(box.bottom)
    if right < left or bottom < top:
        raise ConfigError(f"a box needs left <= right and top <= bottom, not {box}")
    drawn = pixels.clone()
    paint = torch.tensor(color, dtype=torch.uint8).view(3, 1, 1)
    strokes = (
        (left, top, right, min(top + stroke_width - 1, bottom)),
        (left, max(bottom - stroke_width + 1, top), right, bottom),
        (left, top, min(left + stroke_width - 1, right), bottom),
        (max(right - stroke_width + 1, left), top, right, bottom),
    )
    for x1, y1, x2, y2 in strokes:
        if x2 >= 0 and y2 >= 0:
            drawn[:, max(y1, 0) : y2 + 1, max(x1, 0) : x2 + 1] = paint
    return drawn


def draw_boxes(
    pixels: torch.Tensor, indices: Sequence[int], boxes: Mapping[int, Box | None], stroke_width: int = 4
) -> torch.Tensor:
    """Frames with a box on each that has one.

    Args:
        pixels: uint8 RGB (F, 3, H, W).
        indices: which frames of the video these are.
        boxes: by frame of the video; frames without an entry, or with None, stay as they are.

    Returns:
        A new uint8 tensor (F, 3, H, W).

    Raises:
        ConfigError: a box whose corners are swapped.
    """
    frames = [
        frame if (box := boxes.get(int(index))) is None else draw_box(frame, box, stroke_width=stroke_width)
        for frame, index in zip(pixels, indices, strict=True)
    ]
    return torch.stack(frames)
