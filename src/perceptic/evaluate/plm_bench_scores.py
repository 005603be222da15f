"""From answers to the figures of PLM-VideoBench, row by row (datasets-and-benchmarks 2.3 to 2.8)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from perceptic import metrics
from perceptic.errors import DataError
from perceptic.evaluate.judge import JudgePrompt
from perceptic.evaluate.judge_prompts import score_prompt, verdict_prompt
from perceptic.evaluate.plm_bench_prompts import Asking
from perceptic.evaluate.plm_bench_rows import BenchRow, BenchSection, BenchSegment, FgqaRow, RegionRow, SgqaRow
from perceptic.evaluate.result import Score
from perceptic.metrics import Mode, Stretch

RowT = TypeVar("RowT")
AskJudge = Callable[[Sequence[JudgePrompt]], list[str]]

HEADLINES: dict[BenchSection, str] = {
    "fgqa": "mbacc",
    "sgqa": "judged_accuracy",
    "rdcap": "soda",
    "rcap": "judged_score",
    "rtloc": "mean_recall",
}
"""The figure of each task, in the order in which `metrics.VIDEO_BENCH_WEIGHTS` has them."""
JUDGED: tuple[BenchSection, ...] = ("sgqa", "rcap", "rdcap")


@dataclass(frozen=True)
class Graded:
    """One row with its answer.

    Attributes:
        truth: what would have been right, for people.
        score: in [0, 1].
        group: rows of one question share it; each row is its own elsewhere.
        failure: why answer or judge could not be read; None if they could.
        facts: further figures of the row.
    """

    row: BenchRow
    answer: str
    truth: str
    score: float
    group: str
    failure: str | None = None
    facts: tuple[tuple[str, float], ...] = ()


def grade(asking: Asking, rows: Sequence[BenchRow], answers: Sequence[str], ask_judge: AskJudge) -> list[Graded]:
    """Score every row.

    Args:
        answers: one for each row, as `Asking.answer` leaves them.
        ask_judge: replies to prompts, in their order; called once, with all of them.
    """
    if asking.section == "fgqa":
        return [_fgqa(row, text, asking.mode) for row, text in _pairs(rows, answers, FgqaRow)]
    if asking.section == "sgqa":
        return _sgqa(_pairs(rows, answers, SgqaRow), asking.mode, ask_judge)
    regions = _pairs(rows, answers, RegionRow)
    if asking.section == "rtloc":
        return [_rtloc(asking, row, text) for row, text in regions]
    return _rcap(regions, asking.mode, ask_judge) if asking.section == "rcap" else _rdcap(asking, regions, ask_judge)


def has_length(asking: Asking, row: BenchRow) -> bool:
    """Whether the truth of an RTLoc row can be hit: both ends may fall on one of the 32 frames shown."""
    if asking.section != "rtloc" or not isinstance(row, RegionRow):
        return True
    true = asking.shown(row, row.segments[0].start_frame, row.segments[0].end_frame)
    return true.start != true.end


def figures(section: BenchSection, graded: Sequence[Graded], seed: int) -> dict[str, Score]:
    """The task's figures with intervals, its own first, in percent.

    Raises:
        DataError: no rows.
    """
    if not graded:
        raise DataError(f"{section}: no row could be scored")
    scores, groups = [one.score for one in graded], [one.group for one in graded]
    found: dict[str, Score] = {}
    if section == "fgqa":
        units = unit_scores(section, graded)
        sizes = np.array([groups.count(group) for group in dict.fromkeys(groups)])
        found["mbacc"] = Score.mean(units, seed=seed, chance=100 * float(np.mean(0.5**sizes)))
        found["accuracy"] = Score.mean(scores, groups=groups, seed=seed, chance=50.0)
    else:
        found[HEADLINES[section]] = Score.mean(scores, seed=seed)
    for name in dict(graded[0].facts):
        found[name] = Score.mean([dict(one.facts)[name] for one in graded], seed=seed)
    found["read"] = Score.mean([float(one.failure is None) for one in graded], seed=seed)
    return found


def unit_scores(section: BenchSection, graded: Sequence[Graded]) -> list[float]:
    """What the task's figure is the mean of: questions for FGQA, rows for the others."""
    if section != "fgqa":
        return [one.score for one in graded]
    is_right, groups = [one.score == 1 for one in graded], [one.group for one in graded]
    return [float(right) for right in metrics.group_all_correct(is_right, groups)]


