"""Claim 31: more frames help questions about videos, more tiles help reading, and neither helps what needs none."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from perceptic import world
from perceptic.evaluate.claims.claim import Claim, Curve, Quantity, SeedResult, Setting
from perceptic.evaluate.claims.language import (
    BEGINS_WITH,
    Choice,
    Lesson,
    Marks,
    marks,
    scores_of,
    tuning,
    write_lessons,
)
from perceptic.evaluate.claims.mini import trained
from perceptic.evaluate.claims.targeted import (
    COLOUR,
    GUESSING,
    NUM_FRAMES,
    NUM_SEEN,
    SAMPLES,
    WITH_TIMED,
    held_out_moves,
    seeing_moves,
)
from perceptic.tasks.media_parts import MediaPart
from perceptic.tasks.seeing import Seeing
from perceptic.world.randomness import between, pick, seeded, shuffled
from perceptic.world.sampling import sample_background

_SIZE = 128
"""Of pictures: four tiles of the model's 64 pixels."""
_TRAIN, _TEST = 2000, 200
_SAMPLES = 6
_RADIUS = 0.13
_LETTERS = tuple("BCEHKLOSTX")
"""No "A", which an answer in words may begin with."""
_READ = "What letter is on the object?"


@dataclass(frozen=True)
class Lettered:
    """A picture of a square with a letter that lies within a quarter: in four tiles one shows all of it."""

    item: world.SceneObject
    png: bytes


def lettered(index: int, split: str) -> Lettered:
    """The picture of a number."""
    rng = seeded(index, "lettered", split)
    scene = world.sample_scene(rng, split, layout="single", text_fraction=0.0)
    x, y = (round(pick(rng, (0.25, 0.75)) + between(rng, -0.08, 0.08), 5) for _ in range(2))
    colour = pick(rng, [colour for colour, shape in world.SEEN_PAIRS if shape == "square"])
    plain = replace(scene.objects[0], shape="square", colour=colour, texture="solid", radius=_RADIUS)
    item = replace(plain, text=pick(rng, _LETTERS), x=x, y=y)
    shown = replace(scene, objects=(item,), background=sample_background(rng, [colour]))
    return Lettered(item, world.png_bytes(world.render_pixels(shown, _SIZE)))


def write_letters(work: Path) -> Path:
    """The training set "letters"."""
    return write_lessons(work / "language" / "letters", _sets)


def _sets() -> Mapping[str, Iterable[Lesson]]:
    lessons = []
    for index in range(_TRAIN):
        picture = lettered(index, "train")
        turns = shuffled(seeded(index, "letter rows"), [(_READ, picture.item.text), (COLOUR, picture.item.colour)])
        lessons.append(Lesson("image", picture.png, tuple(turns)))
    return {"letters": lessons}


_FEW, _MANY = 2, NUM_FRAMES
SEEING_FRAMES = {
    _FEW: seeing_moves(f"{_FEW} frames", "generic:1,timed:1", _FEW),
    NUM_SEEN: WITH_TIMED,
    _MANY: seeing_moves(f"{_MANY} frames", "generic:1,timed:1", _MANY),
}
ONE_CHUNK = tuning("one chunk", "letters:1", write_letters, chunks=1, samples=_SAMPLES)
TILED = tuning(
    "four tiles",
    "letters:1",
    write_letters,
    chunks=5,
    samples=_SAMPLES,
    stage=["vision_input_type=thumb+tile", "max_num_tiles=4"],
)


@functools.cache
def held_out_letters() -> Mapping[str, tuple[Choice, ...]]:
    """Questions "letter" and "colour" about pictures that training never draws."""
    pictures = [lettered(index, "validation") for index in range(_TEST)]
    parts = [MediaPart("image", picture.png, f"letter-{index}.png") for index, picture in enumerate(pictures)]
    shown = list(zip(parts, pictures, strict=True))
    return {
        "letter": tuple(Choice(part, _READ, _LETTERS, picture.item.text) for part, picture in shown),
        "colour": tuple(Choice(part, COLOUR, tuple(world.COLOURS), picture.item.colour) for part, picture in shown),
    }


