"""PLM-VideoBench: five tasks of fine-grained video understanding, and their average (datasets-and-benchmarks 1.5, 2).

`Options.section` names the task; `all` takes the five and their average, in which the three region tasks count as one.
Answers and the judge's replies are kept in the cache as they come: a run that was killed goes on where it was.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from perceptic.errors import DataError
from perceptic.evaluate.answering import Answered, Question, answer_all, answers_path
from perceptic.evaluate.benchmark import suites
from perceptic.evaluate.judge import JudgePrompt, judge_in_environment, judge_model_in_environment
from perceptic.evaluate.judging import Judging
from perceptic.evaluate.plm_bench_page import class_bars, nearest_mistakes
from perceptic.evaluate.plm_bench_prompts import NUM_FRAMES, Asking, check_frames
from perceptic.evaluate.plm_bench_rows import (
    REGION_SECTIONS,
    SECTIONS,
    BenchRow,
    BenchSection,
    BoxTrack,
    FgqaRow,
    RegionRow,
    VideoFolders,
    find_rows,
    read_boxes,
    read_rows,
    subjects,
)
from perceptic.evaluate.plm_bench_scores import HEADLINES, JUDGED, Graded, exchanged, figures, grade, has_length
from perceptic.evaluate.plm_bench_scores import unit_scores as unit_scores_of
from perceptic.evaluate.published_size import SUBSET, FoundSize, SizeCheck, check_size
from perceptic.evaluate.reply_store import open_replies
from perceptic.evaluate.request import ModelUnderTest, Request
from perceptic.evaluate.result import Details, Measured, Score
from perceptic.metrics import VIDEO_BENCH_WEIGHTS, Mode, Resampling, bootstrap_average
from perceptic.tasks.answers import PreparedPrompt

_NAMED = 5


@dataclass(frozen=True)
class Options:
    """How PLM-VideoBench is run.

    Attributes:
        section: `fgqa`, `sgqa`, `rcap`, `rdcap`, `rtloc`, or `all` for the five and their average.
        mode: `compatible` has the public harness's oddities, `clean` mends them.
        judge: `lexical`, `local:MODEL`, or the address of an OpenAI-compatible endpoint, by default the one in
            PERCEPTIC_JUDGE_URL. judge_model: of an endpoint, by default PERCEPTIC_JUDGE_MODEL. They are read when the
            options are made, so that settings name the judge, wherever it was named.
        judge_concurrency: requests at once.
        split: `test`, or `val` where the release has one (without boxes).
        videos: their folder, if it is none of those below `--data`.
        allow_missing: leave rows without a readable video out, and say so, instead of refusing to run.
        max_new_tokens: None takes the mode's own.
    """

    section: Literal["fgqa", "sgqa", "rcap", "rdcap", "rtloc", "all"] = "all"
    mode: Mode = "compatible"
    judge: str = field(default_factory=judge_in_environment)
    judge_model: str = field(default_factory=judge_model_in_environment)
    judge_concurrency: int = 8
    split: str = "test"
    videos: str = ""
    allow_missing: bool = False
    batch_size: int = 8
    max_new_tokens: int | None = None


@dataclass(frozen=True)
class SectionRun:
    """One task, asked and scored."""

    section: BenchSection
    graded: list[Graded]
    figures: dict[str, Score]
    facts: dict[str, Any]
    notes: tuple[str, ...]
    num_failed: int

    @property
    def headline(self) -> Score:
        return self.figures[HEADLINES[self.section]]


# Sections measured already, so that the average costs nothing after them.
_RUNS: weakref.WeakKeyDictionary[ModelUnderTest, dict[Any, SectionRun]] = weakref.WeakKeyDictionary()


def run(request: Request[Options]) -> Measured:
    """Measure one task, or all of them.

    Raises:
        ConfigError: no data, no judge, or one that refuses.
        DataError: rows that cannot be read, or are far from as many as were released; videos that are missing. The
            last two may be allowed.
        NetworkError: the judge cannot be reached; what it said so far is kept.
    """
    if request.options.section == "all":
        return _average(request)
    return _measured(run_section(request, request.options.section), request)


def run_section(request: Request[Options], section: BenchSection) -> SectionRun:
    """One task; the same request again gives what is known. Raises as `run`."""
    known = _RUNS.setdefault(request.model, {})
    options = request.options
    # Not the section: an entry of one task and the average share it.
    key = (
        section,
        request.data,
        request.common,
        tuple(value for name, value in vars(options).items() if name != "section"),
    )
    if key not in known:
        known[key] = _run_section(request, section)
    return known[key]


def _run_section(request: Request[Options], section: BenchSection) -> SectionRun:
    options, common, data = request.options, request.common, request.require_data()
    num_frames = min(NUM_FRAMES, request.model.assistant.preprocessing.max_video_frames)
    asking = Asking(section, options.mode, options.max_new_tokens, num_frames)
    judging = _judging(request, section) if section in JUDGED else None  # before the model works for hours
    whole = read_rows(data, section, options.split)
    size = _size(request, section, find_rows(data, section, options.split), len(whole))
    rows = drawn(whole, common.limit, common.seed)
    usable = [row for row in rows if options.mode == "compatible" or has_length(asking, row)]
    asked = _ask(request, asking, usable)
    if asked.failures and not options.allow_missing:
        raise DataError(_missing_text(section, asked.failures, len(usable)))
    answered = [row for row in usable if row.uid in asked.texts]
    truths = exchanged(answered, common.seed) if common.shuffle_labels else answered
    texts = [asking.answer(asked.texts[row.uid]) for row in answered]
    graded = grade(asking, truths, texts, judging or _no_judge)
    notes = [*size.notes, *([_missing_text(section, asked.failures, len(usable))] if asked.failures else [])]
    if len(usable) < len(rows):
        left_out = len(rows) - len(usable)
        notes.append(f"{left_out} rows whose true stretch falls on one frame are left out (clean mode).")
    if num_frames < NUM_FRAMES:
        notes.append(f"{num_frames} frames are shown, as the model was trained with no more; the benchmark shows 32.")
    if judging is not None:
        notes += judging.notes()
    return SectionRun(
        section=section,
        graded=graded,
        figures=figures(section, graded, common.seed),
        facts={
            **_facts(request, asking, judging, len(rows), find_rows(data, section, options.split)),
            **size.facts,
        },
        notes=tuple(notes),
        num_failed=len(asked.failures),
    )


def _size(request: Request[Options], section: BenchSection, file: Path, num_rows: int) -> SizeCheck:
    """How many rows there are beside the release's, which the entry of the section knows, whatever entry is run."""
    entry = next(one for one in suites()["plm-videobench"] if one.options.get("section") == section)
    found = FoundSize(file, num_rows, split=request.options.split)
    return check_size(entry, found, allow_subset=request.common.allow_subset)


