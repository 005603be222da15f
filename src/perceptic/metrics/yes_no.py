"""Yes/no questions: POPE and MME (datasets-and-benchmarks section 5.3)."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perceptic.errors import DataError
from perceptic.metrics.checks import FloatArray, grouping, same_length, share, truths
from perceptic.metrics.modes import Mode, require_mode

MME_PERCEPTION = (
    "existence",
    "count",
    "position",
    "color",
    "posters",
    "celebrity",
    "scene",
    "landmark",
    "artwork",
    "OCR",
)
MME_COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")

_CLEAN = re.compile(r"\W*(?:(?:the\s+)?(?:final\s+)?answer\s*(?:is|:)+\W*)?(yes|no|y|n)(?![\w/])", re.IGNORECASE)
_EXACT = {"yes": True, "no": False}
_MME = {**_EXACT, "y": True, "n": False}


def parse_pope(text: str, mode: Mode = "compatible") -> bool | None:
    """An answer to a POPE question; None if it is neither yes nor no.

    Compatible: `yes` or `no` and nothing else, but for case and blanks around it. Clean: the first word, also after
    "the answer is".
    """
    return _EXACT.get(text.strip().lower()) if require_mode(mode) == "compatible" else _clean_yes_no(text)


def parse_mme(text: str, mode: Mode = "compatible") -> bool | None:
    """An answer to an MME question; None if it is neither yes nor no.

    Compatible: yes, no, y or n without dots; else `yes`, then `no` anywhere in the first four characters ("note" is
    a no). Clean: as `parse_pope`.
    """
    if require_mode(mode) == "clean":
        return _clean_yes_no(text)
    plain = text.lower().strip().replace(".", "")
    if plain in _MME:
        return _MME[plain]
    return next((value for word, value in _EXACT.items() if word in plain[:4]), None)


@dataclass(frozen=True)
class YesNoScores:
    """POPE's figures, shares in [0, 1]; NaN where there is nothing to divide by.

    Attributes:
        accuracy: an answer that is neither yes nor no is wrong.
        precision, recall, f1: of "yes".
        yes_ratio: share of questions answered yes.
        target_yes_ratio: share of questions whose truth is yes, which is what the harness prints as the yes ratio.
        num_unparsed: answers that are neither.
    """

    accuracy: float
    precision: float
    recall: float
    f1: float
    yes_ratio: float
    target_yes_ratio: float
    num_unparsed: int


def yes_no_scores(answers: Sequence[bool | None], targets: npt.ArrayLike, mode: Mode = "compatible") -> YesNoScores:
    """Scores of parsed answers.

    Compatible: an answer that is neither yes nor no stays out of precision and recall. Clean: it is a miss of recall
    if the truth is yes; a model cannot raise its F1 by evading.

    Args:
        answers: (N,) from `parse_pope`.
        targets: (N,) booleans, True for yes.
    """
    counts = yes_no_counts(answers, targets, mode)
    true_yes, false_yes, missed, right, said_yes, truly_yes, unparsed, total = counts.sum(axis=0).tolist()
    return YesNoScores(
        accuracy=right / total,
        precision=float(share(true_yes, true_yes + false_yes)),
        recall=float(share(true_yes, true_yes + missed)),
        f1=float(f1_of_counts(counts.sum(axis=0))),
        yes_ratio=said_yes / total,
        target_yes_ratio=truly_yes / total,
        num_unparsed=int(unparsed),
    )


def yes_no_counts(answers: Sequence[bool | None], targets: npt.ArrayLike, mode: Mode = "compatible") -> FloatArray:
    """What each question adds, (N, 8): yes and right, yes and wrong, missed, right, said yes, truly yes, unparsed, 1.

    For `bootstrap_sums` together with `f1_of_counts`.
    """
    require_mode(mode)
    true = truths(targets, "targets", ("questions",))
    same_length(answers=answers, targets=true)
    if any(answer is not None and not isinstance(answer, bool | np.bool_) for answer in answers):
        raise DataError("answers: expected True, False or None for each question; parse_pope reads texts")
    said_yes = np.array([answer is not None and bool(answer) for answer in answers])
    unparsed = np.array([answer is None for answer in answers])
    said_no = ~said_yes & ~unparsed
    missed = true & (said_no if mode == "compatible" else ~said_yes)
    right = (said_yes & true) | (said_no & ~true)
    columns = (said_yes & true, said_yes & ~true, missed, right, said_yes, true, unparsed, np.ones_like(true))
    return np.stack(columns, axis=1).astype(np.float64)


def f1_of_counts(counts: FloatArray) -> FloatArray:
    """F1 of "yes", (...) of summed `yes_no_counts` (..., 8); NaN where nothing is yes, said or true."""
    true_yes, wrong = counts[..., 0], counts[..., 1] + counts[..., 2]
    return share(2 * true_yes, 2 * true_yes + wrong)


@dataclass(frozen=True)
class MmeCategory:
    """One category of MME.

    Attributes:
        accuracy: share of questions right, in [0, 1].
        accuracy_plus: share of pictures with both questions right.
        num_images: pictures, with two questions each.
    """

    accuracy: float
    accuracy_plus: float
    num_images: int

    @property
    def score(self) -> float:
        """Out of 200."""
        return 100 * (self.accuracy + self.accuracy_plus)


@dataclass(frozen=True)
class MmeScores:
    """Scores by category, in order of first appearance."""

    categories: dict[str, MmeCategory]

    @property
    def perception(self) -> float:
        """Sum over those of the ten categories that are there; at most 2000."""
        return self._sum(MME_PERCEPTION)

    @property
    def cognition(self) -> float:
        """Sum over those of the four categories that are there; at most 800."""
        return self._sum(MME_COGNITION)

    @property
    def total(self) -> float:
        """Sum over all categories, also such as are not MME's own."""
        return self._sum(tuple(self.categories))

    def _sum(self, names: tuple[str, ...]) -> float:
        return sum(self.categories[name].score for name in names if name in self.categories)


def mme_scores(
    categories: Sequence[str], images: Sequence[Hashable], is_correct: Sequence[bool] | npt.NDArray[np.bool_]
) -> MmeScores:
    """MME of single questions.

    Args:
        categories, images, is_correct: (N,) of each question its category, its picture, whether it is right. The
            same name of a picture in another category is another picture.

    Raises:
        DataError: no questions, lengths that differ, a picture without exactly two questions.
    """
    correct = truths(is_correct, "is_correct", ("questions",))
    same_length(categories=categories, images=images, is_correct=correct)
    pictures = grouping(list(zip(categories, images, strict=True)))
    num_questions = np.bincount(pictures.numbers)
    if (num_questions != 2).any():
        odd = int(np.argmax(num_questions != 2))
        raise DataError(f"images: expected two questions for each, {pictures.keys[odd]} has {num_questions[odd]}")
    num_right = np.bincount(pictures.numbers, weights=correct)
    of_category: dict[str, list[float]] = {}
    for number, category in zip(pictures.numbers.tolist(), categories, strict=True):
        of_category.setdefault(category, []).append(float(num_right[number]))
    return MmeScores({name: _mme_category(np.array(right)) for name, right in of_category.items()})


def _mme_category(right_of_questions: FloatArray) -> MmeCategory:
    """Both questions of a picture carry how many of the two are right."""
    return MmeCategory(
        accuracy=float(right_of_questions.mean()) / 2,
        accuracy_plus=float((right_of_questions == 2).mean()),
        num_images=len(right_of_questions) // 2,
    )


def _clean_yes_no(text: str) -> bool | None:
    match = _CLEAN.match(text)
    return None if match is None else match.group(1).lower().startswith("y")
