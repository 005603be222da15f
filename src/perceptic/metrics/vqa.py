"""VQA accuracy over ten human answers, with the official normalisation (datasets-and-benchmarks section 5.3).

Sources: S. Antol et al., VQA: Visual Question Answering (ICCV 2015), and the evaluation code of VQA and EvalAI, whose
behaviour the spec describes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np

from perceptic.errors import ConfigError, DataError
from perceptic.metrics.checks import FloatArray, same_length

# `evalai`: TextVQA, OK-VQA, VizWiz. `vqav2`: VQAv2, which leaves out the first, word-splitting part.
Normalisation = Literal["evalai", "vqav2"]
# Three of the others must agree with an answer for it to be right.
_MIN_ANSWERS = 4

_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_DIGIT_COMMA_DIGIT = re.compile(r"\d,\d")
_FULL_STOP = re.compile(r"\.(?!\d)")
_ARTICLES = frozenset(("a", "an", "the"))
_NUMBER_WORDS = "zero one two three four five six seven eight nine ten"
_DIGITS = {"none": "0"} | {word: str(number) for number, word in enumerate(_NUMBER_WORDS.split())}
# The official list; what is a word of its own without the apostrophe (well, hell, its, lets) is not on it.
_CONTRACTIONS = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
    he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't mightn't've must've mustn't needn't
    not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll
    somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd
    there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll
    what're what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's
    won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""


def _one_apostrophe_missing() -> dict[str, str]:
    """Every listed contraction by each spelling that lacks one apostrophe: dont, couldnt've, couldn'tve."""
    return {
        word[:place] + word[place + 1 :]: word
        for word in _CONTRACTIONS.split()
        for place, letter in enumerate(word)
        if letter == "'"
    }


_REPAIRS = _one_apostrophe_missing()


def normalise_answer(answer: str, normalisation: Normalisation = "evalai") -> str:
    """An answer as the official evaluation compares it: lower case, no articles, digits for number words."""
    if normalisation not in ("evalai", "vqav2"):
        raise ConfigError(f"normalisation must be evalai or vqav2, not {normalisation!r}")
    if normalisation == "evalai":
        answer = answer.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
        answer = answer.replace("\n", " ").replace("\t", " ").strip()
    return _plain_words(_without_marks(answer))


def vqa_score(prediction: str, answers: Sequence[str], normalisation: Normalisation = "evalai") -> float:
    """Mean over the answers of min(1, how many of the *other* answers equal the prediction / 3), in [0, 1].

    With k of 10 answers equal to the prediction: 0, 0.3, 0.6, 0.9, 1 for k = 0, 1, 2, 3, 4 or more.

    Raises:
        DataError: fewer than 4 answers, with which nothing could be wholly right (compare single answers exactly).
    """
    if isinstance(answers, str) or len(answers) < _MIN_ANSWERS:
        raise DataError(f"answers: expected at least {_MIN_ANSWERS} human answers (the sets have 10), got {answers!r}")
    wanted = normalise_answer(prediction, normalisation)
    is_equal = [normalise_answer(answer, normalisation) == wanted for answer in answers]
    matches = sum(is_equal)
    return sum(min(1.0, (matches - own) / 3) for own in is_equal) / len(answers)


def vqa_scores(
    predictions: Sequence[str], answers: Sequence[Sequence[str]], normalisation: Normalisation = "evalai"
) -> FloatArray:
    """`vqa_score` of each question, (N,); the benchmark's figure is their mean."""
    same_length(predictions=predictions, answers=answers)
    pairs = zip(predictions, answers, strict=True)
    return np.array([vqa_score(prediction, wanted, normalisation) for prediction, wanted in pairs])


def _without_marks(text: str) -> str:
    """Marks vanish where they stand beside a blank somewhere, and part words otherwise."""
    result = text
    for mark in _MARKS:
        vanishes = f"{mark} " in text or f" {mark}" in text or _DIGIT_COMMA_DIGIT.search(text)
        result = result.replace(mark, "" if vanishes else " ")
    return _FULL_STOP.sub("", result)


def _plain_words(text: str) -> str:
    words = (_DIGITS.get(word, word) for word in text.lower().split())
    return " ".join(_REPAIRS.get(word, word) for word in words if word not in _ARTICLES)
