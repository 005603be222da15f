"""Exact captions of scenes at three lengths, in varied wording, with noise on purpose where asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from perceptic.world.caption_noise import CaptionNoise, misdescribe
from perceptic.world.chart_captions import chart_captions
from perceptic.world.randomness import chance, pick, seeded, shuffled
from perceptic.world.scene import Relation, Scene, SceneObject, location, main_relation
from perceptic.world.wording import (
    background_phrase,
    brief_noun_phrase,
    joined,
    noun_phrase,
    place_phrase,
    reference,
    relation_phrase,
    sentence,
    sign_phrase,
)

_OPENINGS: Final = ("", "", "a picture of ", "a photo of ", "an image of ", "an image with ", "a drawing of ")
MAX_LONG_TOKENS: Final = 58
"""Words and punctuation marks in a long caption; contexts of 64 tokens hold it with a vocabulary made for it."""
_TOKEN: Final = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Captions:
    """short: about 3 to 14 words, the main objects. medium: all objects, some details. long: every object's size,
    texture, colour, shape and text, how they stand to each other, the background and the sign; at most 58 words and
    punctuation marks."""

    short: str
    medium: str
    long: str


@dataclass(frozen=True, slots=True)
class Group:
    """Objects that look alike (usually one); `first` stands for them."""

    members: tuple[SceneObject, ...]

    @property
    def first(self) -> SceneObject:
        # The one that carries text, if any: it needs the words.
        return next((member for member in self.members if member.text), self.members[0])

    @property
    def count(self) -> int:
        return len(self.members)


def captions(scene: Scene, seed: int | np.random.Generator = 0, *, noise: CaptionNoise | None = None) -> Captions:
    """Describe a scene in words chosen by `seed`; with `noise`, described facts may be missing or wrong."""
    rng = seeded(seed, "captions")
    if scene.chart is not None:
        return Captions(*chart_captions(scene.chart, rng))
    if noise is not None:
        scene = misdescribe(scene, rng, noise)
    groups = [Group(members) for members in grouped(scene.objects)]
    ordered = shuffled(rng, groups)
    return Captions(_short(scene, ordered, rng), _medium(scene, ordered, rng), _long(scene, ordered, rng))


def label_caption(scene: Scene, seed: int | np.random.Generator = 0) -> str:
    """The first object's shape and nothing else, as pictures of a labelled collection are captioned: "a star"."""
    rng = seeded(seed, "label")
    item = replace(scene.objects[0], colour="")
    return pick(rng, _OPENINGS) + noun_phrase(item, rng, size=False, texture=False, text=False)


def count_tokens(text: str) -> int:
    """Words and punctuation marks of a text."""
    return len(_TOKEN.findall(text))


def grouped(objects: tuple[SceneObject, ...]) -> list[tuple[SceneObject, ...]]:
    """Objects of the same colour and shape together, in order of first appearance."""
    kinds: dict[tuple[str, str], list[SceneObject]] = {}
    for item in objects:
        kinds.setdefault((item.colour, item.shape), []).append(item)
    return [tuple(members) for members in kinds.values()]


def _short(scene: Scene, groups: list[Group], rng: np.random.Generator) -> str:
    size, texture = chance(rng, 0.3), chance(rng, 0.2)
    # Salient first: people name the large things.
    chosen = sorted(groups, key=lambda group: -group.first.radius * group.count)[: pick(rng, (2, 2, 3))]
    phrases = [_phrase(group, rng, size=size, texture=texture, text=chance(rng, 0.5)) for group in chosen]
    if scene.sign is not None and chance(rng, 0.5):
        return f'{joined(phrases[:2])} and the word "{scene.sign.text}"'
    if chance(rng, 0.25):
        return ", ".join(_without_article(phrase) for phrase in phrases)
    if len(groups) == 1 and chance(rng, 0.3):
        return f"{phrases[0]} on {background_phrase(scene.background, rng)}"
    return pick(rng, _OPENINGS) + joined(phrases)


def _medium(scene: Scene, groups: list[Group], rng: np.random.Generator) -> str:
    size, texture = chance(rng, 0.6), chance(rng, 0.6)
    phrases = [_phrase(group, rng, size=size, texture=texture, text=True) for group in groups]
    style = rng.random()
    related = _related_pair(groups)
    if related is not None and style < 0.5:
        first, second = related
        by_group = dict(zip(groups, phrases, strict=True))
        rest = [phrase for group, phrase in by_group.items() if group not in related]
        text = f"{by_group[first]} {_relation_words(first, second, rng)} {by_group[second]}"
        text += f", with {joined(rest)}" if rest else ""
    elif style < 0.75:
        text = joined([_placed(group, phrase, rng) for group, phrase in zip(groups, phrases, strict=True)])
    else:
        text = pick(rng, _OPENINGS) + joined(phrases)
    if chance(rng, 0.4):
        text += f" on {background_phrase(scene.background, rng)}"
    if scene.sign is not None and chance(rng, 0.9):
        text += f", with {sign_phrase(scene.sign, rng)}"
    return text if chance(rng, 0.4) else sentence(text)


