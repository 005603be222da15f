"""How well a PerceptionLM knows the synthetic world: the world's exam as a table, and its mistakes as a page.

Scenes and clips come from splits and seeds that training never draws. Every measure has the value of answering without
looking beside it, and the exam of seen pairs is taken twice: the second time each question is asked about another
item's picture, where the answers must be no better than that value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from perceptic.tasks.assistant import Assistant, load_assistant
from perceptic.tasks.world_exam import ExamScore, take_world_exam
from perceptic.train.world_report import Measure

_AIMS: Final = {
    **dict.fromkeys(("existence", "colour", "shape", "count"), 85.0),
    **dict.fromkeys(("motion_direction", "event_order", "boxed_name"), 80.0),
    "rtloc": 50.0,
}
_WORDS: Final = {
    "count": "count up to 4",
    "boxed_name": "colour and shape of a boxed object",
    "ocr": "reading (OCR)",
    "chart": "charts",
    "motion_direction": "direction of a motion",
    "event_order": "order of events",
    "rtloc": "RTLoc, mean recall",
    "rcap": "RCap, shared words (F1)",
    "caption": "caption of a picture, shared words (F1)",
    "clip_caption": "caption of a clip, shared words (F1)",
    "rdcap": "RDCap, SODA on shared words",
}
_UNSEEN: Final = ("existence", "colour", "shape", "boxed_name")
"""What is also asked about colour-shape pairs that training never shows."""


@dataclass(frozen=True)
class PlmReport:
    """Exams taken: of seen colour-shape pairs with their control, and of unseen ones."""

    seen: tuple[ExamScore, ...]
    unseen: tuple[ExamScore, ...]

    @property
    def measures(self) -> list[Measure]:
        """In percent, in the exam's order; the controls come last."""
        rows = [_measure(score, _title(score), _AIMS) for score in self.seen]
        rows += [_measure(score, f"{_title(score)}, unseen pairs", {}) for score in self.unseen]
        return rows + list(_controls(self.seen))


def plm_report(
    model: str | Path | Assistant,
    *,
    count: int = 100,
    seed: int = 11,
    on_section: Callable[[ExamScore], None] = lambda score: None,
    **loading: Any,
) -> PlmReport:
    """Take the exams.

    Args:
        model: a name, a folder or one that is loaded. loading: as in `perceptic.ask`.
        count: questions of each kind. seed: which ones.
        on_section: called with each part as it is done.

    Raises:
        ConfigError, WeightsError and its kinds: the model cannot be loaded.
    """
    assistant = load_assistant(model, **loading)
    seen = take_world_exam(assistant, num_items=count, seed=seed, on_section=on_section)
    unseen = take_world_exam(
        assistant,
        num_items=count,
        seed=seed,
        sections=_UNSEEN,
        split="heldout_pairs",
        shuffled=False,
        on_section=on_section,
    )
    return PlmReport(tuple(seen), tuple(unseen))


def _title(score: ExamScore) -> str:
    return _WORDS.get(score.section, score.section)


def _measure(score: ExamScore, name: str, aims: dict[str, float]) -> Measure:
    return Measure(name, 100 * score.mean, 100 * score.chance, aims.get(score.section))


def _controls(scores: Sequence[ExamScore]) -> Iterator[Measure]:
    for score in scores:
        if score.shuffled_mean is not None:
            yield Measure(
                f"{_title(score)}, another's picture (control)", 100 * score.shuffled_mean, 100 * score.chance
            )
