"""Question answering about pictures and videos: the public benchmarks, and sets of your own.

    perceptic eval qa --model Perception-LM-1B --data mine.jsonl --metric anls

Benchmarks differ in their words around the question and in their metric; both are options, which the entries of the
public ones set as the reference was measured (datasets-and-benchmarks 5.2 and 5.3).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from perceptic.errors import ConfigError, DataError
from perceptic.evaluate.answering import Question, answer_all, answers_path
from perceptic.evaluate.judge import judge_in_environment, judge_model_in_environment
from perceptic.evaluate.judging import Judging
from perceptic.evaluate.multiple_choice import LETTERS, ChoiceRule
from perceptic.evaluate.pictures import small_picture
from perceptic.evaluate.qa_metrics import METRICS, QaContext, QaScores, needs_judge, score_answers
from perceptic.evaluate.qa_rows import QaRow, is_readable, read_qa
from perceptic.evaluate.reply_store import open_replies
from perceptic.evaluate.request import Request
from perceptic.evaluate.result import ClassShare, Details, Measured, Mistake
from perceptic.inference.sampling import GenerationOptions
from perceptic.metrics import Mode
from perceptic.tasks.messages import ChatMessage
from perceptic.tasks.seeing import Sampling, Seeing
from perceptic.text.region_prompts import GROUNDING_PROMPT

_MISTAKES = 12
_NAMED = 5


@dataclass(frozen=True)
class Options:
    """How questions are asked and answers scored.

    Attributes:
        metric: a name of `qa_metrics.METRICS`.
        suffix: put behind the question (and its options), on a line of its own.
        prompt: asked instead of the question; `{question}` stands for it.
        capitalize: first letter of the question large, the others small, as the harness has it for TextVQA and VizWiz.
        rule: how the letter of an option is read.
        mode: `compatible` takes a dot off the end of answers and reads as the public harness; `clean` does not.
        num_frames, sampling: of videos. max_num_tiles: of pictures.
        judge, judge_model, judge_concurrency: as for PLM-VideoBench, where the metric needs one.
        allow_missing: leave rows without readable media out, and say so.
    """

    metric: str = "exact_match"
    suffix: str = ""
    prompt: str = ""
    capitalize: bool = False
    rule: ChoiceRule = "clean"
    mode: Mode = "compatible"
    max_new_tokens: int = 64
    num_frames: int | None = None
    max_num_tiles: int | None = None
    sampling: Sampling = "uniform"
    batch_size: int = 8
    judge: str = field(default_factory=judge_in_environment)
    judge_model: str = field(default_factory=judge_model_in_environment)
    judge_concurrency: int = 8
    allow_missing: bool = False


def run(request: Request[Options]) -> Measured:
    """Measure a set of questions.

    Raises:
        ConfigError: no data, an unknown metric, or no judge where one is needed.
        DataError: rows that cannot be read, missing media (unless allowed), rows that the metric cannot use.
    """
    options, common = request.options, request.common
    score_name = options.metric
    if score_name not in METRICS:
        raise ConfigError(f"metric '{score_name}' does not exist; choose among {', '.join(METRICS)}")
    judging = _judging(request) if needs_judge(score_name) else None  # before the model works for hours
    rows = _drawn(read_qa(request.require_data()), common.limit, common.seed)
    missing = {row.id: reason for row in rows if (reason := is_readable(row)) is not None}
    _require_allowed(missing, len(rows), options)
    answers, failures = _ask(request, [row for row in rows if row.id not in missing])
    missing |= failures
    _require_allowed(missing, len(rows), options)
    answered = [row for row in rows if row.id in answers]
    truths = _exchanged(answered, common.seed) if common.shuffle_labels else answered
    texts = [_answer(answers[row.id], options.mode) for row in answered]
    context = QaContext(options.mode, options.rule, common.seed, judging)
    scores = score_answers(score_name, truths, texts, context)
    facts = _facts(request, judging, len(rows))
    notes = [_missing_text(missing, len(rows))] if missing else []
    if judging is not None:
        notes += judging.notes()
    details = Details(_bars(truths, scores), mistakes=_mistakes(truths, texts, scores), notes=tuple(notes))
    return Measured(scores.figures, _items(truths, texts, scores), facts, details, len(missing))


def question_text(row: QaRow, options: Options) -> str:
    """What a model is asked."""
    question = row.question.capitalize() if options.capitalize else row.question
    if options.metric == "box_iou" and not options.prompt:
        return GROUNDING_PROMPT.format(caption=question)
    if options.prompt:
        question = options.prompt.replace("{question}", question)
    lines = [f"{letter}. {text}" for letter, text in zip(LETTERS, row.options, strict=False)]
    return "\n".join([question, *lines, *([options.suffix] if options.suffix else [])])


def _ask(request: Request[Options], rows: Sequence[QaRow]) -> tuple[dict[str, str], dict[str, str]]:
    options, assistant = request.options, request.model.assistant
    questions = [Question(row.id, (ChatMessage.user(*row.parts(), question_text(row, options)),)) for row in rows]
    with open_replies(answers_path(request.common.cache, assistant)) as store:
        answered = answer_all(
            assistant,
            questions,
            seeing=_seeing(options),
            options=_generation(options),
            store=store,
            batch_size=options.batch_size,
            on_progress=lambda done, total: request.on_progress(request.benchmark.name, done, total),
        )
    return answered.texts, answered.failures


def _seeing(options: Options) -> Seeing:
    return Seeing(num_frames=options.num_frames, max_num_tiles=options.max_num_tiles, sampling=options.sampling)


def _generation(options: Options) -> GenerationOptions:
    return GenerationOptions(max_new_tokens=options.max_new_tokens, first_token_may_stop=options.mode == "clean")


def _answer(text: str, mode: Mode) -> str:
    return text.removesuffix(".") if mode == "compatible" else text


def _judging(request: Request[Options]) -> Judging:
    return Judging.of(
        request.options, request.common.cache, lambda done, total: request.on_progress("judge", done, total)
    )


def _drawn(rows: list[QaRow], limit: int | None, seed: int) -> list[QaRow]:
    """At most `limit` rows, in their order; rows of one group stay together."""
    if limit is None or limit >= len(rows):
        return rows
    groups: dict[str, int] = defaultdict(int)
    for row in rows:
        groups[row.group or row.id] += 1
    names, chosen, count = list(groups), set[str](), 0
    for place in np.random.default_rng(seed).permutation(len(names)).tolist():
        if count and count + groups[names[place]] > limit:
            break
        chosen.add(names[place])
        count += groups[names[place]]
    return [row for row in rows if (row.group or row.id) in chosen]


def _exchanged(rows: Sequence[QaRow], seed: int) -> list[QaRow]:
    """Rows with the truths of others: the control that must fall to chance."""
    order = np.random.default_rng(seed).permutation(len(rows)).tolist()
    return [
        replace(row, answers=rows[other].answers, box=rows[other].box) for row, other in zip(rows, order, strict=True)
    ]


def _require_allowed(missing: dict[str, str], total: int, options: Options) -> None:
    if missing and not options.allow_missing:
        raise DataError(_missing_text(missing, total))


def _missing_text(missing: dict[str, str], total: int) -> str:
    named = "; ".join(list(dict.fromkeys(missing.values()))[:_NAMED])
    return f"{len(missing)} of {total} rows have no usable media ({named}). --allow-missing leaves them out."


def _facts(request: Request[Options], judging: Judging | None, num_rows: int) -> dict[str, Any]:
    options, assistant = request.options, request.model.assistant
    found: dict[str, Any] = {
        "mode": options.mode,
        "metric": options.metric,
        "rows": num_rows,
        "weights": assistant.fingerprint,
        "dtype": str(assistant.dtype).removeprefix("torch."),
        "seeing": _seeing(options).to_dict(),
        "generation": _generation(options).to_dict(),
    }
    if judging is not None:
        found["judge"] = judging.facts()
    return found


def _items(rows: Sequence[QaRow], answers: Sequence[str], scores: QaScores) -> list[dict[str, Any]]:
    failures = scores.failures or [None] * len(rows)
    return [
        {
            "id": row.id,
            "question": row.question,
            "answer": text,
            "truth": list(row.answers),
            "score": value,
            "failure": why,
        }
        for row, text, value, why in zip(rows, answers, scores.values, failures, strict=True)
    ]


def _bars(rows: Sequence[QaRow], scores: QaScores) -> tuple[ClassShare, ...]:
    """Mean score of each category, worst first."""
    parts: dict[str, list[float]] = defaultdict(list)
    for row, value in zip(rows, scores.values, strict=True):
        if row.category:
            parts[row.category].append(value)
    bars = [ClassShare(name, 100 * float(np.mean(values)), len(values)) for name, values in parts.items()]
    return tuple(sorted(bars, key=lambda bar: bar.value)) if len(bars) > 1 else ()


def _mistakes(rows: Sequence[QaRow], answers: Sequence[str], scores: QaScores) -> tuple[Mistake, ...]:
    """Rows that are not wholly right, the nearest misses first."""
    wrong = [place for place, value in enumerate(scores.values) if value < 1]
    wrong.sort(key=lambda place: -scores.values[place])
    return tuple(
        Mistake(
            rows[place].id, " | ".join(rows[place].answers), answers[place], rows[place].question, _picture(rows[place])
        )
        for place in wrong[:_MISTAKES]
    )


def _picture(row: QaRow) -> bytes | None:
    return small_picture(row.media[0], row.kind) if row.media else None
