"""The synthetic world as a source of samples, rendered on demand."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perceptic import world
from perceptic.data.samples import Sample
from perceptic.media.sampling import uniform_indices


@dataclass(frozen=True)
class _World:
    """`count` samples of the world, told from others by its code and their settings."""

    count: int

    def __len__(self) -> int:
        return self.count

    @property
    def identity(self) -> str:
        return f"world {code_hash()} {self!r}"


@dataclass(frozen=True)
class WorldImages(_World):
    """`count` pictures of split "train", `image_size` pixels a side.

    Sample i is scene `seed * 10**9 + i`, the one that an export of the world with this seed has at place i. `noise`
    makes some captions wrong on purpose. A share `single_share` of the scenes (spread evenly) holds one object and no
    text: among many objects, colours and places tell pictures apart and a model learns shapes last.
    """

    seed: int = 0
    image_size: int = 64
    noise: world.CaptionNoise | None = None
    single_share: float = 0.0

    def read(self, start: int, stop: int) -> Iterator[Sample]:
        for index in range(start, stop):
            seed = world_seed(self.seed, index)
            is_single = int((index + 1) * self.single_share) > int(index * self.single_share)
            scene = (
                world.sample_scene(seed, num_objects=1, text_fraction=0.0) if is_single else world.sample_scene(seed)
            )
            captions = world.captions(scene, seed, noise=self.noise)
            pixels = channels_first(world.render_pixels(scene, self.image_size)[None])
            yield Sample(pixels, (captions.short, captions.medium, captions.long), world.is_flip_safe(scene))


@dataclass(frozen=True)
class WorldCloseups(_World):
    """`count` windows of `image_size` pixels around the one object of a scene of `scene_size` pixels.

    Objects appear as large as in whole pictures of `scene_size` at a fraction of the tokens. A model that starts with
    them learns shapes in minutes; among whole pictures, which colours and places tell apart, it learns them last. The
    short caption is the label, the shape and nothing else; medium and long are both the scene's short caption.
    """

    seed: int = 0
    image_size: int = 32
    scene_size: int = 64
    noise: world.CaptionNoise | None = None

    def read(self, start: int, stop: int) -> Iterator[Sample]:
        for index in range(start, stop):
            seed = world_seed(self.seed, index)
            scene = world.sample_scene(seed, num_objects=1, text_fraction=0.0)
            label, caption = world.label_caption(scene, seed), world.captions(scene, seed, noise=self.noise).short
            rng = np.random.default_rng(seed)
            item = scene.objects[0]
            left, top = (self._window(centre, item.radius, rng) for centre in (item.x, item.y))
            pixels = world.render_pixels(scene, self.scene_size)[
                top : top + self.image_size, left : left + self.image_size
            ]
            yield Sample(channels_first(pixels[None]), (label, caption, caption), is_flip_safe=True)

    def _window(self, centre: float, radius: float, rng: np.random.Generator) -> int:
        """First pixel of a window that holds the object, along one axis; the object's middle where it is too large."""
        largest = self.scene_size - self.image_size
        first = math.ceil((centre + radius) * self.scene_size) - self.image_size
        last = math.floor((centre - radius) * self.scene_size)
        if first > last:
            first = last = round(centre * self.scene_size - self.image_size / 2)
        return min(max(int(rng.integers(first, last + 1)), 0), largest)


@dataclass(frozen=True)
class WorldClips(_World):
    """`count` clips of split "train", `num_frames` frames each, taken evenly from first to last (spec 6.2)."""

    num_frames: int = 8
    seed: int = 0
    image_size: int = 64
    noise: world.CaptionNoise | None = None

    def read(self, start: int, stop: int) -> Iterator[Sample]:
        for index in range(start, stop):
            seed = world_seed(self.seed, index)
            clip = world.sample_clip(seed)
            captions = world.clip_captions(clip, seed, noise=self.noise)
            frames = uniform_indices(clip.num_frames, self.num_frames)
            pixels = channels_first(world.render_clip(clip, self.image_size, frames))
            yield Sample(pixels, (captions.short, captions.medium, captions.long), world.is_clip_flip_safe(clip))


def world_seed(seed: int, index: int) -> int:
    """The seed of scene or clip `index` of a world."""
    return seed * 10**9 + index


def channels_first(pixels_FHWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(F, H, W, 3) to (F, 3, H, W)."""
    return np.ascontiguousarray(pixels_FHWC.transpose(0, 3, 1, 2))


@functools.cache
def code_hash() -> str:
    """The world is its code: any change to it may change a pixel or a word, so a cached copy is of one code only."""
    files = sorted(Path(world.__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
