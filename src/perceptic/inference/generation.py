"""Answers from a PerceptionLM: one at a time as a stream, or many prompts in a batch.

Short prompts are read together, long ones each on its own (`inference.prefill`); then all rows take their steps
together, because a step is bound by reading the weights, which a batch reads once. A row's result does not depend on
its neighbours.

Shapes: B rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

from perceptic.errors import ConfigError
from perceptic.inference.prefill import ReadPrompts, groups_to_read, read_prompt, read_together
from perceptic.inference.prefix_cache import PrefixCache
from perceptic.inference.prompts import Prompt
from perceptic.inference.sampling import GenerationOptions, choose
from perceptic.inference.text_stream import TextStream
from perceptic.models.kv_cache import KVCache, join
from perceptic.models.perception_lm import PerceptionLM
from perceptic.text.llama_tokenizer import LlamaTokenizer

FinishReason = Literal["stop", "stop_string", "length", "cancelled"]

# Rows that have finished are dropped from the batch once they are a quarter of it: dropping copies the cache.
_WORTH_DROPPING = 0.75


class CancelToken(Protocol):
    """Tells a running generation to end; `threading.Event` is one."""

    def is_set(self) -> bool: ...


@dataclass(frozen=True)
class GeneratedToken:
    """One step of a stream.

    Attributes:
        text: what became certain with this token; often empty, the last token releases what was held back.
        log_probability: of the token under the model itself, before temperature and filters.
        finish_reason: set on the last token.
    """

    token_id: int
    text: str
    log_probability: float
    finish_reason: FinishReason | None = None


@dataclass(frozen=True)
class Generation:
    """A whole answer.

    Attributes:
        text: without the tokens and strings that ended it.
        token_ids: as generated, the token that ended it included.
        log_probabilities: one per token.
        finish_reason: `stop` (the model ended), `stop_string`, `length` or `cancelled`.
    """

    text: str
    token_ids: tuple[int, ...]
    log_probabilities: tuple[float, ...]
    finish_reason: FinishReason
    num_prompt_tokens: int


@dataclass
class _Row:
    """The state of one answer while it is made."""

    prompt: Prompt
    options: GenerationOptions
    stream: TextStream
    generator: torch.Generator
    max_new_tokens: int
    token_ids: list[int] = field(default_factory=list)

    def advance(self, logits_V: Tensor, stop_ids: frozenset[int]) -> GeneratedToken:
        """Choose the next token and say what it means."""
        seen = (*self.prompt.token_ids, *self.token_ids) if self.options.repetition_penalty != 1.0 else ()
        token_id = choose(logits_V, self.options, seen, self.generator)
        log_probability = float(logits_V[token_id].float() - logits_V.float().logsumexp(-1))
        is_stop = token_id in stop_ids
        may_stop = bool(self.token_ids) or self.options.first_token_may_stop
        self.token_ids.append(token_id)
        text = "" if is_stop else self.stream.push(token_id)
        reason: FinishReason | None = None
        if is_stop and may_stop:
            reason = "stop"
        elif self.stream.stopped_by is not None:
            reason = "stop_string"
        elif len(self.token_ids) >= self.max_new_tokens:
            reason = "length"
        if reason is not None:
            text += self.stream.finish()
        return GeneratedToken(token_id, text, log_probability, reason)


def stream(
    model: PerceptionLM,
    tokenizer: LlamaTokenizer,
    prompt: Prompt,
    options: GenerationOptions | None = None,
    *,
    prefix_cache: PrefixCache | None = None,
    cancel: CancelToken | None = None,
) -> Iterator[GeneratedToken]:
    """One answer, token by token. Closing the iterator ends the work.

    Args:
        prefix_cache: looked in for the beginning of the prompt; afterwards it knows prompt and answer.
        cancel: once set, the iterator ends before the next token, without a finish reason.
    """
    row = _start(model, tokenizer, prompt, options or GenerationOptions())
    read = read_prompt(model, prompt, prefix_cache, extra_columns=row.max_new_tokens)
    cache, logits_V = read.cache, read.logits_BV[0]
    try:
        while cancel is None or not cancel.is_set():
            token = row.advance(logits_V, tokenizer.stop_ids)
            yield token
            if token.finish_reason is not None:
                return
            step = _step(model, [token.token_id], cache)
            cache, logits_V = step.cache, step.logits_BV[0]
    finally:
        if prefix_cache is not None:
            answer = row.token_ids[: cache.length - len(prompt)]
            prefix_cache.store((*prompt.cells, *answer), cache)


def generate(
    model: PerceptionLM,
    tokenizer: LlamaTokenizer,
    prompts: Sequence[Prompt],
    options: GenerationOptions | Sequence[GenerationOptions] | None = None,
    *,
    batch_size: int = 16,
    prefix_cache: PrefixCache | None = None,
    cancel: CancelToken | None = None,
) -> list[Generation]:
    """Answers to several prompts, in their order.

    Args:
        options: for all prompts, or one for each.
        batch_size: rows that take their steps together.
        prefix_cache: shared beginnings are read once.
        cancel: once set, unfinished answers end as they are, with the reason `cancelled`.

    Raises:
        ConfigError: another number of options than prompts, or a batch size below 1.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, not {batch_size}")
    given = [options or GenerationOptions()] * len(prompts) if not isinstance(options, Sequence) else list(options)
    if len(given) != len(prompts):
        raise ConfigError(f"{len(given)} options for {len(prompts)} prompts; give one for all or one for each")
    # Neighbours of similar length waste the fewest columns on padding.
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    results: dict[int, Generation] = {}
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        rows = [_start(model, tokenizer, prompts[index], given[index]) for index in chosen]
        finished = _run_batch(model, rows, tokenizer.stop_ids, prefix_cache, cancel)
        results.update(zip(chosen, finished, strict=True))
    return [results[index] for index in range(len(prompts))]


