"""The language model in the claims: rows that are written once, PLM-Nano tuned on a mix of them, questions to it.

Every question comes with its possible answers, so that guessing has a known score and an answer of another
form counts as a guess: what is measured is seeing, not the habit of answering in a form.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from perceptic.evaluate.claims.mini import Arm, weights_of
from perceptic.files import write_bytes, write_text
from perceptic.inference.sampling import GenerationOptions
from perceptic.media.collection import MediaKind
from perceptic.tasks.assistant import Assistant
from perceptic.tasks.media_parts import MediaPart
from perceptic.tasks.messages import ChatMessage
from perceptic.tasks.seeing import Seeing
from perceptic.weights.plm_folder import read_plm_folder
from perceptic.weights.plm_sources import find_plm_folder
from perceptic.world.plm_rows import Row, conversation

BEGINS_WITH = "PLM-Nano"
_SUFFIXES: Mapping[MediaKind, str] = {"image": "png", "video": "mp4"}
_SHORT = GenerationOptions(max_new_tokens=8)
_BATCH = 16
_TEXT_TOKENS = 100
"""Of a sample: the system prompt, questions and answers."""


@dataclass(frozen=True)
class Lesson:
    """A picture or clip as a file's bytes, and questions with answers about it."""

    kind: MediaKind
    content: bytes
    turns: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Choice:
    """A question that has one of `choices` as its answer."""

    part: MediaPart
    question: str
    choices: tuple[str, ...]
    wanted: str


@dataclass(frozen=True)
class Marks:
    """Percent of right answers, where an answer that names none of the choices, or several, is right as often as a
    guess; and percent of those answers."""

    right: float
    unread: float


def write_lessons(folder: Path, sets: Callable[[], Mapping[str, Iterable[Lesson]]]) -> Path:
    """Row files by the names of the sets, their media, and the `datasets.yaml` of them all, once; its path."""
    registry = folder / "datasets.yaml"
    if registry.exists():
        return registry
    entries = {}
    for name, lessons in sets().items():
        lines = [json.dumps(_row(folder, lesson)) for lesson in lessons]
        write_text(folder / f"{name}.jsonl", "\n".join(lines) + "\n")
        entries[name] = {"annotation": f"{name}.jsonl", "root_dir": "."}
    write_text(registry, yaml.safe_dump(entries))
    return registry


def tuning(
    name: str, mix: str, write: Callable[[Path], Path], *, chunks: int, samples: int, stage: Sequence[str] = ()
) -> Arm:
    """PLM-Nano gone on with on a mix of the sets that `write` writes below a folder.

    Args:
        chunks: of a sample; samples: that a step's tokens make room for, so that arms that see more of each sample see
            as many samples. stage: "field=value" of `PlmStage`, what the arm looks at.
    """
    changes = (f"phases.0.mix={mix}", *(f"phases.0.stage_overrides.{change}" for change in stage))

    def prepare(work: Path) -> tuple[str, ...]:
        config = read_plm_folder(find_plm_folder(BEGINS_WITH)).config
        return (
            f"data.registry={write(work)}",
            f"phases.0.stage_overrides.pooling_ratio={config.pooling_ratio}",
            f"phases.0.max_tokens={samples * (chunks * config.tokens_per_chunk + _TEXT_TOKENS)}",
        )

    def origin() -> str:
        return f"{weights_of(BEGINS_WITH)}, {samples} samples of {chunks} chunks"

    return Arm(name, changes, recipe="language", prepare=prepare, origin=origin)


def marks(model: str | Path, asked: Mapping[str, Sequence[Choice]], seeing: Seeing | None = None) -> dict[str, Marks]:
    """Put questions to a model, kind by kind; what several kinds are about is looked at once."""
    assistant = Assistant.load(model)
    return {kind: _marks(assistant, choices, seeing) for kind, choices in asked.items()}


def _marks(assistant: Assistant, asked: Sequence[Choice], seeing: Seeing | None) -> Marks:
    conversations = [[ChatMessage.user(one.part, one.question)] for one in asked]
    answers = assistant.generate_many(conversations, seeing=seeing, options=_SHORT, batch_size=_BATCH)
    named = [named_choice(answer.text, one.choices) for answer, one in zip(answers, asked, strict=True)]
    right = sum(
        1 / len(one.choices) if name is None else name == one.wanted for name, one in zip(named, asked, strict=True)
    )
    return Marks(100 * right / len(asked), 100 * named.count(None) / len(asked))


def scores_of(found: Mapping[str, Mapping[str, Marks]]) -> dict[str, float]:
    """For a page: by arm and kind of question, percent of right answers; and of an arm's answers without a choice."""
    scores = {f"{arm}: {kind}": one.right for arm, by_kind in found.items() for kind, one in by_kind.items()}
    for arm, by_kind in found.items():
        scores[f"{arm}: answers that name no choice"] = sum(one.unread for one in by_kind.values()) / len(by_kind)
    return scores


def named_choice(answer: str, choices: Sequence[str]) -> str | None:
    """The only choice among the words of an answer."""
    words = f" {' '.join(re.findall(r'[a-z0-9]+', answer.lower()))} "
    found = [choice for choice in choices if f" {choice.lower()} " in words]
    return found[0] if len(found) == 1 else None


def _row(folder: Path, lesson: Lesson) -> Row:
    path = f"media/{hashlib.sha256(lesson.content).hexdigest()[:24]}.{_SUFFIXES[lesson.kind]}"
    if not (folder / path).exists():
        write_bytes(folder / path, lesson.content)
    (ask, answer), *others = lesson.turns
    return {lesson.kind: path, "conversations": conversation((f"<{lesson.kind}>\n{ask}", answer), *others)}
