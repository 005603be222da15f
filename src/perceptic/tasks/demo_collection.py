"""The demo's own pictures and clips: scenes of the synthetic world whose every truth is known.

Each question is given a few pictures that answer it among many that do not; the words of training never include the
unseen colour-shape pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import Literal

import numpy as np

from perceptic import world
from perceptic.files import write_bytes
from perceptic.world.encoding import mp4_bytes, png_bytes
from perceptic.world.wording import with_article

SIZE = 128
_NUM_SCENES = 60
_NUM_CLIPS = 12
_NUM_ANSWERS = 4
_MAX_CANDIDATES = 5_000  # about one in seventy answers; a world without answers must not be searched for ever
_NUM_LABELLED = 96


@dataclass(frozen=True)
class DemoItem:
    """One file of the collection and what it shows; `labels` (attribute -> class) only on single-object pictures."""

    path: Path
    kind: Literal["image", "video"]
    caption: str
    shown: world.Scene | world.Clip
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def unseen(self) -> bool:
        """Whether a colour-shape pair is in it that training never shows."""
        scene = self.shown.scene if isinstance(self.shown, world.Clip) else self.shown
        return scene.split == "heldout_pairs"


Truth = Callable[[world.Scene | world.Clip], bool]


@dataclass(frozen=True)
class DemoQuestion:
    """A text query, what it tries, and which items answer it."""

    text: str
    tries: str
    is_answer: Truth


def questions() -> list[DemoQuestion]:
    """Six queries, from the plain to the hard."""
    colour, shape = sorted(world.HELDOUT_PAIRS)[0]
    star, heart = (next(c for c, s in world.SEEN_PAIRS if s == shape) for shape in ("star", "heart"))
    return [
        DemoQuestion(with_article(f"{star} star"), "colour and shape", _has_object(star, "star")),
        DemoQuestion(
            with_article(f"{colour} {shape}"),
            "a colour-shape pair that training never shows",
            _has_object(colour, shape),
        ),
        DemoQuestion("three hearts", "counting", _has_count("heart", 3)),
        DemoQuestion('the word "CAT"', "reading", _reads("CAT")),
        DemoQuestion("a star inside a square", "relation", _has_inside("star", "square")),
        DemoQuestion(f"a heart changes colour to {heart}", "video: an event", _has_colour_change("heart", heart)),
    ]


def make_collection(folder: Path, seed: int = 0) -> list[DemoItem]:
    """Write about 200 PNG pictures and MP4 clips and say what each shows. Same seed, same files.

    Raises:
        OutputError: the folder cannot be written.
    """
    rng = np.random.default_rng(seed)
    shown = [*_scenes_and_clips(seed)]
    order = rng.permutation(len(shown))
    items = [_write(folder, number, shown[index], seed) for number, index in enumerate(order)]
    return items + list(_labelled_items(folder, seed))


def _scenes_and_clips(seed: int) -> Iterator[world.Scene | world.Clip]:
    yield from (world.sample_scene(_seed(seed, number), "validation") for number in range(_NUM_SCENES))
    yield from (world.sample_clip(_seed(seed, number), "validation") for number in range(_NUM_CLIPS))
    for question, candidates in zip(questions(), _candidates(seed), strict=True):
        yield from islice(filter(question.is_answer, islice(candidates, _MAX_CANDIDATES)), _NUM_ANSWERS)


def _candidates(seed: int) -> list[Iterator[world.Scene | world.Clip]]:
    """Endless scenes or clips for each question, of the kind in which its answer occurs."""
    numbers = [count(_seed(seed, 10_000 * place)) for place in range(1, 7)]
    return [
        (world.sample_scene(n, "validation", layout="objects") for n in numbers[0]),
        (world.sample_scene(n, "heldout_pairs", layout="objects") for n in numbers[1]),
        (world.sample_scene(n, "validation", layout="group") for n in numbers[2]),
        (world.sample_scene(n, "validation", text_fraction=1.0) for n in numbers[3]),
        (world.sample_scene(n, "validation", layout="inside") for n in numbers[4]),
        (world.sample_clip(n, "validation", kinds=["changes colour"]) for n in numbers[5]),
    ]


def _labelled_items(folder: Path, seed: int) -> Iterator[DemoItem]:
    for split in ("validation", "heldout_pairs"):
        for number, labelled in enumerate(world.zero_shot_scenes(split, _NUM_LABELLED // 2, seed=seed)):
            path = folder / f"single-{split}-{number:03d}.png"
            _write_picture(path, labelled.scene)
            labels = {name: world.CLASS_NAMES[name][labelled.labels[name]] for name in ("colour", "shape")}
            caption = with_article(f"{labels['colour']} {labels['shape']}")
            yield DemoItem(path, "image", caption, labelled.scene, labels)


def _write(folder: Path, number: int, shown: world.Scene | world.Clip, seed: int) -> DemoItem:
    words_seed = _seed(seed, number)
    if isinstance(shown, world.Clip):
        path = folder / f"clip-{number:03d}.mp4"
        write_bytes(path, mp4_bytes(world.render_clip(shown, SIZE), shown.frames_per_second))
        return DemoItem(path, "video", world.clip_captions(shown, words_seed).medium, shown)
    path = folder / f"scene-{number:03d}.png"
    _write_picture(path, shown)
    return DemoItem(path, "image", world.captions(shown, words_seed).medium, shown)


def _write_picture(path: Path, scene: world.Scene) -> None:
    write_bytes(path, png_bytes(world.render_pixels(scene, SIZE)))


def _seed(seed: int, number: int) -> int:
    # Far from the small numbers that training and its checks count up from.
    return 1_000_000_000 + 1_000_000 * seed + number


def _frames(shown: world.Scene | world.Clip) -> Iterator[world.Scene]:
    """The scenes that are seen: one for a picture; first and last moment and every event for a clip."""
    if isinstance(shown, world.Scene):
        yield shown
        return
    moments = {0, shown.num_frames - 1, *(event.end_frame for event in shown.events)}
    yield from (world.scene_at(shown, min(moment, shown.num_frames - 1)) for moment in sorted(moments))


def _has_object(colour: str, shape: str) -> Truth:
    return lambda shown: any(
        (item.colour, item.shape) == (colour, shape) and item.opacity > 0
        for scene in _frames(shown)
        for item in scene.objects
    )


def _has_count(shape: str, number: int) -> Truth:
    return lambda shown: any(
        sum(item.shape == shape and item.opacity > 0 for item in scene.objects) == number for scene in _frames(shown)
    )


def _reads(word: str) -> Truth:
    return lambda shown: any(word in scene.texts for scene in _frames(shown))


def _has_inside(inner: str, outer: str) -> Truth:
    return lambda shown: any(
        world.holds(first, "inside", second)
        for scene in _frames(shown)
        for first in scene.objects
        for second in scene.objects
        if first is not second and (first.shape, second.shape) == (inner, outer)
    )


def _has_colour_change(shape: str, colour: str) -> Truth:
    return lambda shown: (
        isinstance(shown, world.Clip)
        and any(
            event.kind == "changes colour" and event.before.shape == shape and event.after.colour == colour
            for event in shown.events
        )
    )
