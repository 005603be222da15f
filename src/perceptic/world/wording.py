"""Phrases: how objects, relations, places, backgrounds and texts are put into words.

Wording varies; what is said never does. The canonical name of each attribute is its most frequent wording.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np

from perceptic.world.randomness import chance, pick
from perceptic.world.scene import Background, Relation, SceneObject, Sign, location

SYNONYMS: Final = {
    "small": ("little", "tiny"),
    "medium": ("medium-sized",),
    "large": ("big",),
    "solid": ("plain",),
    "dotted": ("spotted",),
    "checkered": ("checked",),
    "circle": ("disc",),
    "crescent": ("moon",),
    "drop": ("teardrop",),
    "bolt": ("lightning bolt",),
}
"""Other wordings of a size, texture or shape."""

NUMBERS: Final = ("no", "one", "two", "three", "four", "five", "six")
_SYNONYM_SHARE: Final = 0.2

RELATION_WORDS: Final[dict[Relation, tuple[str, ...]]] = {
    "left of": ("to the left of", "left of", "on the left of"),
    "right of": ("to the right of", "right of", "on the right of"),
    "above": ("above", "higher than"),
    "below": ("below", "under"),
    "in front of": ("in front of", "partly covering"),
    "behind": ("behind", "partly hidden by"),
    "inside": ("inside", "within"),
    "around": ("around", "surrounding"),
}


def noun_phrase(
    item: SceneObject, rng: np.random.Generator, *, size: bool, texture: bool, text: bool, count: int = 1
) -> str:
    """ "a small striped red star"; with `count` above 1 "three ... stars". An empty attribute is left out."""
    words = [
        _worded(item.size, rng) if size else "",
        _worded(item.texture, rng) if texture else "",
        item.colour,
        _worded(item.shape, rng) if item.shape else "shape",
    ]
    if count > 1:
        words[-1] = plural(words[-1])
    phrase = " ".join(word for word in words if word)
    phrase = f"{NUMBERS[count]} {phrase}" if count > 1 else with_article(phrase)
    return f"{phrase} {text_phrase(item.text, rng)}" if text and item.text else phrase


def brief_noun_phrase(item: SceneObject, count: int = 1) -> str:
    """Every attribute under its canonical name in the fewest words: 'small striped red star marked "A"'."""
    noun = item.shape or "shape"
    words = [
        NUMBERS[count] if count > 1 else "",
        item.size,
        item.texture,
        item.colour,
        plural(noun) if count > 1 else noun,
    ]
    phrase = " ".join(word for word in words if word)
    return f'{phrase} {"one " if count > 1 else ""}marked "{item.text}"' if item.text else phrase


def text_phrase(text: str, rng: np.random.Generator) -> str:
    """'with the word "CAT" on it' and the like."""
    kind = "word" if len(text) > 1 else "number" if text.isdigit() else "letter"
    return pick(rng, (f'with the {kind} "{text}" on it', f'marked "{text}"', f'labelled "{text}"'))


def reference(item: SceneObject, others: Sequence[SceneObject]) -> str:
    """ "the star" where only one object has that shape, else "the red star"."""
    alone = not any(other.shape == item.shape for other in others if other is not item)
    name = item.shape or "shape"
    return f"the {name}" if alone or not item.colour else f"the {item.colour} {name}"


def relation_phrase(relation: Relation, rng: np.random.Generator) -> str:
    """One of the wordings of a relation, to stand between two noun phrases."""
    return pick(rng, RELATION_WORDS[relation])


def place_phrase(item: SceneObject, rng: np.random.Generator) -> str:
    """ "in the top left", "at the bottom", "in the centre", ..."""
    place = location(item)
    if place == "centre":
        return pick(rng, ("in the centre", "in the middle"))
    if " " in place:
        return pick(rng, (f"in the {place}", f"in the {place} corner"))
    return pick(rng, (f"at the {place}", f"near the {place} edge")) if place in ("top", "bottom") else f"on the {place}"


def background_phrase(background: Background, rng: np.random.Generator) -> str:
    """ "a light grey background", "a striped background of cream and lilac"."""
    if background.pattern == "plain":
        return f"a {background.colour} background"
    colours = f"{background.colour} and {background.second_colour}"
    if background.pattern == "gradient":
        return pick(rng, (f"a background fading between {colours}", f"a gradient background of {colours}"))
    return f"a {background.pattern} background of {colours}"


def sign_phrase(sign: Sign, rng: np.random.Generator) -> str:
    """'the word "FOX" at the top', to stand after "with"."""
    return pick(
        rng, (f'the word "{sign.text}" at the {sign.place}', f'a sign saying "{sign.text}" at the {sign.place}')
    )


def with_article(phrase: str) -> str:
    """Put "a" or "an" in front."""
    return f"an {phrase}" if phrase[0] in "aeio" or phrase.startswith("hourglass") else f"a {phrase}"


def plural(noun: str) -> str:
    """Several of the last word of `noun`."""
    return noun + ("es" if noun.endswith("s") else "s")


def joined(phrases: Sequence[str]) -> str:
    """ "a, b and c"."""
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def sentence(text: str) -> str:
    """Capital first letter and a full stop."""
    return text[0].upper() + text[1:] + "."


_FLIPS: Final = {
    "left": "right", "right": "left", "leftwards": "rightwards", "rightwards": "leftwards",
    "clockwise": "anticlockwise", "anticlockwise": "clockwise",
}  # fmt: skip
_FLIP_PATTERN: Final = re.compile(r"\b(" + "|".join(_FLIPS) + r")\b", re.IGNORECASE)


def flip_caption(text: str) -> str:
    """The caption of the mirrored picture: left and right (and the senses of rotation) change places.

    Only for scenes and clips that are flip-safe: letters and charts do not survive mirroring.
    """
    return _FLIP_PATTERN.sub(_flipped_word, text)


def _flipped_word(match: re.Match[str]) -> str:
    word = match.group(0)
    flipped = _FLIPS[word.lower()]
    return flipped.capitalize() if word[0].isupper() else flipped


def _worded(name: str, rng: np.random.Generator) -> str:
    if name in SYNONYMS and chance(rng, _SYNONYM_SHARE):
        return pick(rng, SYNONYMS[name])
    return name
