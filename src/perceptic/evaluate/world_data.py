"""Data sets of the synthetic world, made in memory as the files of real ones: PNG and MP4 bytes with labels, captions.

Scenes and clips come from splits that training never draws; "heldout_pairs" has colour-shape pairs that training never
saw, in pixels or words.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal

from perceptic import world
from perceptic.evaluate.data_types import EvalData, EvalItem
from perceptic.evaluate.features import Medium
from perceptic.train.world_report import action_prompts

SIZE = 64
CaptionLength = Literal["long", "medium", "short"]
_SEEDS_APART = 10**6
_HELD = 8


def labelled_scenes(attribute: str, split: str, count: int, seed: int) -> EvalData:
    """One object in a picture; the label is its shape, colour, pair, texture or size. Pairs are balanced.

    Raises:
        ConfigError: unknown attribute or split.
    """
    prompts = dict(zip(world.CLASS_NAMES[attribute], map(tuple, world.prompts(attribute)), strict=True))
    items = [
        EvalItem(Medium(f"{split}-{seed}-{number:05d}.png", "image", partial(_same, content)), labels[attribute])
        for number, (content, labels) in enumerate(_scenes(split, count, seed))
    ]
    return EvalData(Path("world"), "world", tuple(items), tuple(prompts), prompts=prompts)


def captioned_scenes(split: str, count: int, seed: int, length: CaptionLength) -> EvalData:
    """Whole pictures of several objects with one caption each."""
    items = [
        EvalItem(Medium(f"{split}-{number}.png", "image", partial(_same, content)), captions=(getattr(told, length),))
        for number, content, told in _pictures(split, count, seed)
    ]
    return EvalData(Path("world"), "world", tuple(items))


def captioned_clips(split: str, count: int, seed: int, length: CaptionLength) -> EvalData:
    """Clips of one to three objects with one caption each."""
    items = [
        EvalItem(Medium(f"{split}-{number}.mp4", "video", partial(_same, content)), captions=(getattr(told, length),))
        for number, content, told in _clips(split, count, seed)
    ]
    return EvalData(Path("world"), "world", tuple(items))


def labelled_clips(label: Literal["event", "shape"], split: str, count: int, seed: int) -> EvalData:
    """One object that does one thing; the label is what it does, or its shape."""
    prompts: dict[str, tuple[str, ...]]
    if label == "event":
        prompts = {str(kind): tuple(action_prompts(kind)) for kind in world.EVENT_KINDS}
    else:
        prompts = dict(zip(world.CLASS_NAMES["shape"], map(tuple, world.prompts("shape")), strict=True))
    names = list(prompts)
    items = [
        EvalItem(
            Medium(f"{split}-single-{number}.mp4", "video", partial(_same, content)),
            names.index(event if label == "event" else shape),
        )
        for number, content, event, shape in _single_clips(split, count, seed)
    ]
    return EvalData(Path("world"), "world", tuple(items), tuple(names), prompts=prompts)


def _same(content: bytes) -> bytes:
    return content


@functools.lru_cache(maxsize=_HELD)
def _scenes(split: str, count: int, seed: int) -> tuple[tuple[bytes, dict[str, int]], ...]:
    found = world.zero_shot_scenes(split, count, seed=seed)
    return tuple((world.png_bytes(world.render_pixels(one.scene, SIZE)), one.labels) for one in found)


@functools.lru_cache(maxsize=_HELD)
def _pictures(split: str, count: int, seed: int) -> tuple[tuple[int, bytes, world.Captions], ...]:
    scenes = ((number, world.sample_scene(number, split)) for number in _numbers(count, seed))
    return tuple(
        (number, world.png_bytes(world.render_pixels(scene, SIZE)), world.captions(scene, number))
        for number, scene in scenes
    )


@functools.lru_cache(maxsize=_HELD)
def _clips(split: str, count: int, seed: int) -> tuple[tuple[int, bytes, world.Captions], ...]:
    clips = ((number, world.sample_clip(number, split)) for number in _numbers(count, seed))
    return tuple((number, _mp4(clip), world.clip_captions(clip, number)) for number, clip in clips)


@functools.lru_cache(maxsize=_HELD)
def _single_clips(split: str, count: int, seed: int) -> tuple[tuple[int, bytes, str, str], ...]:
    clips = (
        (number, world.sample_clip(number, split, num_objects=1, num_events=1)) for number in _numbers(count, seed)
    )
    return tuple((number, _mp4(clip), clip.events[0].kind, clip.scene.objects[0].shape) for number, clip in clips)


def _numbers(count: int, seed: int) -> Iterator[int]:
    yield from range(seed * _SEEDS_APART, seed * _SEEDS_APART + count)


def _mp4(clip: world.Clip) -> bytes:
    return world.mp4_bytes(world.render_clip(clip, SIZE), clip.frames_per_second)
