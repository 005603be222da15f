"""Clips to frames, masks, depth and tracks.

Shape legend: F frames, H, W size in pixels, N objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perceptic.world.clip import Clip, scene_at
from perceptic.world.rendering import Box, Rendered, render, render_pixels
from perceptic.world.scene import Scene


@dataclass(frozen=True, slots=True)
class RenderedClip:
    """pixels (F, H, W, 3) uint8; owners (F, H, W) int16, the visible object or -1; depth (F, H, W) float32;
    tracks[n][f] is the box of object n's visible part in frame f, None where it is hidden; seconds (F,) float64."""

    pixels: NDArray[np.uint8]
    owners: NDArray[np.int16]
    depth: NDArray[np.float32]
    tracks: tuple[tuple[Box | None, ...], ...]
    seconds: NDArray[np.float64]

    def masks(self, object_index: int) -> NDArray[np.bool_]:
        """Visible masks of one object, (F, H, W) bool."""
        visible: NDArray[np.bool_] = self.owners == object_index
        return visible


def render_clip(clip: Clip, size: int, frames: Sequence[int] | None = None) -> NDArray[np.uint8]:
    """Frames of a clip, (F, size, size, 3) uint8 RGB, all of them or the given indices, without any codec.

    Raises:
        ConfigError: size below 16.
    """
    chosen = range(clip.num_frames) if frames is None else frames
    pixels = np.empty((len(chosen), size, size, 3), dtype=np.uint8)
    previous: Scene | None = None
    for place, frame in enumerate(chosen):
        scene = scene_at(clip, frame)
        # Between events nothing moves: such frames are copied.
        pixels[place] = pixels[place - 1] if scene == previous else render_pixels(scene, size)
        previous = scene
    return pixels


def render_clip_annotated(clip: Clip, size: int) -> RenderedClip:
    """Every frame with masks, depth and tracks. Raises ConfigError for a size below 16."""
    frames: list[Rendered] = []
    previous: Scene | None = None
    for frame in range(clip.num_frames):
        scene = scene_at(clip, frame)
        frames.append(frames[-1] if scene == previous else render(scene, size))
        previous = scene
    count = len(clip.scene.objects)
    return RenderedClip(
        pixels=np.stack([frame.pixels for frame in frames]),
        owners=np.stack([frame.owners for frame in frames]),
        depth=np.stack([frame.depth for frame in frames]),
        tracks=tuple(tuple(frame.boxes[index] for frame in frames) for index in range(count)),
        seconds=np.arange(clip.num_frames) / clip.frames_per_second,
    )
