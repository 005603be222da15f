"""Reading what a language model says when it judges an answer (datasets-and-benchmarks sections 2.4 and 2.5).

A reply that cannot be read scores 0 in both modes and is counted: it is the judge's fault, and a reader of the figure
must see how often it happened. Where the public harness stops with an error (JSON without the key), it is a failure
here as well. Compatible mode has the harness's readings, clean mode mends them:

| reply                       | compatible | clean      |
|-----------------------------|------------|------------|
| `{"pred": "Yes", ...}`      | no         | yes        |
| `YES`                       | no         | yes        |
| `not yes`                   | yes        | unreadable |
| JSON between code fences    | score 0    | its score  |
| `Score: 8`                  | score 0    | 0.8        |
| `{"score": 15, ...}`        | score 1.5  | unreadable |
"""

from __future__ import annotations

import ast
import json
import math
import re
from dataclasses import dataclass
from typing import Any

from perceptic.metrics.modes import Mode, require_mode


@dataclass(frozen=True)
class Verdict:
    """Whether the judge finds an answer right; `failure` says why the reply could not be read."""

    is_correct: bool
    failure: str | None = None


@dataclass(frozen=True)
class JudgedScore:
    """A judge's score / 10; `failure` says why the reply could not be read, and the score is then 0."""

    score: float
    failure: str | None = None


def parse_verdict(reply: str, mode: Mode = "compatible") -> Verdict:
    """The judge's yes or no, as asked for in SGQA: a dictionary with the key `pred`.

    Compatible: JSON whose `pred` is exactly "yes"; text that is no JSON says yes if it contains `yes` or `Yes`. Clean:
    also Python dictionaries, text around them and any case; without a dictionary the first word decides.
    """
    if require_mode(mode) == "compatible":
        value = _json(reply)
        if value is _NOTHING:
            return Verdict("yes" in reply or "Yes" in reply)
        if not isinstance(value, dict) or "pred" not in value:
            return Verdict(False, "JSON without pred")
        return Verdict(value["pred"] == "yes")
    found = _mapping(reply)
    said = str(found["pred"]) if found is not None and "pred" in found else reply
    word = _YES_NO.match(said)
    return Verdict(False, "neither yes nor no") if word is None else Verdict(word[1].lower() == "yes")


def parse_score(reply: str, mode: Mode = "compatible", *, needs_explanation: bool = False) -> JudgedScore:
    """The judge's score of a caption from 0 to 10, divided by 10, as asked for in RCap and RDCap.

    Compatible: JSON with the key `score`, whatever the number. Clean: also text around it and `Score: 8`; a number
    outside of 0 to 10 is a failure.

    Args:
        needs_explanation: RCap's reader also needs the key `explanation` (compatible mode alone).
    """
    if require_mode(mode) == "compatible":
        value = _json(reply)
        if value is _NOTHING:
            return JudgedScore(0.0, "not JSON")
        missing = [key for key in ("score", "explanation")[: 1 + needs_explanation] if not _has(value, key)]
        if missing:
            return JudgedScore(0.0, f"JSON without {' and '.join(missing)}")
        number = None if isinstance(value["score"], str) else _finite(value["score"])
        return JudgedScore(0.0, "score is no number") if number is None else JudgedScore(number / 10)
    return _clean_score(reply)


_NOTHING = object()
_YES_NO = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)
_BRACES = re.compile(r"\{.*?\}", re.DOTALL)
_SCORE = re.compile(
    r"[^\w-]*(?:score[^\w-]{0,4})?(-?\d+(?:\.\d+)?)\s*(?:/\s*10\b|out of 10\b)?(?=\s|[.,;)*]|$)", re.IGNORECASE
)


def _clean_score(reply: str) -> JudgedScore:
    found = _mapping(reply)
    if found is not None and "score" in found:
        number = _finite(found["score"])
    else:
        match = _SCORE.match(reply)
        number = None if match is None else float(match[1])
    if number is None:
        return JudgedScore(0.0, "no score")
    return JudgedScore(number / 10) if 0 <= number <= 10 else JudgedScore(0.0, f"score {number:g} is not in 0 to 10")


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _NOTHING


def _mapping(text: str) -> dict[Any, Any] | None:
    """The first dictionary in a text, written as JSON or as Python."""
    for match in _BRACES.finditer(text):
        value = _json(match[0])
        if value is _NOTHING:
            try:
                value = ast.literal_eval(match[0])
            except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
                continue
        if isinstance(value, dict):
            return value
    return None


def _has(value: Any, key: str) -> bool:
    return isinstance(value, dict) and key in value


def _finite(value: Any) -> float | None:
    """A number, also one between quotes; booleans are none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
