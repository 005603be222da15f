"""World versions of the language model's benchmarks: what a PerceptionLM sees in held-out scenes and clips.

One entry for each section of `tasks.world_exam`; each reports its score, chance, and the control in which every
question is asked about another item's picture.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from perceptic.evaluate.pictures import small_picture
from perceptic.evaluate.request import Request
from perceptic.evaluate.result import Details, Measured, Mistake, Score
from perceptic.tasks.world_exam import SCORES, ExamAnswer, ExamScore, take_world_exam
from perceptic.tasks.world_exam_items import SECTIONS, ExamWorld

_MISTAKES = 12


@dataclass(frozen=True)
class Options:
    """How a section is asked.

    Attributes:
        section: of `tasks.world_exam_items.SECTIONS`.
        items: questions, few enough for all sections to take minutes; the run's limit makes it fewer.
        split: of the world: `validation`, `heldout_pairs`, `heldout_words`.
        picture_size: of pictures and frames, in pixels.
    """

    section: str = "existence"
    items: int = 60
    split: str = "validation"
    picture_size: int = 64
    batch_size: int = 16


def run(request: Request[Options]) -> Measured:
    """Measure one section. Raises ConfigError for an unknown section or split."""
    options, common = request.options, request.common
    number = min(options.items, common.limit or options.items)
    request.on_progress(options.section, 0, number)
    (score,) = take_world_exam(
        request.model.assistant,
        num_items=max(number, 2),
        seed=common.seed,
        sections=[options.section],
        batch_size=options.batch_size,
        source=_world(options.split, options.picture_size),
    )
    request.on_progress(options.section, number, number)
    scores = _scores_of_others(score, common.seed) if common.shuffle_labels else list(score.scores)
    metrics = {
        "score": Score.mean(scores, seed=common.seed, chance=100 * score.chance),
        "shuffled": Score.mean(score.shuffled_scores or (), seed=common.seed, chance=100 * score.chance),
    }
    items = [
        _item(place, answer, points) for place, (answer, points) in enumerate(zip(score.answers, scores, strict=True))
    ]
    facts = {
        "weights": request.model.assistant.fingerprint,
        "split": options.split,
        "reading": SECTIONS[score.section].score,
    }
    return Measured(metrics, items, facts, Details(mistakes=_mistakes(score)))


@functools.lru_cache(maxsize=2)
def _world(split: str, size: int) -> ExamWorld:
    """Sections share scenes and clips; each is drawn once."""
    return ExamWorld(split, size)


def _scores_of_others(score: ExamScore, seed: int) -> list[float]:
    """Answers against the truths of other items: the control that must fall to chance."""
    read = SCORES[SECTIONS[score.section].score]
    order = np.random.default_rng(seed).permutation(len(score.answers)).tolist()
    truths = [score.answers[other].item.wanted for other in order]
    return [read(answer.given, truth) for answer, truth in zip(score.answers, truths, strict=True)]


def _item(place: int, answer: ExamAnswer, points: float) -> dict[str, Any]:
    return {
        "id": f"{answer.item.part.name}#{place}",
        "question": answer.item.question,
        "answer": answer.given,
        "truth": answer.item.wanted,
        "score": points,
        "shuffled_answer": answer.shuffled_given,
        "shuffled_score": answer.shuffled_score,
    }


def _mistakes(score: ExamScore) -> tuple[Mistake, ...]:
    wrong = sorted((one for one in score.answers if one.score < 1), key=lambda one: -one.score)
    return tuple(
        Mistake(one.item.part.name, one.item.wanted, one.given, f"{one.item.question} {one.score:.2f}", _picture(one))
        for one in wrong[:_MISTAKES]
    )


def _picture(answer: ExamAnswer) -> bytes | None:
    part = answer.item.part
    return small_picture(part.source, part.kind) if isinstance(part.source, bytes) else None