@dataclass
class _Answer:
    row: _Row
    tokens: list[GeneratedToken] = field(default_factory=list)

    @property
    def is_finished(self) -> bool:
        return bool(self.tokens) and self.tokens[-1].finish_reason is not None

    def result(self) -> Generation:
        last = self.tokens[-1].finish_reason if self.tokens else None
        text = "".join(token.text for token in self.tokens)
        return Generation(
            text=text if last is not None else text + self.row.stream.finish(),
            token_ids=tuple(token.token_id for token in self.tokens),
            log_probabilities=tuple(token.log_probability for token in self.tokens),
            finish_reason=last or "cancelled",
            num_prompt_tokens=len(self.row.prompt),
        )


def _run_batch(
    model: PerceptionLM,
    rows: Sequence[_Row],
    stop_ids: frozenset[int],
    prefix_cache: PrefixCache | None,
    cancel: CancelToken | None,
) -> list[Generation]:
    answers = [_Answer(row) for row in rows]
    caches: list[KVCache] = []
    active: list[_Answer] = []
    for group in _groups([row.prompt for row in rows], prefix_cache):
        if cancel is not None and cancel.is_set():
            break
        chosen = [answers[index] for index in group]
        read = _read_group(model, [answer.row.prompt for answer in chosen], prefix_cache)
        for answer, logits_V in zip(chosen, read.logits_BV, strict=True):
            answer.tokens.append(answer.row.advance(logits_V, stop_ids))
        going = [index for index, answer in enumerate(chosen) if not answer.is_finished]
        if going:
            caches.append(read.cache if len(going) == len(chosen) else read.cache.rows(going))
            active += [chosen[index] for index in going]
    if active:
        cache = join(caches, extra_columns=max(answer.row.max_new_tokens for answer in active))
        caches.clear()
        _step_together(model, active, cache, stop_ids, cancel)
    return [answer.result() for answer in answers]


def _groups(prompts: Sequence[Prompt], prefix_cache: PrefixCache | None) -> list[list[int]]:
    """Which prompts to read together. Those whose pictures are known already are read alone, from there on."""
    alone = [
        index
        for index, prompt in enumerate(prompts)
        if prefix_cache is not None and prompt.num_image_tokens(prefix_cache.known_length(prompt.cells))
    ]
    others = [index for index in range(len(prompts)) if index not in alone]
    groups = groups_to_read([len(prompts[index]) for index in others])
    return [[index] for index in alone] + [[others[i] for i in group] for group in groups]


def _read_group(model: PerceptionLM, prompts: Sequence[Prompt], prefix_cache: PrefixCache | None) -> ReadPrompts:
    """Read prompts together, or a single one from where the prefix cache ends."""
    read = read_prompt(model, prompts[0], prefix_cache) if len(prompts) == 1 else read_together(model, prompts)
    if prefix_cache is not None:
        for index, prompt in enumerate(prompts):
            prefix_cache.store(prompt.cells, read.cache if len(prompts) == 1 else read.cache.unpadded_row(index))
    return read


def _step_together(
    model: PerceptionLM,
    active: list[_Answer],
    cache: KVCache,
    stop_ids: frozenset[int],
    cancel: CancelToken | None,
) -> None:
    """Steps of all rows until the last has finished; `active` has one answer per row of the cache."""
    while not all(answer.is_finished for answer in active):
        if cancel is not None and cancel.is_set():
            return
        going = [index for index, answer in enumerate(active) if not answer.is_finished]
        if len(going) <= _WORTH_DROPPING * len(active):
            cache = cache.rows(going)
            active = [active[index] for index in going]
        # A finished row that was not worth dropping repeats its last token; nobody looks at what comes of it.
        step = _step(model, [answer.tokens[-1].token_id for answer in active], cache)
        cache = step.cache
        for answer, logits_V in zip(active, step.logits_BV, strict=True):
            if not answer.is_finished:
                answer.tokens.append(answer.row.advance(logits_V, stop_ids))


@dataclass(frozen=True)
class _Step:
    logits_BV: Tensor
    cache: KVCache


@torch.inference_mode()
def _step(model: PerceptionLM, token_ids: Sequence[int], cache: KVCache) -> _Step:
    ids = torch.tensor(token_ids, device=model.decoder.device)[:, None]
    extended = model.decoder.extend(model.decoder.embed(ids), cache)
    return _Step(model.decoder.logits(extended.hidden_BLD[:, -1]), extended.cache)


def _start(model: PerceptionLM, tokenizer: LlamaTokenizer, prompt: Prompt, options: GenerationOptions) -> _Row:
    generator = torch.Generator()
    if options.seed is None:
        generator.seed()
    else:
        generator.manual_seed(options.seed)
    room = model.config.decoder.max_seqlen - len(prompt)
    return _Row(
        prompt=prompt,
        options=options,
        stream=TextStream(tokenizer, options.stop),
        generator=generator,
        max_new_tokens=min(options.max_new_tokens, room),
    )