def drawn(rows: Sequence[BenchRow], limit: int | None, seed: int) -> list[BenchRow]:
    """At most `limit` rows, in their order; the variants of an FGQA question stay together, so there may be fewer."""
    if limit is None or limit >= len(rows):
        return list(rows)
    groups: dict[str, list[BenchRow]] = {}
    for row in rows:
        groups.setdefault(row.group if isinstance(row, FgqaRow) else row.uid, []).append(row)
    chosen: set[str] = set()
    names, count = list(groups), 0
    for place in np.random.default_rng(seed).permutation(len(names)).tolist():
        if count and count + len(groups[names[place]]) > limit:
            break
        chosen.add(names[place])
        count += len(groups[names[place]])
    return [row for row in rows if (row.group if isinstance(row, FgqaRow) else row.uid) in chosen]


def _ask(request: Request[Options], asking: Asking, rows: Sequence[BenchRow]) -> Answered:
    options, data, section = request.options, request.require_data(), asking.section
    folders = VideoFolders.of(data, section, options.videos)
    files = {row.uid: folders.find(row.video) for row in rows}
    missing = {row.uid: f"{row.video} is not there" for row in rows if files[row.uid] is None}
    if missing and not options.allow_missing:
        searched = ", ".join(map(str, folders.folders))
        raise DataError(f"{_missing_text(section, missing, len(rows))} Searched: {searched}")
    boxes: Mapping[tuple[str, int], BoxTrack] = {}
    if section in REGION_SECTIONS:
        boxes = read_boxes(data, set(subjects(rows)), options.split)
    questions, by_id = [], {row.uid: row for row in rows}
    for row in rows:
        file = files[row.uid]
        if file is not None:
            track = boxes.get((row.video, row.masklet_id)) if isinstance(row, RegionRow) else None
            questions.append(Question(row.uid, (asking.message(row, file, track),)))

    def check(question: Question, prompt: PreparedPrompt) -> None:
        row = by_id[question.id]
        if isinstance(row, RegionRow):
            check_frames(row, prompt.media[0].total_frames)

    with open_replies(answers_path(request.common.cache, request.model.assistant)) as store:
        answered = answer_all(
            request.model.assistant,
            questions,
            seeing=asking.seeing,
            options=asking.options,
            store=store,
            batch_size=options.batch_size,
            check=check,
            on_progress=lambda done, total: request.on_progress(section, done, total),
        )
    return Answered(answered.texts, {**missing, **answered.failures})


