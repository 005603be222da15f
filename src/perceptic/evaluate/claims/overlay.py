"""Claim 32: a drawn box suffices to ask about one thing among several."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from perceptic import world
from perceptic.evaluate.claims.claim import Claim, Quantity, SeedResult, Setting
from perceptic.evaluate.claims.language import BEGINS_WITH, Choice, Lesson, marks, scores_of, tuning, write_lessons
from perceptic.evaluate.claims.mini import trained
from perceptic.inference.sampling import GenerationOptions
from perceptic.media.boxes import Box, region_text
from perceptic.media.regions import draw_box
from perceptic.tasks.assistant import Assistant
from perceptic.tasks.media_parts import MediaPart
from perceptic.tasks.messages import ChatMessage
from perceptic.tasks.world_exam import SCORES
from perceptic.tasks.world_exam_items import SECTIONS, ExamItem, ExamWorld
from perceptic.world.randomness import pick, seeded

_SIZE = 64
_TRAIN, _TEST, _CLIPS = 3000, 100, 60
_SAMPLES, _BATCH = 10, 16
"""Pictures of a step, and questions answered together."""

_STROKE, _ROOM = 2, 3
"""Pixels of the outline, and between the object and the outer edge of it: a tight box would cover the object."""

_DRAWN = "What {} is the object in the red rectangle?"
_WRITTEN = "What {} is the object in the region {}?"
_KINDS = ("colour", "shape")


@dataclass(frozen=True)
class Pair:
    """A picture of two objects that differ in colour and in shape: pixels (S, S, 3), the objects and boxes around
    them."""

    pixels: NDArray[np.uint8]
    objects: tuple[world.SceneObject, world.SceneObject]
    boxes: tuple[Box, Box]

    @property
    def bare(self) -> bytes:
        """As a file."""
        return world.png_bytes(self.pixels)

    def boxed(self, which: int) -> bytes:
        """As a file, with a red rectangle around one of the objects."""
        frame = torch.from_numpy(self.pixels).permute(2, 0, 1)
        drawn = draw_box(frame, self.boxes[which], stroke_width=_STROKE)
        return world.png_bytes(drawn.permute(1, 2, 0).contiguous().numpy())

    def fact(self, kind: str, which: int) -> str:
        """ "colour" or "shape" of an object."""
        item = self.objects[which]
        return item.colour if kind == "colour" else item.shape


def pair_picture(index: int, split: str) -> Pair:
    """The picture of a number. Nothing in it is red but the rectangle."""
    rng = seeded(index, "pair picture", split)
    while True:
        scene = world.sample_scene(rng, split, layout="objects", num_objects=2, text_fraction=0.0)
        first, second = scene.objects
        if "red" in (first.colour, second.colour) or first.colour == second.colour or first.shape == second.shape:
            continue
        rendered = world.render(replace(scene, objects=(first, second)), _SIZE)
        boxes = [box for box in rendered.boxes if box is not None]
        if len(boxes) == 2:
            around = [_around(box) for box in boxes]
            return Pair(rendered.pixels, (first, second), (around[0], around[1]))


def _around(box: world.Box) -> Box:
    left, top, right, bottom = box.xyxy
    far = _SIZE - 1
    return Box(max(left - _ROOM, 0), max(top - _ROOM, 0), min(right + _ROOM, far), min(bottom + _ROOM, far))


def write_pairs(work: Path) -> Path:
    """The training sets "drawn" and "written": the same questions about the same objects, with the box drawn on the
    picture or its corners in the words."""
    return write_lessons(work / "language" / "pairs", _sets)


def _sets() -> Mapping[str, Iterable[Lesson]]:
    sets: dict[str, list[Lesson]] = {"drawn": [], "written": []}
    for index in range(_TRAIN):
        pair = pair_picture(index, "train")
        which = pick(seeded(index, "pair rows"), (0, 1))
        drawn = tuple((_drawn(kind), pair.fact(kind, which)) for kind in _KINDS)
        written = tuple((_written(kind, pair, which), pair.fact(kind, which)) for kind in _KINDS)
        sets["drawn"].append(Lesson("image", pair.boxed(which), drawn))
        sets["written"].append(Lesson("image", pair.bare, written))
    return sets


def _drawn(kind: str) -> str:
    return _DRAWN.format(kind)


def _written(kind: str, pair: Pair, which: int) -> str:
    return _WRITTEN.format(kind, region_text(pair.boxes[which], _SIZE, _SIZE))


DRAWN = tuning("drawn boxes", "drawn:1", write_pairs, chunks=1, samples=_SAMPLES)
WRITTEN = tuning("written boxes", "written:1", write_pairs, chunks=1, samples=_SAMPLES)


@functools.cache
def held_out_pairs() -> Mapping[str, tuple[Choice, ...]]:
    """Questions about both objects of pictures that training never draws, by how the object is pointed out: "drawn",
    "written", and "not at all", in the words of "drawn"."""
    asked: dict[str, list[Choice]] = {"drawn": [], "written": [], "not at all": []}
    for index in range(_TEST):
        pair = pair_picture(index, "validation")
        bare = MediaPart("image", pair.bare, f"pair-{index}.png")
        for which in (0, 1):
            boxed = MediaPart("image", pair.boxed(which), f"pair-{index}-{which}.png")
            for kind in _KINDS:
                answer = (pair.fact(kind, 0), pair.fact(kind, 1)), pair.fact(kind, which)
                asked["drawn"].append(Choice(boxed, _drawn(kind), *answer))
                asked["written"].append(Choice(bare, _written(kind, pair, which), *answer))
                asked["not at all"].append(Choice(bare, _drawn(kind), *answer))
    return {name: tuple(choices) for name, choices in asked.items()}


def run(seed: int, setting: Setting) -> SeedResult:
    """After tuning on drawn and on written boxes, and the bundled model's RCap with and without its boxes."""
    drawn, written = (trained(arm, seed, setting) for arm in (DRAWN, WRITTEN))
    held = held_out_pairs()
    found = {
        DRAWN.name: marks(drawn, {name: held[name] for name in ("drawn", "not at all")}),
        WRITTEN.name: marks(written, {"written": held["written"]}),
    }
    setting.on_progress("questions", 1, 2)
    named = rcap_named(seed)
    setting.on_progress("questions", 2, 2)
    pointed = found[DRAWN.name]["drawn"].right
    effects = {
        "answers that name one of the two objects": 100 - found[DRAWN.name]["drawn"].unread,
        "a drawn box above none": pointed - found[DRAWN.name]["not at all"].right,
        "a drawn box against a written one": pointed - found[WRITTEN.name]["written"].right,
        "bundled model's RCap, its box above none": named["with"] - named["without"],
    }
    scores = {f"bundled model's RCap names the object, {name} box": share for name, share in named.items()}
    return SeedResult(effects, {**scores_of(found), **scores})


