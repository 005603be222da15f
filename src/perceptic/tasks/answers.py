"""What a model is asked with, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass

from perceptic.inference.generation import FinishReason, Generation
from perceptic.inference.prompts import Prompt
from perceptic.tasks.seeing import MediaSeen


@dataclass(frozen=True)
class PromptSize:
    """How long a prompt will be, known from the headers of its media.

    Attributes:
        num_tokens: of the whole prompt. num_text_tokens: of it, what is not media (template included).
        max_tokens: positions of the model; the answer needs at least one of them.
        media: tokens and frame times of each medium.
        notes: in what the prompt goes beyond what the model was trained with.
    """

    num_tokens: int
    num_text_tokens: int
    max_tokens: int
    media: tuple[MediaSeen, ...]
    notes: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        return self.num_tokens < self.max_tokens


@dataclass(frozen=True)
class PreparedPrompt:
    """A prompt with decoded media, ready to be answered as often as wanted."""

    prompt: Prompt
    media: tuple[MediaSeen, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What a model said, and what it saw.

    Attributes:
        finish_reason: `stop` (the model ended), `stop_string`, `length` or `cancelled`.
        media: pictures and videos of the whole conversation, in order, with the seconds of the frames seen.
        log_probabilities: of each generated token under the model, the one that ended the answer included.
        notes: in what the prompt went beyond what the model was trained with.
    """

    text: str
    finish_reason: FinishReason
    num_prompt_tokens: int
    num_answer_tokens: int
    media: tuple[MediaSeen, ...]
    token_ids: tuple[int, ...]
    log_probabilities: tuple[float, ...]
    notes: tuple[str, ...] = ()


def answer_of(generation: Generation, prepared: PreparedPrompt) -> Answer:
    """A generation with what its prompt showed."""
    return Answer(
        text=generation.text,
        finish_reason=generation.finish_reason,
        num_prompt_tokens=generation.num_prompt_tokens,
        num_answer_tokens=len(generation.token_ids),
        media=prepared.media,
        token_ids=generation.token_ids,
        log_probabilities=generation.log_probabilities,
        notes=prepared.notes,
    )