def _judging(request: Request[Options], section: str) -> Judging:
    label = f"{section}: judge"
    return Judging.of(
        request.options, request.common.cache, lambda done, total: request.on_progress(label, done, total)
    )


def _no_judge(prompts: Sequence[JudgePrompt]) -> list[str]:
    raise AssertionError("only judged tasks ask")


def _missing_text(section: str, failures: Mapping[str, str], total: int) -> str:
    named = "; ".join(list(dict.fromkeys(failures.values()))[:_NAMED])
    return (
        f"{section}: {len(failures)} of {total} rows have no usable video ({named}). --allow-missing leaves them out."
    )


def _facts(
    request: Request[Options], asking: Asking, judging: Judging | None, num_rows: int, file: Path
) -> dict[str, Any]:
    assistant = request.model.assistant
    found: dict[str, Any] = {
        "mode": asking.mode,
        "rows_file": str(file),
        "rows": num_rows,
        "weights": assistant.fingerprint,
        "dtype": str(assistant.dtype).removeprefix("torch."),
        "seeing": asking.seeing.to_dict(),
        "generation": asking.options.to_dict(),
    }
    if judging is not None:
        found["judge"] = judging.facts()
    return found


def _measured(done: SectionRun, request: Request[Options]) -> Measured:
    folders = VideoFolders.of(request.require_data(), done.section, request.options.videos)
    details = Details(
        classes=class_bars(done.graded), mistakes=nearest_mistakes(done.graded, folders), notes=done.notes
    )
    return Measured(done.figures, [_item(one) for one in done.graded], done.facts, details, done.num_failed)


def _item(one: Graded) -> dict[str, Any]:
    return {
        "id": one.row.uid,
        "video": one.row.video,
        "answer": one.answer,
        "truth": one.truth,
        "score": one.score,
        "group": one.group,
        "failure": one.failure,
        **dict(one.facts),
    }


def _average(request: Request[Options]) -> Measured:
    """The five figures and their average: FGQA, SGQA and the mean of the region tasks count a third each."""
    runs = {section: run_section(request, section) for section in SECTIONS}
    order = [runs[section] for section in HEADLINES]
    sets = [unit_scores_of(one.section, one.graded) for one in order]
    interval = bootstrap_average(sets, weights=VIDEO_BENCH_WEIGHTS, resampling=Resampling(seed=request.common.seed))
    scores = {"average": Score.of(interval)} | {one.section: one.headline for one in order}
    notes = tuple(note for one in order for note in one.notes)
    items = [{**_item(one), "id": f"{part.section}/{one.row.uid}"} for part in order for one in part.graded]
    facts: dict[str, Any] = {one.section: one.facts for one in order} | {"mode": request.options.mode}
    parts = [f"{one.section} {one.facts[SUBSET]}" for one in order if SUBSET in one.facts]
    if parts:
        facts[SUBSET] = ", ".join(parts)
    return Measured(scores, items, facts, Details(notes=notes), sum(one.num_failed for one in order))
