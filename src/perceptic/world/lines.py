"""Training rows of one long line: what each object of a picture is like, and where it is in the frames of a clip.

A question has an answer of a word or two behind three times as many words of template. A line says a dozen things about
one picture or clip in random order, so that none can be guessed from the one before: a small model learns to look
things up from lines, and from questions that they can be asked for (docs/plm-nano.md).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import numpy as np

from perceptic.world.acts import told_frames
from perceptic.world.clip import Clip, scene_at
from perceptic.world.drills import about
from perceptic.world.places import place_words
from perceptic.world.plm_rows import Row
from perceptic.world.randomness import chance, pick, shuffled
from perceptic.world.scene import Scene
from perceptic.world.tellings import image_words
from perceptic.world.words import VISIBLE, colour_now, told_apart

GONE: Final = "gone"


def image_names_row(path: str, scene: Scene, rng: np.random.Generator) -> Row | None:
    """What each object is like: colour, shape, column, row and in half of the rows size and texture, in any order; None
    for a chart."""
    if not scene.objects:
        return None
    with_looks = chance(rng, 0.5)
    things = [shuffled(rng, image_words(item, with_looks=with_looks)) for item in scene.objects]
    return _line("image", path, "What is each object like?", [" ".join(thing) for thing in shuffled(rng, things)])


def video_places_row(path: str, clip: Clip, rng: np.random.Generator) -> Row | None:
    """Every place that an object has, or that it is gone or not there yet, each in one of the frames that show it, in
    random order; None if all look like another.

    Of an object told in all its frames one learns to copy: most of them are like one that was told before.
    """
    numbers: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number, frame in enumerate(told_frames(clip)):
        objects = scene_at(clip, frame).objects
        for index in told_apart(objects):
            item = objects[index]
            place = place_words(item) if item.opacity >= VISIBLE else GONE
            numbers[f"{colour_now(item)} {item.shape}", place].append(number)
    told = [f"{pick(rng, found)} {name} {place}" for (name, place), found in numbers.items()]
    return _line("video", path, "Where is what in each frame?", shuffled(rng, told)) if told else None


def _line(medium: str, path: str, ask: str, told: Sequence[str]) -> Row:
    return {medium: path, "conversations": about(medium, [(ask, ", ".join(told))])}
