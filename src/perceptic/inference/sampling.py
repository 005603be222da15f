"""How the next token is chosen from logits: pure functions of one row (perception-language-model spec section 7).

Shapes: V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from perceptic.configs import Config

_FIRST_CANDIDATES = 256


@dataclass(frozen=True)
class GenerationOptions(Config):
    """How to generate. Without changes: greedy, up to 256 tokens.

    Filters combine: penalty, temperature, then whichever of `top_k`, `top_p` and `min_p` are given, in this order.

    Attributes:
        temperature: 0 takes the most probable token; above, tokens are drawn from softmax(logits / temperature).
        top_k: draw among the k most probable tokens, ties with the last included.
        top_p: draw among the most probable tokens; one is kept if those before it have at most this mass together.
        min_p: draw among tokens with at least this fraction of the largest probability.
        repetition_penalty: divides the logits (multiplies negative ones) of tokens that occurred; 1 does nothing.
        seed: of the row's own source of chance, whatever else is in the batch; None draws one.
        stop: strings that end the answer; they are no part of its text.
        first_token_may_stop: the original never tests the first token and so cannot give an empty answer.
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    first_token_may_stop: bool = True

    def __post_init__(self) -> None:
        given: object = self.stop  # from JSON it may be a list, from a user a bare string
        object.__setattr__(self, "stop", (given,) if isinstance(given, str) else tuple(self.stop))
        self._require(
            isinstance(self.max_new_tokens, int) and self.max_new_tokens > 0,
            f"max_new_tokens must be a positive integer, not {self.max_new_tokens!r}",
        )
        self._require(
            _is_number(self.temperature) and 0 <= self.temperature < float("inf"),
            f"temperature must be 0 or more, not {self.temperature!r}",
        )
        self._require(
            self.top_k is None or (isinstance(self.top_k, int) and self.top_k > 0),
            f"top_k must be a positive integer, not {self.top_k!r}",
        )
        for name in ("top_p", "min_p"):
            value = getattr(self, name)
            self._require(
                value is None or (_is_number(value) and 0 <= value <= 1), f"{name} must be in [0, 1], not {value!r}"
            )
        self._require(
            _is_number(self.repetition_penalty) and 0 < self.repetition_penalty < float("inf"),
            f"repetition_penalty must be positive, not {self.repetition_penalty!r}",
        )
        self._require(
            all(isinstance(text, str) and text for text in self.stop),
            f"stop must be strings of text, not {self.stop!r}",
        )

    @property
    def is_greedy(self) -> bool:
        return self.temperature == 0


def penalized(logits_V: Tensor, seen: Iterable[int], penalty: float) -> Tensor:
    """Logits with those of tokens that occurred made smaller."""
    ids = torch.tensor(sorted(set(seen)), device=logits_V.device, dtype=torch.int64)
    if penalty == 1.0 or len(ids) == 0:
        return logits_V
    chosen = logits_V[ids]
    return logits_V.index_copy(0, ids, torch.where(chosen > 0, chosen / penalty, chosen * penalty))


def filtered_probabilities(logits_V: Tensor, options: GenerationOptions) -> Tensor:
    """The distribution that a token is drawn from, float32 (V,), summing to 1; tokens filtered out have 0."""
    assert options.temperature > 0, "a greedy choice has no distribution"
    # The largest is taken off first: division by a tiny temperature must not overflow.
    probabilities_V = ((logits_V.float() - logits_V.max()) / options.temperature).softmax(-1)
    if options.top_k is not None and options.top_k < len(probabilities_V):
        smallest = probabilities_V.topk(options.top_k).values[-1]
        probabilities_V = torch.where(probabilities_V >= smallest, probabilities_V, 0.0)
    if options.top_p is not None:
        probabilities_V = _nucleus(probabilities_V / probabilities_V.sum(), options.top_p)
    if options.min_p is not None:
        smallest = options.min_p * probabilities_V.max()
        probabilities_V = torch.where(probabilities_V >= smallest, probabilities_V, 0.0)
    return probabilities_V / probabilities_V.sum()


def choose(logits_V: Tensor, options: GenerationOptions, seen: Iterable[int], generator: torch.Generator) -> int:
    """The next token.

    Args:
        seen: tokens for the repetition penalty.
        generator: source of chance, on the CPU so that one seed means the same on every device.
    """
    logits_V = penalized(logits_V, seen, options.repetition_penalty)
    if options.is_greedy:
        return int(logits_V.argmax())
    probabilities_V = filtered_probabilities(logits_V, options).cpu()
    return int(torch.multinomial(probabilities_V, 1, generator=generator))


def _nucleus(probabilities_V: Tensor, top_p: float) -> Tensor:
    """Without sorting a vocabulary for the few tokens that are usually kept."""
    count = _FIRST_CANDIDATES
    while True:
        best = probabilities_V.topk(min(count, len(probabilities_V)))
        before = best.values.cumsum(-1) - best.values
        if count >= len(probabilities_V) or before[-1] > top_p:
            kept = torch.where(before <= top_p, best.values, 0.0)
            return torch.zeros_like(probabilities_V).scatter(0, best.indices, kept)
        count *= 16


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
