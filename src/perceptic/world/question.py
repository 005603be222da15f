"""The question value and the yes-or-no answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

YES_NO: Final = ("yes", "no")


@dataclass(frozen=True, slots=True)
class Question:
    """`kind` names the skill; `choices` are the possible answers where there are few, the right one among them;
    `object_index` is the object asked about, if it is one."""

    kind: str
    question: str
    answer: str
    choices: tuple[str, ...] = ()
    object_index: int | None = None


def yes_no(kind: str, question: str, truth: bool, object_index: int | None = None) -> Question:
    """A question that is answered by yes or no."""
    return Question(kind, question, YES_NO[0] if truth else YES_NO[1], YES_NO, object_index)
