"""Written answers against references: ANLS, relaxed, OCRBench hits (datasets-and-benchmarks 5.3); shared words.

Each metric has a function for one question and one for a set, which gives one score per question, (N,); the benchmark's
figure is their mean.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from perceptic.errors import DataError
from perceptic.metrics.checks import BoolArray, FloatArray, same_length

_WORD = re.compile(r"\w+")
# Full-width letters, digits, marks and blanks of East Asian writing, to ASCII.
_HALF_WIDTH = {0xFF01 + offset: 0x21 + offset for offset in range(94)} | {0x3000: 0x20}


def anls_score(prediction: str, references: Sequence[str], threshold: float = 0.5) -> float:
    """Average normalised Levenshtein similarity of one answer, in [0, 1]: 1 - distance / length of the longer.

    Case and blanks do not matter to the distance, but the lengths are those of the text as it stands, as the harness
    has it. The nearest reference counts; a similarity below the threshold is 0. Source: A. Biten et al., Scene Text
    Visual Question Answering (ICCV 2019); DocVQA, InfoVQA.

    Raises:
        DataError: no reference.
    """
    _require_references(references)
    similarity = 1.0 - min(_relative_distance(prediction, reference) for reference in references)
    return similarity if similarity >= threshold else 0.0


def anls_scores(predictions: Sequence[str], references: Sequence[Sequence[str]], threshold: float = 0.5) -> FloatArray:
    """`anls_score` of each question, (N,)."""
    same_length(predictions=predictions, references=references)
    pairs = zip(predictions, references, strict=True)
    return np.array([anls_score(prediction, wanted, threshold) for prediction, wanted in pairs])


def edit_distance(first: str, second: str) -> int:
    """Levenshtein distance: insertions, deletions and replacements of characters."""
    if len(first) < len(second):
        first, second = second, first
    previous = list(range(len(second) + 1))
    for row, letter in enumerate(first, start=1):
        current = [row]
        for column, other in enumerate(second, start=1):
            replaced = previous[column - 1] + (letter != other)
            current.append(min(previous[column] + 1, current[column - 1] + 1, replaced))
        previous = current
    return previous[-1]


def relaxed_match(prediction: str, target: str, tolerance: float = 0.05) -> bool:
    """Whether an answer about a chart is right: numbers within a share of the target, text but for its case.

    `50%` is 0.5. A target of 0 and text with blanks around it must match to the letter, as in the harness; NaN and
    infinity are text. Source: A. Masry et al., ChartQA (ACL Findings 2022).
    """
    number, wanted = _number(prediction), _number(target)
    if number is not None and wanted:
        return abs(number - wanted) / abs(wanted) <= tolerance
    return prediction.lower() == target.lower()


def relaxed_matches(predictions: Sequence[str], targets: Sequence[str], tolerance: float = 0.05) -> BoolArray:
    """`relaxed_match` of each question, (N,). `mean_by_group` gives the human and the augmented half of ChartQA."""
    same_length(predictions=predictions, targets=targets)
    pairs = zip(predictions, targets, strict=True)
    return np.array([relaxed_match(prediction, target, tolerance) for prediction, target in pairs])


def ocrbench_hit(prediction: str, references: Sequence[str], *, is_formula: bool = False) -> bool:
    """Whether any reference is part of the answer, but for case, line breaks and full-width letters.

    Args:
        is_formula: handwritten formulas (HME100k) are compared without any blanks, and case counts.

    Raises:
        DataError: no reference.
    """
    _require_references(references)
    fold = _formula if is_formula else _plain
    return any(fold(reference) in fold(prediction) for reference in references)


def token_f1(prediction: str, reference: str) -> float:
    """Words that two texts share, in [0, 1]: harmonic mean of the shares of both, repeated words counted as often.

    Case and marks do not matter, order neither: "left of" and "of left" are the same. A stand-in for a judge where
    there is none, not a measure of meaning. Two texts without words are the same.
    """
    said, wanted = (Counter(_WORD.findall(text.casefold())) for text in (prediction, reference))
    if not said or not wanted:
        return float(said == wanted)
    return 2 * (said & wanted).total() / (said.total() + wanted.total())


def _relative_distance(prediction: str, reference: str) -> float:
    longer = max(len(prediction), len(reference))
    return edit_distance(_squeezed(prediction), _squeezed(reference)) / longer if longer else 0.0


def _squeezed(text: str) -> str:
    return " ".join(text.lower().split())


def _number(text: str) -> float | None:
    try:
        value = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _plain(text: str) -> str:
    return text.translate(_HALF_WIDTH).lower().strip().replace("\n", " ")


def _formula(text: str) -> str:
    return text.translate(_HALF_WIDTH).strip().replace("\n", " ").replace(" ", "")


def _require_references(references: Sequence[str]) -> None:
    if isinstance(references, str) or not references:
        raise DataError(f"references: expected a list of at least one text, got {references!r}")
