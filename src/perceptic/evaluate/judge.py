"""A judge: a language model that says how good an answer is, behind one small protocol.

    judge = open_judge("http://localhost:8000/v1", model="Llama-3.3-70B-Instruct")     # OpenAI-compatible endpoint
    judge = open_judge("local:Perception-LM-8B")                                       # a PerceptionLM of this machine
    judge = open_judge("lexical")                                                      # shared words: for offline tests

Replies are kept by the content of the question, so that a run that was interrupted, or is repeated, pays for nothing
twice. What a reply means is read by `metrics.parse_verdict` and `metrics.parse_score`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from perceptic.errors import ConfigError
from perceptic.evaluate.reply_store import ReplyStore, content_key

JudgeForm = Literal["verdict", "score"]
MAX_REPLY_TOKENS = 256
ENVIRONMENT = {"url": "PERCEPTIC_JUDGE_URL", "model": "PERCEPTIC_JUDGE_MODEL", "key": "PERCEPTIC_JUDGE_KEY"}


@dataclass(frozen=True)
class JudgePrompt:
    """What a judge is asked.

    Attributes:
        system, user: the two messages of the chat.
        predicted, reference: the texts that they compare.
        form: what is asked for: `verdict` (`{"pred": "yes" | "no", ...}`) or `score` (`{"score": 0 to 10, ...}`).
    """

    system: str
    user: str
    predicted: str
    reference: str
    form: JudgeForm


@dataclass(frozen=True)
class JudgeFacts:
    """What a report says of a judge.

    Attributes:
        kind: `endpoint`, `local` or `lexical`. name: the model.
        is_comparable: whether figures may stand beside published ones, as far as the judge goes.
        settings: everything else that decides its replies.
    """

    kind: str
    name: str
    is_comparable: bool
    settings: dict[str, Any] = field(default_factory=dict)


class Judge(Protocol):
    """Prompts in, replies out."""

    @property
    def facts(self) -> JudgeFacts: ...

    def replies(self, prompts: Sequence[JudgePrompt]) -> Iterator[tuple[int, str]]:
        """The number of a prompt and its reply, in any order, each as soon as it is there.

        Raises:
            NetworkError, ConfigError: the judge cannot be asked. What came before was given out already.
        """
        ...


def open_judge(name: str, *, model: str = "", concurrency: int = 8, device: str = "auto") -> Judge:
    """A judge by its name.

    Args:
        name: `lexical`, `local:MODEL`, the address of an OpenAI-compatible endpoint, or "" for the address in
            PERCEPTIC_JUDGE_URL. An endpoint's key is read from PERCEPTIC_JUDGE_KEY alone.
        model: of the endpoint; "" takes PERCEPTIC_JUDGE_MODEL.
        concurrency: questions that an endpoint is asked at once.
        device: of a local model.

    Raises:
        ConfigError: no judge is named, or an endpoint without a model.
        WeightsError and its kinds: the local model cannot be loaded.
    """
    from perceptic.evaluate.judge_endpoint import EndpointJudge
    from perceptic.evaluate.judge_local import LexicalJudge, LocalJudge

    name = name or judge_in_environment()
    if name == "lexical":
        return LexicalJudge()
    if name.startswith("local:"):
        return LocalJudge.load(name.removeprefix("local:"), device=device)
    if name.startswith(("http://", "https://")):
        model = model or judge_model_in_environment()
        if not model:
            raise ConfigError(f"judge {name}: name its model (judge_model, or {ENVIRONMENT['model']})")
        return EndpointJudge(name, model, key=os.environ.get(ENVIRONMENT["key"], ""), concurrency=concurrency)
    raise ConfigError(
        f"judge {name!r}: give the address of an OpenAI-compatible endpoint (http://..., or {ENVIRONMENT['url']}), "
        "local:MODEL, or lexical (shared words; its figures compare with nothing published)"
    )


def judge_in_environment() -> str:
    """The judge that is named outside of the command, "" for none."""
    return os.environ.get(ENVIRONMENT["url"], "")


def judge_model_in_environment() -> str:
    """Its model, "" for none."""
    return os.environ.get(ENVIRONMENT["model"], "")


def ask_judge(
    judge: Judge,
    prompts: Sequence[JudgePrompt],
    store: ReplyStore | None = None,
    on_reply: Callable[[int, int], None] = lambda done, total: None,
) -> list[str]:
    """Replies to prompts, in their order; equal prompts are asked once, and none that the store knows.

    Args:
        on_reply: called with how many are known, of how many.

    Raises:
        NetworkError, ConfigError: the judge cannot be asked; what it said before is in the store.
    """
    store = store if store is not None else ReplyStore(None)
    facts = judge.facts
    made_with = {"kind": facts.kind, "name": facts.name, **facts.settings}
    keys = [content_key({"judge": made_with, "system": one.system, "user": one.user}) for one in prompts]
    todo: dict[str, JudgePrompt] = {}
    for key, prompt in zip(keys, prompts, strict=True):
        if store.get(key) is None:
            todo.setdefault(key, prompt)
    waiting = list(todo)
    for done, (number, reply) in enumerate(judge.replies(list(todo.values())), start=1):
        store.put(waiting[number], reply, judge=facts.name)
        on_reply(len(set(keys)) - len(todo) + done, len(set(keys)))
    found = [text for key in keys if (text := store.get(key)) is not None]
    if len(found) < len(keys):
        raise ConfigError(f"judge {facts.name}: replied to {len(found)} of {len(keys)} prompts; it must reply to all")
    return found