def exchanged(rows: Sequence[BenchRow], seed: int) -> list[BenchRow]:
    """Rows with the truths of others: the control that must fall to chance."""
    order = np.random.default_rng(seed).permutation(len(rows))
    return [_with_truth_of(row, rows[int(other)]) for row, other in zip(rows, order, strict=True)]


def _with_truth_of(row: BenchRow, other: BenchRow) -> BenchRow:
    if isinstance(row, FgqaRow) and isinstance(other, FgqaRow):
        return replace(row, letter=other.letter)
    if isinstance(row, SgqaRow) and isinstance(other, SgqaRow):
        return replace(row, answer=other.answer)
    assert isinstance(row, RegionRow)
    assert isinstance(other, RegionRow)
    return replace(row, segments=other.segments, total_frames=other.total_frames)


def _pairs(rows: Sequence[BenchRow], answers: Sequence[str], kind: type[RowT]) -> list[tuple[RowT, str]]:
    pairs = list(zip(rows, answers, strict=True))
    return [(row, text) for row, text in pairs if isinstance(row, kind)]


def _fgqa(row: FgqaRow, answer: str, mode: Mode) -> Graded:
    choice = metrics.parse_choice(answer, row.options, mode)
    truth = f"({row.letter}) {row.options['AB'.index(row.letter)]}"
    return Graded(row, answer, truth, float(choice.is_correct(row.letter)), row.group, choice.failure)


def _sgqa(pairs: list[tuple[SgqaRow, str]], mode: Mode, ask_judge: AskJudge) -> list[Graded]:
    replies = ask_judge([verdict_prompt(row.question, text, row.answer) for row, text in pairs])
    verdicts = [metrics.parse_verdict(reply, mode) for reply in replies]
    return [
        Graded(row, text, row.answer, float(verdict.is_correct), row.uid, verdict.failure)
        for (row, text), verdict in zip(pairs, verdicts, strict=True)
    ]


def _rcap(pairs: list[tuple[RegionRow, str]], mode: Mode, ask_judge: AskJudge) -> list[Graded]:
    replies = ask_judge([score_prompt(text, row.segments[0].caption) for row, text in pairs])
    read = [metrics.parse_score(reply, mode, needs_explanation=True) for reply in replies]
    return [
        Graded(row, text, row.segments[0].caption, judged.score, row.uid, judged.failure)
        for (row, text), judged in zip(pairs, read, strict=True)
    ]


def _rtloc(asking: Asking, row: RegionRow, answer: str) -> Graded:
    segment = row.segments[0]
    true = asking.shown(row, segment.start_frame, segment.end_frame)
    read = metrics.parse_stretch(answer, asking.mode)
    said = read.stretch or metrics.fallback_stretch(segment.end_frame)
    found = metrics.localisation([said], [true])
    facts = (("mean_iou", found.mean_iou),)
    return Graded(row, answer, f"[{true.start:g}, {true.end:g}]", found.mean_recall, row.uid, read.failure, facts)


def _rdcap(asking: Asking, pairs: list[tuple[RegionRow, str]], ask_judge: AskJudge) -> list[Graded]:
    """Every true segment against every predicted one: the judge says how alike the texts are."""
    read = [metrics.parse_events(text, asking.mode) for _, text in pairs]
    prompts = [
        score_prompt(event.caption, segment.caption)
        for (row, _), events in zip(pairs, read, strict=True)
        for segment in row.segments
        for event in events.events
    ]
    judged = iter([metrics.parse_score(reply, asking.mode) for reply in ask_judge(prompts)])
    graded = []
    for (row, text), events in zip(pairs, read, strict=True):
        table = [[next(judged) for _ in events.events] for _ in row.segments]
        targets = [asking.shown(row, one.start_frame, one.end_frame) for one in row.segments]
        likeness = [[one.score for one in line] for line in table] if events.events else None
        score = metrics.soda_c(targets, [event.stretch for event in events.events], likeness)
        unread = [one.failure for line in table for one in line if one.failure]
        facts = (("precision", score.precision), ("recall", score.recall))
        failure = events.failure or (f"judge: {unread[0]}" if unread else None)
        graded.append(Graded(row, text, _dense_text(row.segments, targets), score.f_measure, row.uid, failure, facts))
    return graded


def _dense_text(segments: Sequence[BenchSegment], shown: Sequence[Stretch]) -> str:
    lines = [f"[{one.start:g}, {one.end:g}]: {part.caption}" for part, one in zip(segments, shown, strict=True)]
    return "\n".join(lines)
