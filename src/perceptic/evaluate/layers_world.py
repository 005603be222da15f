"""The synthetic world as data of a layer sweep, rendered at the model's own size; nothing is read from disk.

Classification: the shape of a single object (training split to fit on, validation split to score). Retrieval: the same
objects on another background, moved and turned a little. Segmentation: which shape each pixel belongs to, or the
background. Depth: the renderer's depth map (0 near, 1 the background; nearer objects stand lower in the picture).
Tracking: every object of a clip.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from perceptic import world
from perceptic.data.augmentation import plain
from perceptic.data.world_source import channels_first
from perceptic.evaluate.layers_data import (
    Classification,
    Dense,
    Depth,
    Labelled,
    Retrieval,
    Segmentation,
    Tracking,
    VideoMasks,
)
from perceptic.evaluate.layers_features import Pictures
from perceptic.world.randomness import between, seeded
from perceptic.world.sampling import sample_background

_SHIFT = 0.05
_TURN = 20.0
_NUM_FRAMES = 16


@dataclass(frozen=True)
class WorldSizes:
    """How many pictures or clips each set has."""

    classification_train: int = 800
    classification_test: int = 500
    retrieval: int = 400
    dense_train: int = 300
    dense_test: int = 150
    clips: int = 24

    def limited(self, limit: int | None) -> WorldSizes:
        """No set larger than `limit`."""
        if limit is None:
            return self
        return WorldSizes(**{name: min(value, limit) for name, value in vars(self).items()})


@dataclass(frozen=True)
class WorldData:
    """Sets of the world. `seed` chooses the scenes."""

    image_size: int
    seed: int = 0
    sizes: WorldSizes = WorldSizes()

    @property
    def description(self) -> str:
        return f"world, {self.image_size} px, seed {self.seed}, {self.sizes}"

    def classification(self) -> Classification:
        return Classification(
            self._labelled("train", self.sizes.classification_train),
            self._labelled("validation", self.sizes.classification_test),
            world.SHAPES,
        )

    def retrieval(self) -> Retrieval:
        scenes = self._scenes("validation", self.sizes.retrieval)
        rng = seeded(self.seed, "layers", "retrieval")
        changed = [change_scene(scene, rng) for scene in scenes]
        return Retrieval(
            self._pictures("changed", changed),
            self._pictures("gallery", scenes),
            "the same objects on another background, each moved by up to a twentieth of the side and turned",
        )

    def segmentation(self) -> Segmentation:
        sets = [
            Dense(self._dense_pictures(split), np.stack([_shape_mask(scene, self.image_size) for scene in scenes]))
            for split, scenes in self._dense_scenes()
        ]
        return Segmentation(sets[0], sets[1], ("background", *world.SHAPES))

    def depth(self) -> Depth:
        sets = [
            Dense(
                self._dense_pictures(split),
                np.stack([world.render(scene, self.image_size).depth for scene in scenes]),
            )
            for split, scenes in self._dense_scenes()
        ]
        return Depth(sets[0], sets[1], "0 near to 1 background")

    def tracking(self) -> Tracking:
        return Tracking(f"{self.description} clips of {_NUM_FRAMES} frames", self.sizes.clips, self._clips)

    def _clips(self, start: int) -> Iterator[VideoMasks]:
        for index in range(start, self.sizes.clips):
            clip = world.sample_clip(
                self.seed * 10**6 + index, "validation", num_frames=_NUM_FRAMES, num_objects=2, kinds=_TRACKED
            )
            shown = world.render_clip_annotated(clip, self.image_size)
            pixels = _unit_range(shown.pixels)
            yield VideoMasks(f"clip {index}", pixels, (shown.owners + 1).astype(np.uint8))

    def _labelled(self, split: str, count: int) -> Labelled:
        items = list(world.zero_shot_scenes(split, count, seed=self.seed))
        labels = np.array([item.labels["shape"] for item in items], dtype=np.int64)
        return Labelled(self._pictures(f"labelled {split}", [item.scene for item in items]), labels)

    def _dense_scenes(self) -> list[tuple[str, list[world.Scene]]]:
        counts = {"train": self.sizes.dense_train, "validation": self.sizes.dense_test}
        return [(split, self._scenes(split, count)) for split, count in counts.items()]

    def _dense_pictures(self, split: str) -> Pictures:
        count = self.sizes.dense_train if split == "train" else self.sizes.dense_test
        return self._pictures(f"dense {split}", self._scenes(split, count))

    def _scenes(self, split: str, count: int) -> list[world.Scene]:
        seeds = range(self.seed * 10**6, self.seed * 10**6 + count)
        return [world.sample_scene(seed, split, layout="objects", text_fraction=0.0) for seed in seeds]

    def _pictures(self, name: str, scenes: Sequence[world.Scene]) -> Pictures:
        @functools.lru_cache(maxsize=64)
        def read(index: int) -> Tensor:
            return _unit_range(world.render_pixels(scenes[index], self.image_size)[None])[0]

        return Pictures(f"{self.description} {name}", len(scenes), read)


# A tracker is asked where an object is, so those that vanish, fade in or never change place or size are left out.
_TRACKED: tuple[world.clip.EventKind, ...] = (
    "moves left", "moves right", "moves up", "moves down", "grows", "shrinks", "bounces", "shakes",
)  # fmt: skip


def change_scene(scene: world.Scene, rng: np.random.Generator) -> world.Scene:
    """The same objects on another background, moved by up to a twentieth of the side and turned."""
    objects = tuple(
        replace(
            item,
            x=round(min(max(item.x + between(rng, -_SHIFT, _SHIFT), 0.0), 1.0), 5),
            y=round(min(max(item.y + between(rng, -_SHIFT, _SHIFT), 0.0), 1.0), 5),
            rotation=round(item.rotation + between(rng, -_TURN, _TURN), 3),
        )
        for item in scene.objects
    )
    return replace(scene, objects=objects, background=sample_background(rng, [item.colour for item in objects]))


def _shape_mask(scene: world.Scene, size: int) -> NDArray[np.uint8]:
    """(size, size): 0 for the background, 1 + the number of the shape elsewhere."""
    classes = np.array([0, *(1 + world.SHAPES.index(item.shape) for item in scene.objects)], dtype=np.uint8)
    mask: NDArray[np.uint8] = classes[world.render(scene, size).owners + 1]
    return mask


def _unit_range(pixels_FHWC: NDArray[np.uint8]) -> Tensor:
    """(F, H, W, 3) bytes to (F, 3, H, W) floats in [-1, 1]."""
    frames = channels_first(pixels_FHWC)
    return torch.flatten(plain(frames[None], frames.shape[-1]), 0, 1)