def run(seed: int, setting: Setting) -> SeedResult:
    """Arms of 2, 4 and 8 frames on the clips of claim 30, and of one chunk and four tiles on letters."""
    found: dict[str, dict[str, Marks]] = {}
    clips = {kind: held_out_moves()[kind] for kind in ("timed", "colour")}
    for count, arm in SEEING_FRAMES.items():
        found[f"{count} frames"] = marks(trained(arm, seed, setting), clips)
    for arm in (ONE_CHUNK, TILED):
        found[arm.name] = marks(trained(arm, seed, setting), held_out_letters())
    most, timed = trained(SEEING_FRAMES[_MANY], seed, setting), {"timed": clips["timed"]}
    shown = {count: marks(most, timed, Seeing(num_frames=count))["timed"].right for count in (1, _FEW, NUM_SEEN)}
    shown[_MANY] = found[f"{_MANY} frames"]["timed"].right
    return SeedResult(_effects(found), scores_of(found), _curves(found, shown))


def _effects(found: Mapping[str, Mapping[str, Marks]]) -> dict[str, float]:
    def gain(more: str, fewer: str, kind: str) -> float:
        return found[more][kind].right - found[fewer][kind].right

    frames, tiles = (f"{_MANY} frames", f"{_FEW} frames"), (TILED.name, ONE_CHUNK.name)
    timed, letter = gain(*frames, "timed"), gain(*tiles, "letter")
    flat = gain(*frames, "colour"), gain(*tiles, "colour")
    return {
        "times in clips with 8 frames, above guessing": found[frames[0]]["timed"].right - GUESSING,
        "letters with four tiles, above guessing": found[tiles[0]]["letter"].right - 100 / len(_LETTERS),
        "times in clips, 8 frames above 2": timed,
        "letters, four tiles above one chunk": letter,
        "both gains above those in colours, mean": (timed + letter - sum(flat)) / 2,
        "times in clips, 4 frames above 2": gain(f"{NUM_SEEN} frames", f"{_FEW} frames", "timed"),
        "colours in clips, 8 frames against 2": flat[0],
        "colours of lettered objects, four tiles against one chunk": flat[1],
    }


def _curves(found: Mapping[str, Mapping[str, Marks]], shown: Mapping[int, float]) -> tuple[Curve, ...]:
    trained_with = tuple(SEEING_FRAMES)
    axis = tuple(map(float, trained_with))
    learned = {
        f"{kind}, trained with as many": tuple(found[f"{count} frames"][kind].right for count in trained_with)
        for kind in ("timed", "colour")
    }
    return (
        *(Curve(name, axis, values) for name, values in learned.items()),
        Curve(f"timed, trained with {_MANY}", tuple(map(float, shown)), tuple(shown.values())),
    )


CLAIM = Claim(
    number=31,
    title="More frames help questions about time, more tiles help reading",
    statement="16 instead of 8 tiles or frames steepen the fall of error over compute for video (exponent -0.13 to "
    "-0.15) and OCR questions (-0.26 to -0.28); questions about natural pictures do not care (-0.13, -0.12).",
    experiment=f"PLM-Nano goes on for 240 steps: with 2, 4 or 8 frames of {SAMPLES} clips a step on the timed and "
    "generic rows of claim 30 (in which half of the clip does the object appear?), and with one chunk or a "
    f"thumbnail and four tiles of {_SAMPLES} pictures a step, {_SIZE} px of a small object with one of ten letters. "
    f"Held out: {_TEST} such pictures and the clips of claim 30. Effects: more minus fewer, there and for the "
    "colour of the object.",
    quantities=(
        Quantity("times in clips with 8 frames, above guessing", "points", "above", 10.0, is_condition=True),
        Quantity("letters with four tiles, above guessing", "points", "above", 10.0, is_condition=True),
        Quantity("times in clips, 8 frames above 2", "points", "above", threshold=5.0),
        Quantity("letters, four tiles above one chunk", "points", "above", threshold=5.0),
        Quantity("both gains above those in colours, mean", "points", "above"),
        Quantity("times in clips, 4 frames above 2", "points", "above", decides=False),
        Quantity("colours in clips, 8 frames against 2", "points", "equal", margin=5.0, decides=False),
        Quantity(
            "colours of lettered objects, four tiles against one chunk", "points", "equal", margin=5.0, decides=False
        ),
    ),
    run=run,
    minutes=9.0,
    begins_with=BEGINS_WITH,
    caveats="A level after one length of training, not an exponent over compute, and no second encoder. Two frames "
    "cannot show what is asked, so the first effect says whether the model uses the others. The arms see equally "
    "many samples, so more frames or tiles take more compute. All begin with the bundled model, which knows 8 "
    "frames and one chunk.",
    curve_axes=("frames", "right answers, % (timed: 50 is guessing)"),
)
