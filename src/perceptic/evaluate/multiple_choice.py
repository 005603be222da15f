"""Which lettered option an answer names: the rules of the public benchmarks (datasets-and-benchmarks 5.3).

| rule              | of                                 | reads                                                       |
|-------------------|------------------------------------|-------------------------------------------------------------|
| `first_character` | SEED                               | the first character, whatever follows                       |
| `leading_letter`  | AI2D                               | `B. ...` is B; else the whole answer must be the letter     |
| `first_letter`    | BLINK, CV-Bench, video benchmarks  | the first `(B)`, or the first capital that stands alone     |
| `mmmu`            | MMMU                               | `(B)`, else `B `, else `B.`, else a text; of several the    |
|                   |                                    | last; of none a random one                                  |
| `clean`           | none; for your own sets            | one letter marked as such, or the text of one option        |
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np

from perceptic.errors import ConfigError
from perceptic.metrics import parse_choice

ChoiceRule = Literal["first_character", "leading_letter", "first_letter", "mmmu", "clean"]
LETTERS = string.ascii_uppercase
_MARKED = re.compile(r"\(([A-Z])\)|(?<![A-Za-z'])([A-Z])(?![A-Za-z'])")
_LEADING = re.compile(r"\s*([A-Z])\.")
_MMMU_MARKS = ",.!?;:'"
_MMMU_WORDS = 5


def choose(answer: str, options: Sequence[str], rule: ChoiceRule = "clean", seed: int = 0) -> str | None:
    """The letter that an answer names, or None.

    Args:
        options: their texts, in the order A, B, ...
        seed: of the choice that MMMU makes where an answer names none.

    Raises:
        ConfigError: an unknown rule, or fewer than 2 or more than 26 options.
    """
    if rule not in get_args(ChoiceRule):
        raise ConfigError(f"rule must be one of {', '.join(get_args(ChoiceRule))}, not {rule!r}")
    if not 2 <= len(options) <= len(LETTERS):
        raise ConfigError(f"options: expected 2 to {len(LETTERS)}, got {len(options)}")
    letters = LETTERS[: len(options)]
    if rule == "mmmu":
        return _mmmu(answer, options, letters, seed)
    found = _RULES[rule](answer, options, letters)
    return found if found is not None and found in letters else None


def _first_character(answer: str, options: Sequence[str], letters: str) -> str | None:
    return answer[:1] or None


def _leading_letter(answer: str, options: Sequence[str], letters: str) -> str | None:
    leading = _LEADING.match(answer)
    whole = leading[1] if leading else answer
    return whole.translate(str.maketrans("", "", string.punctuation)).strip().upper() or None


def _first_letter(answer: str, options: Sequence[str], letters: str) -> str | None:
    named = (match[1] or match[2] for match in _MARKED.finditer(answer))
    return next((letter for letter in named if letter in letters), None)


def _clean(answer: str, options: Sequence[str], letters: str) -> str | None:
    found = parse_choice(answer, options, "clean").letters
    return found[0] if found else None


_RULES: dict[str, Callable[[str, Sequence[str], str], str | None]] = {
    "first_character": _first_character,
    "leading_letter": _leading_letter,
    "first_letter": _first_letter,
    "clean": _clean,
}


def _mmmu(answer: str, options: Sequence[str], letters: str, seed: int) -> str:
    padded = f" {answer.strip(_MMMU_MARKS)} "
    places: dict[str, int] = {}
    for form in ("({})", "{} ", "{}."):
        places = {letter: padded.rfind(form.format(letter)) for letter in letters if form.format(letter) in padded}
        if places:
            break
    if not places and len(padded.split()) > _MMMU_WORDS:
        lowered = padded.lower()
        texts = list(zip(letters, options, strict=True))
        places = {letter: lowered.rfind(text.lower()) for letter, text in texts if text and text.lower() in lowered}
    if not places:
        return letters[int(np.random.default_rng([seed, *answer.encode()[:64]]).integers(len(letters)))]
    return max(places, key=lambda letter: places[letter])
