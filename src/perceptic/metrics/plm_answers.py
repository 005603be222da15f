r"""Reading answers to PLM-VideoBench (datasets-and-benchmarks section 2, perception-language-model section 6.3).

Every reader gives a value: what was read, or why nothing could be. Compatible mode has the public harness's reading;
clean mode mends what that one misses:

| answer            | compatible            | clean             |
|-------------------|-----------------------|-------------------|
| `The answer is A` | wrong                 | A                 |
| `(`               | right whatever is     | nothing           |
| `A person walks`  | A                     | nothing           |
| `(A)(B)`          | right whatever is     | nothing           |
| `[6 , 15]`        | nothing               | 6 to 15           |
| `frames 6 to 15`  | nothing               | 6 to 15           |
| `[0, 6]: at 3:15` | 0 to 6, `at 3 15`     | 0 to 6, `at 3:15` |
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from perceptic.errors import ConfigError
from perceptic.metrics.modes import Mode, require_mode
from perceptic.metrics.temporal import Stretch

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Choice:
    """A choice among lettered options.

    Attributes:
        letters: those that the answer counts as; the harness lets some answers count as several.
        failure: why there is none; None if there is.
    """

    letters: tuple[str, ...]
    failure: str | None = None

    def is_correct(self, letter: str) -> bool:
        return letter in self.letters


@dataclass(frozen=True)
class ReadStretch:
    """A stretch of frames, or why there is none."""

    stretch: Stretch | None
    failure: str | None = None


@dataclass(frozen=True)
class Event:
    """A stretch of frames and what happens in it."""

    stretch: Stretch
    caption: str


@dataclass(frozen=True)
class ReadEvents:
    """The events of a dense caption in the order of the list, or why there are none."""

    events: tuple[Event, ...]
    failure: str | None = None


def parse_choice(answer: str, options: Sequence[str], mode: Mode = "compatible") -> Choice:
    """The option that an answer to a multiple-choice question names (FGQA has two).

    Compatible: the first word, without dots, is part of `(x)` or `(x)` is part of it. Clean: exactly one letter, alone
    or marked as one (`(B)`, `B.`, `option B`, `the answer is B`), or the text of exactly one option.

    Args:
        options: their texts, in the order A, B, ...
    """
    if not 2 <= len(options) <= len(_LETTERS):
        raise ConfigError(f"options: expected 2 to {len(_LETTERS)}, got {len(options)}")
    letters = _LETTERS[: len(options)]
    if require_mode(mode) == "compatible":
        found = _harness_letters(answer, letters)
    else:
        found = _marked_letters(answer, letters) or _letters_of_texts(answer, options)
        if len(found) > 1:
            return Choice((), f"several options named: {', '.join(found)}")
    return Choice(found, None if found else "no option named")


def parse_stretch(answer: str, mode: Mode = "compatible", *, last_frame: int = 31) -> ReadStretch:
    """The stretch that an answer to RTLoc names.

    Compatible: the first `[a, b]` without signs and without blanks before the comma. Clean: also in other brackets or
    none, with "to" or a dash between the numbers; cut to the frames there are; ends in order.

    Args:
        last_frame: number of the last frame shown.
    """
    if require_mode(mode) == "compatible":
        match = _HARNESS_STRETCH.search(answer)
        stretch = None if match is None else _finite_stretch(match)
        return ReadStretch(stretch, None if stretch else "no [start, end]")
    match = _CLEAN_STRETCH.search(answer)
    if match is None:
        return ReadStretch(None, "no start and end")
    return _cut(float(match[1]), float(match[2]), last_frame)


def fallback_stretch(end_frame: float) -> Stretch:
    """What the harness puts for an answer that it cannot read: past the end, so that nothing overlaps.

    Args:
        end_frame: of the row, counted in the frames of its file, not in the 32 shown.
    """
    return Stretch(end_frame + 10, end_frame + 20)


def parse_events(answer: str, mode: Mode = "compatible", *, last_frame: int = 31) -> ReadEvents:
    """The list of events that an answer to RDCap holds.

    Compatible: every `[a, b]` of whole numbers and the text up to the next bracket; colons become blanks; in the order
    written. Clean: lines (or commas) that start with a stretch, in brackets or not; texts as written; in the order of
    time; stretches that lie wholly outside of the frames are dropped.

    Args:
        last_frame: number of the last frame shown.
    """
    if require_mode(mode) == "compatible":
        found = list(_harness_events(answer))
    else:
        found = sorted(_clean_events(answer, last_frame), key=lambda event: (event.stretch.start, event.stretch.end))
    return ReadEvents(tuple(found), None if found else "no [start, end]: description")


_HARNESS_STRETCH = re.compile(r"\[(\d+(?:\.\d+)?),\s*(\d+(?:\.\d+)?)\]")
_HARNESS_EVENT = re.compile(r"\[(\d+),\s*(\d+)\]([^\[]*)")
_PAIR = r"(-?\d+(?:\.\d+)?)\s*(?:,|-|–|—|to|until)\s*(?:frame\s*)?(-?\d+(?:\.\d+)?)"
# Part of a longer number or of a list of more than two is no stretch.
_CLEAN_STRETCH = re.compile(rf"(?<![\d.])(?<!\d,)(?<!\d, ){_PAIR}(?!\s*,\s*\d)(?![.,]?\d)", re.IGNORECASE)
_CLEAN_EVENT = re.compile(
    rf"(?:^|[\n,;])\s*(?:[-*•]\s+)?(?:\d+[.)]\s+)?(?:frames?\s*)?(?:[\[(]\s*{_PAIR}\s*[\])]\s*[:\-–—]?|{_PAIR}\s*:)",
    re.IGNORECASE,
)
# "The answer is A" names an option, "the answer is a person" does not: A alone must be followed by a mark or nothing.
_ANSWER_IS = re.compile(
    r"\b(?i:answer|option|choice)\b\s*(?i:is|:)*\s*\W{0,3}(?:([B-Z])(?![A-Za-z'])|([A-Za-z])(?=[).:,\]*\n]|\W*$))"
)
_BRACKETED = re.compile(r"[(\[{*]{1,3}([A-Za-z])[)\]}*]")
_LEADING = re.compile(r"\W*([A-Za-z])(?:[.):,\n]|\s*$)")


def _harness_letters(answer: str, letters: str) -> tuple[str, ...]:
    lowered = answer.lower()
    if "answer:" in lowered:
        lowered = lowered.replace("answer:", "").strip()
    token = lowered.split(" ")[0]
    if not token:
        return ()
    bare = token.replace(".", "")
    marks = ((letter, f"({letter.lower()})") for letter in letters)
    return tuple(letter for letter, mark in marks if bare in mark or mark in token)


def _marked_letters(answer: str, letters: str) -> tuple[str, ...]:
    """Letters by the strongest kind of mark that the answer has."""
    for pattern in (_ANSWER_IS, _BRACKETED):
        named = ("".join(match.groups(default="")).upper() for match in pattern.finditer(answer))
        found = tuple(dict.fromkeys(letter for letter in named if letter in letters))
        if found:
            return found
    leading = _LEADING.match(answer)
    return (leading[1].upper(),) if leading and leading[1].upper() in letters else ()


def _letters_of_texts(answer: str, options: Sequence[str]) -> tuple[str, ...]:
    said = _bare_words(answer)
    return tuple(letter for letter, text in zip(_LETTERS, options, strict=False) if said and said == _bare_words(text))


def _bare_words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def _finite_stretch(match: re.Match[str]) -> Stretch | None:
    """None for numbers of hundreds of digits, which a model that repeats itself does write."""
    stretch = Stretch(float(match[1]), float(match[2]))
    return stretch if math.isfinite(stretch.start) and math.isfinite(stretch.end) else None


def _harness_events(answer: str) -> Iterator[Event]:
    for match in _HARNESS_EVENT.finditer(answer):
        stretch = _finite_stretch(match)
        if stretch is not None:
            yield Event(stretch, _harness_caption(match[3]))


def _harness_caption(text: str) -> str:
    plain = text.replace(":", " ").replace("\nFrame ", "").strip()
    return plain.removesuffix(",").strip().replace("\n", " ")


def _cut(start: float, end: float, last_frame: int) -> ReadStretch:
    low, high = sorted((start, end))
    if low > last_frame or high < 0:
        return ReadStretch(None, f"frames {low:g} to {high:g} are not among 0 to {last_frame}")
    return ReadStretch(Stretch(max(low, 0), min(high, last_frame)))


def _clean_events(answer: str, last_frame: int) -> list[Event]:
    answer = "\n".join(line.strip() for line in answer.splitlines() if line.strip())
    matches = list(_CLEAN_EVENT.finditer(answer))
    ends = [match.start() for match in matches[1:]] + [len(answer)]
    events: list[Event] = []
    for match, end in zip(matches, ends, strict=False):
        first, second = (number for number in match.groups() if number is not None)
        read = _cut(float(first), float(second), last_frame)
        caption = " ".join(answer[match.end() : end].split()).strip(",; ")
        if read.stretch is not None:
            events.append(Event(read.stretch, caption))
    return events
