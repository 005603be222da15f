"""The figures of question answering by name: answers in, one score for each row and the benchmark's figures out.

Definitions: datasets-and-benchmarks section 5.3; functions: `perceptic.metrics`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from perceptic import metrics
from perceptic.errors import DataError
from perceptic.evaluate.judge import JudgePrompt
from perceptic.evaluate.judge_prompts import verdict_prompt
from perceptic.evaluate.multiple_choice import LETTERS, ChoiceRule, choose
from perceptic.evaluate.qa_rows import QaRow
from perceptic.evaluate.result import Score
from perceptic.media.boxes import Box, parse_region
from perceptic.media.images import image_size
from perceptic.metrics import Mode

_IOU = 0.5


@dataclass(frozen=True)
class QaContext:
    """What some metrics need beside rows and answers.

    Attributes:
        rule: how the letter of an option is read. judge: replies to prompts, in their order.
    """

    mode: Mode = "compatible"
    rule: ChoiceRule = "clean"
    seed: int = 0
    judge: Callable[[Sequence[JudgePrompt]], list[str]] | None = None


@dataclass(frozen=True)
class QaScores:
    """Scores of rows and figures of the set.

    Attributes:
        values: one for each row, in [0, 1] (CIDEr: [0, 10]).
        failures: why an answer could not be read, by row; None where it could.
        figures: headline first.
    """

    values: list[float]
    figures: dict[str, Score]
    failures: list[str | None] = field(default_factory=list)


QaMetric = Callable[[Sequence[QaRow], Sequence[str], QaContext], QaScores]


def score_answers(name: str, rows: Sequence[QaRow], answers: Sequence[str], context: QaContext) -> QaScores:
    """The figures of a metric.

    Raises:
        DataError: no rows, or such as it cannot be computed on.
    """
    if not rows:
        raise DataError("no row could be scored")
    return METRICS[name](rows, answers, context)


def needs_judge(name: str) -> bool:
    return name == "judged_accuracy"


def _mean(name: str, values: Sequence[float], context: QaContext, chance: float | None = None) -> QaScores:
    scores = [float(value) for value in values]
    return QaScores(scores, {name: Score.mean(scores, seed=context.seed, chance=chance)})


def _anls(rows: Sequence[QaRow], answers: Sequence[str], context: QaContext) -> QaScores:
    return _mean("anls", metrics.anls_scores(answers, [row.answers for row in rows]).tolist(), context)


def _relaxed(rows: Sequence[QaRow], answers: Sequence[str], context: QaContext) -> QaScores:
    hits = [any(metrics.relaxed_match(text, one) for one in row.answers) for row, text in _pairs(rows, answers)]
    return _mean("relaxed_accuracy", hits, context)


def _vqa(rows: Sequence[QaRow], answers: Sequence[str], context: QaContext) -> QaScores:
    return _mean("vqa_accuracy", metrics.vqa_scores(answers, [row.answers for row in rows]).tolist(), context)


def _vqav2(rows: Sequence[QaRow], answers: Sequence[str], context: QaContext) -> QaScores:
    found = metrics.vqa_scores(answers, [row.answers for row in rows], "vqav2")
    return _mean("vqa_accuracy", found.tolist(), context)


def _exact(rows: Sequence[QaRow], answers: Sequence[str], context: QaContext) -> QaScores:
    """Equal but for case, blanks around and a dot at the end."""
    hits = [_plain(text) in map(_plain, row.answers) for row, text in _pairs(rows, answers)]
    return _mean("accuracy", hits, context)


def _words(rows: Sequence[QaRow], answers: Sequence[str], context: QaContext) -> QaScores:
    best = [max(metrics.token_f1(text, one) for one in row.answers) for row, text in _pairs(rows, answers)]
    return _mean("token_f1", best, context)


def _hits(rows: Sequence[QaRow], answers: Sequence[str], context: QaContext) -> QaScores:
    """OCRBench: a reference is part of the answer; printed out of 1,000 for its 1,000 questions."""
    found = [
        float(metrics.ocrbench_hit(text, row.answers, is_formula=row.category == "HME100k"))
        for row, text in _pairs(rows, answers)
    ]
    return QaScores(found, {"hits": Score.mean(found, seed=context.seed, scale=float(len(found)))})


def _cider(rows: Sequence[QaRow], answers: Sequence[str], context: QaContext) -> QaScores:
    found = metrics.cider_scores(answers, [row.answers for row in rows]).tolist()
    return QaScores(found, {"cider": Score.mean(found, seed=context.seed)})


def _options(rows: Sequence[QaRow], answers: Sequence[str], context: QaContext) -> QaScores:
    _require_options(rows)
    said = [choose(text, row.options, context.rule, context.seed) for row, text in _pairs(rows, answers)]
    hits = [letter == row.answers[0] for row, letter in zip(rows, said, strict=True)]
    chance = 100 * float(np.mean([1 / len(row.options) for row in rows]))
    scores = _mean("accuracy", hits, context, chance)
    return QaScores(scores.values, scores.figures, [None if letter else "no option named" for letter in said])


def _realworldqa(rows: Sequence[QaRow], answers: Sequence[str], context: QaContext) -> QaScores:
    """A letter where the truth is one of A to D, else the words."""
    hits = []
    for row, text in _pairs(rows, answers):
        truth = row.answers[0]
        is_letter = truth in LETTERS[:4]
        said = choose(text, LETTERS[:4], "first_letter") if is_letter else _plain(text)
        hits.append(said == (truth if is_letter else _plain(truth)))
    return _mean("accuracy", hits, context)


def _mbacc(rows: Sequence[QaRow], answers: Sequence[str], context: QaContext) -> QaScores:
    """A group of binary questions is right if all of its questions are."""
    scores = _options(rows, answers, context)
    groups = [row.group or row.id for row in rows]
    whole = metrics.group_all_correct([value == 1 for value in scores.values], groups)
    figures = {"mbacc": Score.mean(whole, seed=context.seed), **scores.figures}
    return QaScores(scores.values, figures, scores.failures)


def _pope(rows: Sequence[QaRow], answers: Sequence[str], context: QaContext) -> QaScores:
    truths, said = _yes_no_truths(rows), [metrics.parse_pope(text, context.mode) for text in answers]
    hits = [float(one is not None and one == truth) for one, truth in zip(said, truths, strict=True)]
    found = metrics.yes_no_scores(said, truths, context.mode)
    counts = metrics.yes_no_counts(said, truths, context.mode)
    f1 = metrics.bootstrap_sums(counts, metrics.f1_of_counts, resampling=metrics.Resampling(seed=context.seed))
    figures = {
        "accuracy": Score.mean(hits, seed=context.seed, chance=50.0),
        "f1": Score.of(f1),
        "precision": Score(100 * found.precision),
        "recall": Score(100 * found.recall),
        "yes_ratio": Score(100 * found.yes_ratio),
    }
    return QaScores(hits, figures, [None if one is not None else "neither yes nor no" for one in said])


def _mme(rows: Sequence[QaRow], answers: Sequence[str], context: QaContext) -> QaScores:
    truths, said = _yes_no_truths(rows), [metrics.parse_mme(text, context.mode) for text in answers]
    hits = [one is not None and one == truth for one, truth in zip(said, truths, strict=True)]
    pictures = [row.group or row.name for row in rows]
    found = metrics.mme_scores([row.category for row in rows], pictures, hits)
    accuracy = Score.mean([float(hit) for hit in hits], groups=pictures, seed=context.seed, chance=50.0)
    figures = {name: Score(getattr(found, name)) for name in ("total", "perception", "cognition")}
    failures = [None if one is not None else "neither yes nor no" for one in said]
    return QaScores([float(hit) for hit in hits], {**figures, "accuracy": accuracy}, failures)


def _boxes(rows: Sequence[QaRow], answers: Sequence[str], context: QaContext) -> QaScores:
    """P@0.5: the box overlaps the true one by at least half. Compatible: without a box, the whole picture is meant."""
    overlaps: list[float] = []
    failures: list[str | None] = []
    for row, text in _pairs(rows, answers):
        if len(row.box) != 4 or not row.media:
            raise DataError(f"{row.name}: the answer must be a box [left, top, right, bottom] in pixels of a picture")
        source = row.media[0]
        size = image_size(source)
        box = parse_region(text, size.width, size.height).box
        failures.append(None if box else "no box")
        if box is None and context.mode == "compatible":
            box = Box(0, 0, size.width, size.height)
        overlaps.append(0.0 if box is None else box_iou(box, Box(*row.box)))
    hits = [float(overlap >= _IOU) for overlap in overlaps]
    figures = {
        "accuracy": Score.mean(hits, seed=context.seed),
        "mean_iou": Score.mean(overlaps, seed=context.seed),
    }
    return QaScores(hits, figures, failures)


def box_iou(first: Box, second: Box) -> float:
    """Overlap of two boxes over their union, in [0, 1]; 0 for boxes without area or with swapped corners."""
    width = min(first.right, second.right) - max(first.left, second.left)
    height = min(first.bottom, second.bottom) - max(first.top, second.top)
    shared = max(0.0, width) * max(0.0, height)
    areas = [max(0.0, one.right - one.left) * max(0.0, one.bottom - one.top) for one in (first, second)]
    union = sum(areas) - shared
    return shared / union if union > 0 else 0.0


def _stretches(rows: Sequence[QaRow], answers: Sequence[str], context: QaContext) -> QaScores:
    """Charades-STA: mean overlap of `[start, end]` in seconds."""
    truths = [metrics.parse_stretch(row.answers[0], "clean", last_frame=10**9).stretch for row in rows]
    true = [one for one in truths if one is not None]
    if len(true) < len(rows):
        raise DataError("answers: expected stretches such as [3.2, 7.5]")
    said = [metrics.parse_stretch(text, context.mode, last_frame=10**9).stretch for text in answers]
    found = metrics.localisation(said, true)
    figures = {
        "miou": Score.mean(found.ious, seed=context.seed),
        "mean_recall": Score.mean(found.row_scores, seed=context.seed),
    }
    return QaScores(found.ious.tolist(), figures, [None if one else "no [start, end]" for one in said])


def _judged(rows: Sequence[QaRow], answers: Sequence[str], context: QaContext) -> QaScores:
    assert context.judge is not None, "the runner opens a judge where one is needed"
    replies = context.judge([verdict_prompt(row.question, text, row.answers[0]) for row, text in _pairs(rows, answers)])
    verdicts = [metrics.parse_verdict(reply, context.mode) for reply in replies]
    hits = [float(verdict.is_correct) for verdict in verdicts]
    figures = {"judged_accuracy": Score.mean(hits, seed=context.seed)}
    return QaScores(hits, figures, [verdict.failure for verdict in verdicts])


METRICS: dict[str, QaMetric] = {
    "exact_match": _exact,
    "multiple_choice": _options,
    "anls": _anls,
    "relaxed_accuracy": _relaxed,
    "vqa_accuracy": _vqa,
    "vqav2_accuracy": _vqav2,
    "ocrbench": _hits,
    "cider": _cider,
    "token_f1": _words,
    "pope": _pope,
    "mme": _mme,
    "mbacc": _mbacc,
    "realworldqa": _realworldqa,
    "box_iou": _boxes,
    "time_iou": _stretches,
    "judged_accuracy": _judged,
}


def _pairs(rows: Sequence[QaRow], answers: Sequence[str]) -> list[tuple[QaRow, str]]:
    return list(zip(rows, answers, strict=True))


def _plain(text: str) -> str:
    return text.strip().lower().removesuffix(".")


def _require_options(rows: Sequence[QaRow]) -> None:
    for row in rows:
        if not row.options:
            raise DataError(f"row {row.id}: has no 'options' to choose among")


def _yes_no_truths(rows: Sequence[QaRow]) -> list[bool]:
    truths = []
    for row in rows:
        truth = metrics.parse_pope(row.answers[0])
        if truth is None:
            raise DataError(f"row {row.id}: the answer must be yes or no, not {row.answers[0]!r}")
        truths.append(truth)
    return truths
