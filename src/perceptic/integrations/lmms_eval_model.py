"""A PerceptionLM as a model of lmms-eval (its "simple" interface, version 0.7; datasets-and-benchmarks section 6.3).

Loaded by lmms-eval alone: importing it needs that package.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from perceptic.errors import ConfigError
from perceptic.integrations.lmms_eval_requests import media_of, options_of
from perceptic.optional import require
from perceptic.tasks.assistant import Assistant
from perceptic.tasks.continuations import score_continuation
from perceptic.tasks.messages import ChatMessage
from perceptic.tasks.seeing import Sampling, Seeing

require("lmms_eval", "a model for lmms-eval")
from lmms_eval.api.model import lmms  # noqa: E402  (said how to install it first)


@dataclass(frozen=True)
class _Asked:
    """One request of `generate_until`: its place, its words, and what settings it comes with."""

    place: int
    context: str
    settings: dict[str, Any]
    messages: tuple[ChatMessage, ...]


class PercepticLMM(lmms):  # type: ignore[misc]  # the package has no types
    """Args as in `--model_args`.

    Args:
        pretrained: a zoo name, hub repository or folder.
        device, dtype, weights: as in `Assistant.load`.
        batch_size: requests answered together.
        num_frames, max_num_tiles: the most of each; None takes the model's own.
        sampling: of video files: `one_per_second` (the models' training) or `uniform`.
        strip_dot: take one dot off the end of every answer, as the reference's wrapper does; exact matches hang on it.

    Raises:
        ConfigError: an unknown argument.
        WeightsError and its kinds: the model cannot be loaded.
    """

    is_simple = True

    def __init__(
        self,
        pretrained: str = "PLM-Nano",
        device: str | None = None,
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
        dtype: str = "auto",
        weights: str | None = None,
        num_frames: int | None = None,
        max_num_tiles: int | None = None,
        sampling: Sampling = "one_per_second",
        strip_dot: bool = True,
        **unknown: Any,
    ) -> None:
        super().__init__()
        if unknown:
            raise ConfigError(f"model_args: no argument '{min(unknown)}'; see perceptic.integrations.lmms_eval_model")
        self.assistant = Assistant.load(pretrained, device=device or "auto", dtype=dtype, weights=weights)
        self.batch_size = int(batch_size)
        self.strip_dot = strip_dot
        self.seeing = Seeing(num_frames=num_frames, max_num_tiles=max_num_tiles, sampling=sampling)
        self.device = self.assistant.device

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """One answer for each request, in their order; requests of equal settings are answered together."""
        answers = [""] * len(requests)
        groups: dict[str, list[_Asked]] = {}
        for place, request in enumerate(requests):
            context, settings, doc_to_visual, doc_id, task, split = request.args
            visuals = doc_to_visual(self.task_dict[task][split][doc_id])
            asked = _Asked(place, context, dict(settings), (ChatMessage.user(*media_of(visuals), context),))
            groups.setdefault(repr(sorted(asked.settings.items())), []).append(asked)
        for group in groups.values():
            options = options_of(group[0].settings)
            texts = self.assistant.generate_many(
                [asked.messages for asked in group], seeing=self.seeing, options=options, batch_size=self.batch_size
            )
            for asked, answer in zip(group, texts, strict=True):
                text = answer.text.removesuffix(".") if self.strip_dot else answer.text
                answers[asked.place] = text
                self.cache_hook.add_partial("generate_until", (asked.context, asked.settings), text)
        return answers

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """For each request the log-likelihood of its continuation, and whether greedy decoding would give it."""
        return [self._loglikelihood(*request.args) for request in requests]

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        """Not offered: tasks of several rounds bring callbacks of their own."""
        raise NotImplementedError("perceptic answers tasks of one round")

    def _loglikelihood(
        self, context: str, target: Any, doc_to_visual: Any, doc_id: Any, task: str, split: str
    ) -> tuple[float, bool]:
        document = self.task_dict[task][split][doc_id]
        continuation = target if isinstance(target, str) else str(target(document))
        message = ChatMessage.user(*media_of(doc_to_visual(document)), context)
        prepared = self.assistant.prepare([message], self.seeing)
        score = score_continuation(self.assistant, prepared, continuation)
        return score.log_likelihood, score.is_greedy
