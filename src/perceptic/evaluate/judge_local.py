"""Judges that need no network: a PerceptionLM reading text, and a stand-in that counts shared words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from perceptic.evaluate.judge import MAX_REPLY_TOKENS, JudgeFacts, JudgePrompt
from perceptic.inference.sampling import GenerationOptions
from perceptic.metrics import token_f1
from perceptic.tasks.assistant import Assistant
from perceptic.tasks.messages import ChatMessage

_BATCH = 16
_ENOUGH = 0.5  # shared words that count as a yes


@dataclass(frozen=True)
class LocalJudge:
    """A PerceptionLM as a judge of texts. It was trained to look, not to judge: figures compare among its own only."""

    assistant: Assistant

    @classmethod
    def load(cls, source: str, **options: Any) -> LocalJudge:
        """Raises WeightsError and its kinds."""
        return cls(Assistant.load(source, **options))

    @property
    def facts(self) -> JudgeFacts:
        settings = {"weights": self.assistant.fingerprint, "temperature": 0, "max_tokens": MAX_REPLY_TOKENS}
        return JudgeFacts("local", self.assistant.name, False, settings)

    def replies(self, prompts: Sequence[JudgePrompt]) -> Iterator[tuple[int, str]]:
        """See `Judge.replies`."""
        options = GenerationOptions(max_new_tokens=MAX_REPLY_TOKENS)
        for start in range(0, len(prompts), _BATCH):
            batch = prompts[start : start + _BATCH]
            conversations = [(ChatMessage.system(one.system), ChatMessage.user(one.user)) for one in batch]
            answers = self.assistant.generate_many(conversations, options=options, batch_size=_BATCH)
            yield from enumerate((answer.text for answer in answers), start=start)


@dataclass(frozen=True)
class LexicalJudge:
    """Shared words in place of understanding: for tests and a first look without a model. Compares with nothing."""

    @property
    def facts(self) -> JudgeFacts:
        return JudgeFacts("lexical", "lexical", False, {"measure": "token F1", "yes_from": _ENOUGH})

    def replies(self, prompts: Sequence[JudgePrompt]) -> Iterator[tuple[int, str]]:
        """See `Judge.replies`."""
        for number, prompt in enumerate(prompts):
            alike = token_f1(prompt.predicted, prompt.reference)
            if prompt.form == "verdict":
                value: dict[str, Any] = {"pred": "yes" if alike >= _ENOUGH else "no", "score": round(5 * alike)}
            else:
                value = {"score": round(10 * alike), "explanation": "shared words"}
            yield number, json.dumps(value)
