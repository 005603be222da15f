"""A reader of captions, independent of the code that writes them: text in, claims out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest

from perceptic.world import COLOURS, SHAPES, SIZES, TEXTURES, Scene, SceneObject, holds

CANONICAL = {
    "medium-sized": "medium", "little": "small", "tiny": "small", "big": "large", "plain": "solid",
    "spotted": "dotted", "checked": "checkered", "disc": "circle", "moon": "crescent", "teardrop": "drop",
    "lightning bolt": "bolt",
}  # fmt: skip
RELATIONS = {
    "to the left of": "left of", "on the left of": "left of", "left of": "left of",
    "to the right of": "right of", "on the right of": "right of", "right of": "right of",
    "above": "above", "higher than": "above", "below": "below", "under": "below",
    "in front of": "in front of", "partly covering": "in front of",
    "behind": "behind", "partly hidden by": "behind",
    "inside": "inside", "within": "inside", "around": "around", "surrounding": "around",
}  # fmt: skip
NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6}


def _any_of(words: Iterable[str]) -> str:
    return "|".join(sorted(map(re.escape, words), key=len, reverse=True))


_SHAPE = _any_of([*SHAPES, "disc", "moon", "teardrop", "lightning bolt"])
PHRASE = re.compile(
    rf"(?:\b(?P<number>{_any_of(NUMBERS)}) )?"
    rf"(?:\b(?P<size>{_any_of([*SIZES, 'medium-sized', 'little', 'tiny', 'big'])}) )?"
    rf"(?:\b(?P<texture>{_any_of([*TEXTURES, 'plain', 'spotted', 'checked'])}) )?"
    rf"\b(?P<colour>{_any_of(COLOURS)}) (?P<shape>{_SHAPE})(?:es|s)?\b"
)
REFERENCE = rf"the (?:(?P<ref_colour>{_any_of(COLOURS)}) )?(?P<ref_shape>{_any_of(SHAPES)})\b"
RELATION = rf"(?P<relation>{_any_of(RELATIONS)})"


@dataclass(frozen=True)
class Mention:
    """One noun phrase: what it says of how many objects."""

    number: int
    attributes: dict[str, str]

    def matches(self, item: SceneObject) -> bool:
        return all(getattr(item, name) == value for name, value in self.attributes.items())


@dataclass(frozen=True)
class RelationClaim:
    """The object described by `first` stands in `relation` to the one described by `second`."""

    first: dict[str, str]
    relation: Any
    second: dict[str, str]

    def is_true(self, scene: Scene) -> bool:
        ones, others = (self._found(scene, described) for described in (self.first, self.second))
        return len(ones) == 1 and len(others) == 1 and holds(ones[0], self.relation, others[0])

    def _found(self, scene: Scene, described: dict[str, str]) -> list[SceneObject]:
        return [item for item in scene.objects if all(getattr(item, key) == value for key, value in described.items())]


class CaptionReader:
    """Reads the claims that a caption makes."""

    def mentions(self, text: str) -> list[Mention]:
        """Every noun phrase that names colour and shape, attributes under their canonical names."""
        return [
            Mention(NUMBERS.get(match["number"], 1), self._attributes(match)) for match in PHRASE.finditer(text.lower())
        ]

    def relations(self, text: str) -> list[RelationClaim]:
        """The relation to a named object in every sentence or list item of a long caption."""
        claims = []
        for part in re.split(r"\. |, |\.$", text.lower()):
            match = re.search(rf"{RELATION} {REFERENCE}", part)
            phrase = PHRASE.search(f"{part[: match.start()]},{part[match.end() :]}") if match else None
            if match and phrase:
                second = {"shape": match["ref_shape"], "colour": match["ref_colour"]}
                second = {name: value for name, value in second.items() if value}
                claims.append(RelationClaim(self._attributes(phrase), RELATIONS[match["relation"]], second))
        return claims

    def _attributes(self, match: re.Match[str]) -> dict[str, str]:
        said = {name: match[name] for name in ("size", "texture", "colour", "shape") if match[name]}
        return {name: CANONICAL.get(value, value) for name, value in said.items()}


@pytest.fixture(scope="session")
def reader() -> CaptionReader:
    return CaptionReader()