def _long(scene: Scene, groups: list[Group], rng: np.random.Generator) -> str:
    text = _long_sentences(scene, groups, rng)
    return text if count_tokens(text) <= MAX_LONG_TOKENS else _long_list(scene, groups, rng)


def _long_sentences(scene: Scene, groups: list[Group], rng: np.random.Generator) -> str:
    parts = [_opening_sentence(groups[0], rng)]
    for index, group in enumerate(groups[1:], start=1):
        phrase = _phrase(group, rng, size=True, texture=True, text=True)
        anchor = _anchor(group, groups[:index])
        if anchor is None:
            parts.append(f"there {_are(group)} {_placed(group, phrase, rng)}")
            continue
        words, other = _relation_words(group, anchor, rng), _reference(anchor, groups)
        forms = (f"{phrase} is {words} {other}", f"{words} {other} is {phrase}", f"{words} {other} there is {phrase}")
        parts.append(pick(rng, forms))
    background = background_phrase(scene.background, rng)
    parts.append(pick(rng, (f"the picture has {background}", f"all on {background}", f"it has {background}")))
    if scene.sign is not None:
        sign = scene.sign
        forms_of_sign = (f'the {sign.place} reads "{sign.text}"', f'"{sign.text}" is written at the {sign.place}')
        parts.append(pick(rng, forms_of_sign))
    return " ".join(sentence(part) for part in parts)


def _long_list(scene: Scene, groups: list[Group], rng: np.random.Generator) -> str:
    """The same facts in the fewest words, for crowded scenes."""
    parts = []
    for index, group in enumerate(groups):
        phrase = brief_noun_phrase(group.first, group.count)
        anchor = _anchor(group, groups[:index])
        if anchor is not None:
            relation = _relation(group, anchor)
            phrase = f"{phrase} {relation} {_reference(anchor, groups)}"
        elif group.count == 1:
            phrase = f"{phrase} {location(group.first)}"
        parts.append(phrase)
    background = scene.background
    colours = " and ".join(dict.fromkeys((background.colour, background.second_colour)))
    parts.append(f"{background.pattern} {colours} background")
    if scene.sign is not None:
        parts.append(f'{scene.sign.place} reads "{scene.sign.text}"')
    return sentence(", ".join(parts))


def _opening_sentence(group: Group, rng: np.random.Generator) -> str:
    phrase = _phrase(group, rng, size=True, texture=True, text=True)
    if group.count > 1:
        return pick(rng, (f"there are {phrase}", f"the picture shows {phrase}", phrase))
    placed = f"{phrase} {place_phrase(group.first, rng)}"
    return pick(rng, (placed, f"there is {placed}", f"{phrase} is {place_phrase(group.first, rng)}"))


def _phrase(group: Group, rng: np.random.Generator, *, size: bool, texture: bool, text: bool) -> str:
    if group.count == 1:
        return noun_phrase(group.first, rng, size=size, texture=texture, text=text)
    phrase = noun_phrase(group.first, rng, size=size, texture=texture, text=False, count=group.count)
    # The count and the one with the text are separate facts.
    return f'{phrase}, one marked "{group.first.text}"' if text and group.first.text else phrase


def _placed(group: Group, phrase: str, rng: np.random.Generator) -> str:
    return f"{phrase} {place_phrase(group.first, rng)}" if group.count == 1 else phrase


def _related_pair(groups: list[Group]) -> tuple[Group, Group] | None:
    for first in groups:
        for second in groups:
            if first is not second and _relation(first, second) is not None:
                return first, second
    return None


def _anchor(group: Group, earlier: list[Group]) -> Group | None:
    """The group to relate to: one it touches if any, else the latest named one."""
    related = [other for other in reversed(earlier) if _relation(group, other) is not None]
    touching = [other for other in related if _relation(group, other) in ("inside", "around", "in front of", "behind")]
    return next(iter(touching or related), None)


def _relation(first: Group, second: Group) -> Relation | None:
    if first.count > 1 or second.count > 1:
        return None
    return main_relation(first.first, second.first)


def _relation_words(first: Group, second: Group, rng: np.random.Generator) -> str:
    relation = _relation(first, second)
    assert relation is not None, "only related groups are put into relation"
    return relation_phrase(relation, rng)


def _without_article(phrase: str) -> str:
    return phrase.removeprefix("a ").removeprefix("an ")


def _reference(group: Group, groups: list[Group]) -> str:
    return reference(group.first, [other.first for other in groups])


def _are(group: Group) -> str:
    return "are" if group.count > 1 else "is"
