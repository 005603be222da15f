"""A judge at work in a benchmark: opened by the run's options, asked through the store, described in the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from perceptic.evaluate.judge import Judge, JudgePrompt, ask_judge, open_judge
from perceptic.evaluate.judge_prompts import WORDING
from perceptic.evaluate.reply_store import open_replies


class JudgeOptions(Protocol):
    """What of a runner's options names a judge."""

    @property
    def judge(self) -> str: ...

    @property
    def judge_model(self) -> str: ...

    @property
    def judge_concurrency(self) -> int: ...


@dataclass(frozen=True)
class Judging:
    """Call it with prompts.

    Attributes:
        cache: folder of the run. Replies lie in `judge/replies.jsonl`; the key of each says which judge it is of.
    """

    judge: Judge
    cache: Path | None
    on_reply: Callable[[int, int], None]

    @classmethod
    def of(cls, options: JudgeOptions, cache: Path | None, on_reply: Callable[[int, int], None]) -> Judging:
        """Raises ConfigError as `open_judge`: call it before a model works for hours."""
        judge = open_judge(options.judge, model=options.judge_model, concurrency=options.judge_concurrency)
        return cls(judge, cache, on_reply)

    def __call__(self, prompts: Sequence[JudgePrompt]) -> list[str]:
        """Replies in the order of the prompts. Raises as `ask_judge`."""
        path = None if self.cache is None else self.cache / "judge" / "replies.jsonl"
        with open_replies(path) as store:
            return ask_judge(self.judge, prompts, store, self.on_reply)

    def facts(self) -> dict[str, Any]:
        """What decides the judge's part of a figure."""
        facts = self.judge.facts
        said = {"kind": facts.kind, "name": facts.name, "is_comparable": facts.is_comparable, "wording": WORDING}
        return {**said, **facts.settings}

    def notes(self) -> list[str]:
        """A warning where figures compare with nothing published."""
        facts = self.judge.facts
        if facts.is_comparable:
            return []
        return [f"Judge: {facts.name} ({facts.kind}). These figures compare with no published ones."]
