"""Questions about objects: whether, which, how many, where, and what is written on them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set

import numpy as np

from perceptic.world.captioning import grouped
from perceptic.world.question import Question, yes_no
from perceptic.world.randomness import chance, pick
from perceptic.world.sampling import allowed_pairs
from perceptic.world.scene import OPPOSITES, Relation, Scene, SceneObject, location, main_relation
from perceptic.world.vocabulary import BACKGROUND_COLOURS, COLOURS, SHAPES, SIZES, TEXTURES, Split
from perceptic.world.wording import NUMBERS, plural, with_article

_RELATION_PHRASES: dict[Relation, str] = {
    "left of": "to the left of", "right of": "to the right of", "above": "above", "below": "below",
    "in front of": "in front of", "behind": "behind", "inside": "inside", "around": "around",
}  # fmt: skip
_COUNTS = tuple(str(number) for number in range(7))


def scene_questions(scene: Scene, rng: np.random.Generator) -> list[Question]:
    """All questions of a scene that shows objects."""
    kinds = grouped(scene.objects)
    found = [existence_question(scene.objects, scene.split, rng), *_counts(scene, rng)]
    for members in kinds:
        found += _attributes(scene, members)
        if len(members) == 1:
            found.append(_location(scene, members[0]))
    single = [members[0] for members in kinds if len(members) == 1]
    for first in single:
        for second in single:
            if first is not second:
                found += _relation(scene, first, second, rng)
    return found + _reading(scene) + _background(scene)


def existence_question(objects: Sequence[SceneObject], split: Split, rng: np.random.Generator) -> Question:
    """Is there such an object? Half the answers are no; half of those share a colour or shape with what is there."""
    present = {(item.colour, item.shape) for item in objects}
    truth = chance(rng, 0.5)
    if truth:
        colour, shape = pick(rng, sorted(present))
    else:
        absent, tempting = absent_pairs(present, split)
        colour, shape = pick(rng, tempting if tempting and chance(rng, 0.5) else absent)
    return yes_no("existence", f"Is there {with_article(f'{colour} {shape}')}?", truth)


def absent_pairs(present: Set[tuple[str, str]], split: Split) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The colour-shape pairs of a split that a scene lacks; and those of them that share a word with what it has."""
    absent = [pair for pair in allowed_pairs(split) if pair not in present]
    tempting = [pair for pair in absent if any(pair[0] == here[0] or pair[1] == here[1] for here in present)]
    return absent, tempting


def counted(objects: Sequence[SceneObject], shapes: Iterable[str], colours: Iterable[str]) -> list[tuple[str, int]]:
    """Each shape and colour as `count_question` calls its objects, and how many there are."""
    told = [(plural(shape), sum(item.shape == shape for item in objects)) for shape in shapes]
    return told + [(f"{colour} objects", sum(item.colour == colour for item in objects)) for colour in colours]


def name(item: SceneObject) -> str:
    """ "the red star": unique, because colour-shape pairs are."""
    return f"the {item.colour} {item.shape}"


def _attributes(scene: Scene, members: tuple[SceneObject, ...]) -> list[Question]:
    item, index = members[0], scene.objects.index(members[0])
    several = len(members) > 1
    verb, noun = ("are", plural(item.shape)) if several else ("is", item.shape)
    same_shape = sum(other.shape == item.shape for other in scene.objects)
    same_colour = sum(other.colour == item.colour for other in scene.objects)
    found = []
    if same_shape == len(members):
        found.append(Question("colour", f"What colour {verb} the {noun}?", item.colour, tuple(COLOURS), index))
    if same_colour == len(members):
        thing = "objects" if several else "object"
        found.append(Question("shape", f"What shape {verb} the {item.colour} {thing}?", item.shape, SHAPES, index))
    if len({member.size for member in members}) == 1:
        question = f"What size {verb} the {item.colour} {noun}?"
        found.append(Question("size", question, item.size, tuple(SIZES), index))
    if len({member.texture for member in members}) == 1:
        question = f"What texture {'do' if several else 'does'} the {item.colour} {noun} have?"
        found.append(Question("texture", question, item.texture, TEXTURES, index))
    return found


def _counts(scene: Scene, rng: np.random.Generator) -> list[Question]:
    shape = pick(rng, scene.objects).shape if chance(rng, 0.8) else pick(rng, SHAPES)
    colour = pick(rng, scene.objects).colour if chance(rng, 0.8) else pick(rng, tuple(COLOURS))
    told = [("objects", len(scene.objects)), *counted(scene.objects, [shape], [colour])]
    return [count_question(things, number) for things, number in told]


def count_question(things: str, number: int) -> Question:
    """How many there are of "rings", "red objects" or "objects"."""
    assert number < len(NUMBERS), "scenes hold at most six objects"
    return Question("count", f"How many {things} are there?", str(number), _COUNTS)


def _location(scene: Scene, item: SceneObject) -> Question:
    places = ("top left", "top", "top right", "left", "centre", "right", "bottom left", "bottom", "bottom right")
    question = f"Where in the picture is {name(item)}?"
    return Question("location", question, location(item), places, scene.objects.index(item))


def _relation(scene: Scene, first: SceneObject, second: SceneObject, rng: np.random.Generator) -> list[Question]:
    true = main_relation(first, second)
    if true is None:
        return []
    index = scene.objects.index(first)
    truth = chance(rng, 0.5)
    asked = _RELATION_PHRASES[true if truth else OPPOSITES[true]]
    found = [yes_no("relation", f"Is {name(first)} {asked} {name(second)}?", truth, index)]
    choices = (true, OPPOSITES[true]) if chance(rng, 0.5) else (OPPOSITES[true], true)
    one, other = (_RELATION_PHRASES[choice] for choice in choices)
    question = f"Is {name(first)} {one} or {other} {name(second)}?"
    found.append(Question("relation", question, true, choices, index))
    return found


def _reading(scene: Scene) -> list[Question]:
    found = []
    for index, item in enumerate(scene.objects):
        if item.text:
            kind = "word" if len(item.text) > 1 else "number" if item.text.isdigit() else "letter"
            found.append(Question("reading", f"What {kind} is on {name(item)}?", item.text, (), index))
    if scene.sign is not None:
        found.append(Question("reading", f"What word is written at the {scene.sign.place}?", scene.sign.text))
    return found


def _background(scene: Scene) -> list[Question]:
    if scene.background.pattern != "plain":
        return []
    choices = tuple(BACKGROUND_COLOURS)
    return [Question("background", "What colour is the background?", scene.background.colour, choices)]
