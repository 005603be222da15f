"""How probable a model finds an answer that somebody else wrote."""

from __future__ import annotations

from dataclasses import dataclass

from perceptic.errors import TextError
from perceptic.inference.prompts import EncodedMedia, make_prompt
from perceptic.inference.scoring import score_prompt
from perceptic.tasks.answers import PreparedPrompt
from perceptic.tasks.assistant import Assistant


@dataclass(frozen=True)
class ContinuationScore:
    """A text behind a prompt.

    Attributes:
        log_likelihood: sum over its tokens, natural logarithm.
        num_tokens: how many it has.
        is_greedy: whether each of them is the most probable one.
    """

    log_likelihood: float
    num_tokens: int
    is_greedy: bool


def score_continuation(assistant: Assistant, prepared: PreparedPrompt, text: str) -> ContinuationScore:
    """How probable `text` is as the beginning of the answer to a prompt (`Assistant.prepare`).

    Raises:
        TextError: an empty text.
        ConfigError: prompt and text together do not fit.
    """
    token_ids = assistant.tokenizer.encode(text)
    if not token_ids:
        raise TextError("a continuation needs at least one token, got an empty text")
    prompt = prepared.prompt
    seen = prompt.pixels if prompt.features is None else EncodedMedia(prompt.features, tuple(prompt.chunk_keys))
    scores = score_prompt(assistant.model, make_prompt(assistant.model, [*prompt.token_ids, *token_ids], seen))
    start = len(prompt.token_ids) - 1  # the score at i is that of token i + 1
    return ContinuationScore(
        log_likelihood=float(scores.log_probabilities[start:].sum()),
        num_tokens=len(token_ids),
        is_greedy=bool(scores.is_best[start:].all()),
    )