def rcap_named(seed: int) -> dict[str, float]:
    """How often, in percent, the bundled model's caption of a boxed object's event names colour and shape of it, in
    clips of several objects, "with" the box and "without"."""
    assistant, section = Assistant.load(BEGINS_WITH), SECTIONS["rcap"]

    def in_company(source: ExamWorld, index: int) -> ExamItem | None:
        return section.make(source, index) if len(source.clip(index).scene.objects) > 1 else None

    items = replace(section, make=in_company).items(ExamWorld(), _CLIPS, seed)
    options = GenerationOptions(max_new_tokens=section.max_new_tokens)
    named = {}
    for name, parts in {
        "with": [item.part for item in items],
        "without": [replace(item.part, boxes=None) for item in items],
    }.items():
        conversations = [[ChatMessage.user(part, item.question)] for part, item in zip(parts, items, strict=True)]
        answers = assistant.generate_many(conversations, seeing=section.seeing, options=options, batch_size=_BATCH)
        right = [SCORES["names"](answer.text, item.wanted) for answer, item in zip(answers, items, strict=True)]
        named[name] = 100 * sum(right) / len(right)
    return named


CLAIM = Claim(
    number=32,
    title="A drawn box suffices to ask about a region",
    statement="PLM is asked about a region of a video by a red rectangle drawn on the frames, and describes it, "
    "says what happens in it and when (RCap 46.6, RTLoc 59.1 for the 8B), without any change of the model.",
    experiment="PLM-Nano goes on for 240 steps of 10 pictures of two objects and questions for the colour and "
    "shape of one of them, which a red rectangle shows, or (the other arm) its corners in words. Held out: both "
    f"objects of {_TEST} pictures; two answers each, one that is neither counts as a guess. Without a box both "
    f"objects get one answer, which is right for half of them. Beside it, the bundled model's RCap about {_CLIPS} "
    "clips of several objects, with and without the box it knows.",
    quantities=(
        Quantity("answers that name one of the two objects", "%", "above", 80.0, is_condition=True),
        Quantity("a drawn box above none", "points", "above", threshold=10.0),
        Quantity("a drawn box against a written one", "points", "above", decides=False),
        Quantity("bundled model's RCap, its box above none", "points", "above", decides=False),
    ),
    run=run,
    minutes=5.0,
    begins_with=BEGINS_WITH,
    caveats="Pictures, not clips, in the arms; nothing in them is red but the rectangle. 'Well above' means 10 "
    "points, fixed beforehand. The bundled model was trained with boxes in clips, so that their lack is new to it.",
)
