"""How well a PerceptionLM knows the synthetic world: questions about held-out scenes and clips, with two controls.

    scores = take_world_exam(Assistant.load("PLM-Nano"))
    for score in scores:
        print(score.section, score.mean, score.chance, score.shuffled_mean)

Chance is the best that an answer can do that never looked: the better of guessing among the choices and of giving the
one answer that is right most often. The shuffled control asks each question about the picture of another item: what a
model then still gets right it knows from the words alone, and it must fall to about chance.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from perceptic import metrics, world
from perceptic.errors import ConfigError
from perceptic.inference.sampling import GenerationOptions
from perceptic.metrics.temporal import Stretch
from perceptic.tasks.assistant import Assistant
from perceptic.tasks.messages import ChatMessage
from perceptic.tasks.world_exam_items import NUM_FRAMES, SECTIONS, ExamItem, ExamWorld, Section

_SHAPE_NAMES = {name: shape for shape in world.SHAPES for name in (shape, *world.SYNONYMS.get(shape, ()))}
"""Shapes by what they are called ("moon": "crescent"); of "lightning bolt" the second word tells."""


@dataclass(frozen=True)
class ExamAnswer:
    """One answer. `score` is in [0, 1]; `shuffled_given` and `shuffled_score` are those about another picture."""

    item: ExamItem
    given: str
    score: float
    shuffled_given: str | None = None
    shuffled_score: float | None = None


@dataclass(frozen=True)
class ExamScore:
    """One section. All figures are shares in [0, 1].

    Attributes:
        chance: of answering without looking.
    """

    section: str
    answers: tuple[ExamAnswer, ...]
    chance: float

    @property
    def scores(self) -> tuple[float, ...]:
        """One for each item: what a bootstrap draws from."""
        return tuple(answer.score for answer in self.answers)

    @property
    def mean(self) -> float:
        return float(np.mean(self.scores))

    @property
    def shuffled_scores(self) -> tuple[float, ...] | None:
        """The same items about pictures of others; None where this was not asked for."""
        found = [answer.shuffled_score for answer in self.answers if answer.shuffled_score is not None]
        return tuple(found) if found else None

    @property
    def shuffled_mean(self) -> float | None:
        return None if self.shuffled_scores is None else float(np.mean(self.shuffled_scores))


def take_world_exam(
    assistant: Assistant,
    *,
    num_items: int = 100,
    seed: int = 0,
    sections: Sequence[str] | None = None,
    split: str = "validation",
    shuffled: bool = True,
    batch_size: int = 16,
    size: int = 64,
    source: ExamWorld | None = None,
    on_section: Callable[[ExamScore], None] = lambda score: None,
) -> list[ExamScore]:
    """Ask a model everything that the world can ask.

    Args:
        num_items: questions of each section.
        seed: which ones; another seed shares none.
        sections: names of `SECTIONS`; all by default.
        split: of the world.
        shuffled: ask each question about another item's picture as well.
        batch_size: questions answered together.
        size: of pictures and frames in pixels.
        source: what is already drawn, in place of `split` and `size`; another call may use it again.
        on_section: called with each section as it is done.

    Raises:
        ConfigError: an unknown section or split, or no items.
    """
    unknown = [name for name in sections or () if name not in SECTIONS]
    if unknown:
        raise ConfigError(f"section '{unknown[0]}' does not exist; choose among {', '.join(SECTIONS)}")
    if num_items < 2:
        raise ConfigError(f"num_items must be at least 2, not {num_items}: a picture is exchanged for another's")
    source = source or ExamWorld(split, size)
    results: list[ExamScore] = []
    for name in sections or tuple(SECTIONS):
        section = SECTIONS[name]
        items = section.items(source, num_items, seed)
        results.append(_graded(assistant, section, items, shuffled, batch_size))
        on_section(results[-1])
    return results


def _graded(
    assistant: Assistant, section: Section, items: list[ExamItem], shuffled: bool, batch_size: int
) -> ExamScore:
    score = SCORES[section.score]
    given = _answers(assistant, section, [ChatMessage.user(item.part, item.question) for item in items], batch_size)
    answers = [ExamAnswer(item, text, score(text, item.wanted)) for item, text in zip(items, given, strict=True)]
    if shuffled:
        others = [*items[len(items) // 2 :], *items[: len(items) // 2]]
        pairs = list(zip(items, others, strict=True))
        messages = [ChatMessage.user(other.part, item.question) for item, other in pairs]
        texts = _answers(assistant, section, messages, batch_size)
        answers = [
            ExamAnswer(one.item, one.given, one.score, text, score(text, one.item.wanted))
            for one, text in zip(answers, texts, strict=True)
        ]
    return ExamScore(section.name, tuple(answers), chance_of(section, items))


def _answers(assistant: Assistant, section: Section, messages: Sequence[ChatMessage], batch_size: int) -> list[str]:
    options = GenerationOptions(max_new_tokens=section.max_new_tokens)
    conversations = [[message] for message in messages]
    found = assistant.generate_many(conversations, seeing=section.seeing, options=options, batch_size=batch_size)
    return [answer.text for answer in found]


def chance_of(section: Section, items: Sequence[ExamItem]) -> float:
    """The score of not looking at all: the best constant answer, or guessing among the choices if that is better."""
    wanted = [item.wanted for item in items]
    if section.score == "stretch":
        return _best_constant_stretch(wanted)
    if section.score in ("words", "events"):
        # No caption is right most often: another item's stands for a fluent one that has seen nothing.
        half = len(wanted) // 2
        pairs = zip(wanted, [*wanted[half:], *wanted[:half]], strict=True)
        return float(np.mean([SCORES[section.score](other, own) for own, other in pairs]))
    named = [" ".join(_named(text)) if section.score == "names" else _plain(text) for text in wanted]
    most_frequent = Counter(named).most_common(1)[0][1] / len(named)
    guessed = sum(1 / item.num_choices if item.num_choices else 0.0 for item in items) / len(items)
    return max(most_frequent, guessed)


def _exact(given: str, wanted: str) -> float:
    """Steps towards an answer may be told before a colon."""
    return float(_plain(given.rpartition(": ")[2]) == _plain(wanted))


def _plain(text: str) -> str:
    return " ".join(text.lower().strip().rstrip(".").split())


def _names(given: str, wanted: str) -> float:
    """Whether the first colour and the first shape of a description are those of the object, under any of its names."""
    return float(_named(given) == _named(wanted))


def _named(text: str) -> tuple[str, str]:
    words = re.findall(r"[a-z]+", text.lower())
    colours = (word for word in words if word in world.COLOURS)
    shapes = (_SHAPE_NAMES[word] for word in words if word in _SHAPE_NAMES)
    return next(colours, ""), next(shapes, "")


def _stretch(given: str, wanted: str) -> float:
    """RTLoc's recall at the four overlaps."""
    true = metrics.parse_stretch(wanted).stretch
    assert true is not None, "answers of the world are stretches"
    found = metrics.localisation([metrics.parse_stretch(given).stretch], [true])
    return found.mean_recall


def _events(given: str, wanted: str) -> float:
    """RDCap's SODA with shared words in place of a judge."""
    true = metrics.parse_events(wanted, "clean").events
    said = metrics.parse_events(given, "clean").events
    alike = [[metrics.token_f1(other.caption, one.caption) for other in said] for one in true]
    stretches, predicted = [one.stretch for one in true], [one.stretch for one in said]
    return metrics.soda_c(stretches, predicted, alike if said else None).f_measure


SCORES: dict[str, Callable[[str, str], float]] = {
    "exact": _exact,
    "names": _names,
    "stretch": _stretch,
    "words": metrics.token_f1,
    "events": _events,
}


def _best_constant_stretch(wanted: Sequence[str]) -> float:
    true = [stretch for text in wanted if (stretch := metrics.parse_stretch(text).stretch) is not None]
    constants = [Stretch(float(start), float(end)) for start, end in combinations(range(NUM_FRAMES), 2)]
    return max(metrics.localisation([constant] * len(true), true).mean_recall for constant in constants)
