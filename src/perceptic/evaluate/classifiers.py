"""Classifiers on ready features: nearest neighbours, logistic regression, and an attention head. No data sets here.

Shapes: N training items, M test items, D width, C classes, L tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perceptic.errors import ConfigError, DataError
from perceptic.models.layers import AttentionPool

_BLOCK = 1024
_MIN_SCALE = 1e-6
OnStep = Callable[[int, int], None]


def nearest_neighbour_scores(
    train: Tensor, train_labels: Tensor, test: Tensor, num_classes: int, *, k: int = 20, temperature: float = 0.07
) -> Tensor:
    """Votes of the k nearest training items by cosine, each weighted by exp(cosine / temperature), (M, C).

    The weighted vote of Wu et al. 2018 that DINO uses. With fewer than k training items all of them vote.

    Args:
        train: (N, D). train_labels: (N,) in [0, C). test: (M, D). Vectors are normalised here.

    Raises:
        ConfigError: k or temperature not positive. DataError: sizes that differ.
    """
    if k < 1 or temperature <= 0:
        raise ConfigError(f"k must be at least 1 and temperature positive, not {k} and {temperature}")
    _check(train, train_labels, num_classes)
    bank, queries = F.normalize(train.float(), dim=-1), F.normalize(test.float(), dim=-1)
    scores = torch.zeros(len(test), num_classes)
    for start in range(0, len(test), _BLOCK):
        near, index = (queries[start : start + _BLOCK] @ bank.T).topk(min(k, len(bank)), dim=1)
        # Relative to the nearest: the same order, and no overflow however small the temperature.
        weights = ((near - near[:, :1]) / temperature).exp()
        scores[start : start + _BLOCK].scatter_add_(1, train_labels[index], weights)
    return scores


@dataclass(frozen=True)
class LinearClassifier:
    """Logits of standardised features: ((x - mean) / scale) @ weight.T + bias."""

    weight: Tensor
    bias: Tensor
    mean: Tensor
    scale: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """(M, D) to (M, C)."""
        return ((features.float() - self.mean) / self.scale) @ self.weight.T + self.bias


@dataclass(frozen=True)
class LinearFit:
    """A classifier, the penalty that was best on held-out training items, and what every penalty reached there."""

    classifier: LinearClassifier
    penalty: float
    sweep: dict[float, float]


DEFAULT_PENALTIES = tuple(10.0**exponent for exponent in (-6, -5, -4, -3, -2, -1, 0))


def fit_logistic(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    penalty: float,
    *,
    max_steps: int = 200,
    start: Tensor | None = None,
) -> LinearClassifier:
    """Multinomial logistic regression: mean cross-entropy + penalty / 2 * |weight|^2, minimised by L-BFGS.

    Features are standardised by their training mean and deviation, so that one range of penalties serves all layers.

    Args:
        features: (N, D). labels: (N,) in [0, C). start: (C, D + 1) weights and bias to begin from.

    Raises:
        DataError: sizes that differ, a label out of range. ConfigError: a negative penalty.
    """
    _check(features, labels, num_classes)
    if not penalty >= 0:
        raise ConfigError(f"penalty must be 0 or more, not {penalty}")
    x = features.float()
    mean, scale = x.mean(dim=0), x.std(dim=0, correction=0).clamp_min(_MIN_SCALE)
    inputs = (x - mean) / scale
    table = torch.zeros(num_classes, x.shape[1] + 1) if start is None else start.clone()
    with torch.enable_grad():
        table.requires_grad_(True)
        optimizer = torch.optim.LBFGS([table], max_iter=max_steps, tolerance_change=1e-7, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimizer.zero_grad()
            value = F.cross_entropy(inputs @ table[:, :-1].T + table[:, -1], labels)
            value = value + penalty / 2 * table[:, :-1].square().sum()
            value.backward()
            return value

        optimizer.step(loss)
    found = table.detach()
    return LinearClassifier(found[:, :-1], found[:, -1], mean, scale)


def sweep_logistic(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    *,
    penalties: Sequence[float] = DEFAULT_PENALTIES,
    held_out: float = 0.2,
    seed: int = 0,
    max_steps: int = 200,
    on_step: OnStep = lambda done, total: None,
) -> LinearFit:
    """Choose the penalty on a held-out part of the training items (the larger one of equals), then fit on all.

    Raises:
        DataError: fewer than two items, or as `fit_logistic`. ConfigError: no penalty, a held-out share outside (0, 1).
    """
    _check(features, labels, num_classes)
    if not penalties or not 0 < held_out < 1:
        raise ConfigError(f"expected penalties and a held-out share between 0 and 1, not {penalties} and {held_out}")
    if len(labels) < 2:
        raise DataError(f"expected at least 2 training items to hold some out, got {len(labels)}")
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    cut = max(1, min(len(labels) - 1, round(held_out * len(labels))))
    test, train = order[:cut], order[cut:]
    sweep: dict[float, float] = {}
    start: Tensor | None = None
    for number, penalty in enumerate(sorted(penalties, reverse=True)):
        # From strong to weak: each solution is near the next one.
        fit = fit_logistic(features[train], labels[train], num_classes, penalty, max_steps=max_steps, start=start)
        start = torch.cat([fit.weight, fit.bias[:, None]], dim=1)
        sweep[penalty] = float((fit(features[test]).argmax(dim=1) == labels[test]).float().mean())
        on_step(number + 1, len(penalties) + 1)
    best = max(sweep, key=lambda penalty: (sweep[penalty], penalty))
    classifier = fit_logistic(features, labels, num_classes, best, max_steps=max_steps)
    on_step(len(penalties) + 1, len(penalties) + 1)
    return LinearFit(classifier, best, sweep)


class AttentionHead(nn.Module):
    """One learned query attends over frozen tokens, MLP, linear layer: the papers' attention probe."""

    def __init__(self, width: int, num_classes: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.pool = AttentionPool(width, heads)
        self.linear = nn.Linear(width, num_classes)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """(B, L, D) to (B, C)."""
        logits: Tensor = self.linear(self.pool(self.norm(x_BLD)))
        return logits


@dataclass(frozen=True)
class HeadSettings:
    """How an attention head is trained: AdamW, cosine to zero after a warm-up of a twentieth of the steps."""

    steps: int = 500
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    heads: int = 4
    seed: int = 0


def train_attention_head(
    tokens: Tensor,
    labels: Tensor,
    num_classes: int,
    settings: HeadSettings = HeadSettings(),
    *,
    on_step: OnStep = lambda done, total: None,
) -> AttentionHead:
    """Train a head on frozen tokens (N, L, D). The same seed, tokens and threads give the same head.

    Raises:
        ConfigError: heads that do not divide the width. DataError: as the other classifiers.
    """
    _check(tokens, labels, num_classes)
    width = tokens.shape[-1]
    if width % settings.heads:
        raise ConfigError(f"heads={settings.heads} does not divide the width {width}")
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(settings.seed)
        head = AttentionHead(width, num_classes, settings.heads).train()
        optimizer = torch.optim.AdamW(
            head.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.95)
        )
        generator = torch.Generator().manual_seed(settings.seed)
        for step in range(settings.steps):
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * _share_of_rate(step, settings.steps)
            rows = torch.randint(len(labels), (min(settings.batch_size, len(labels)),), generator=generator)
            optimizer.zero_grad()
            loss = F.cross_entropy(head(tokens[rows].float()), labels[rows])
            loss.backward()
            optimizer.step()
            on_step(step + 1, settings.steps)
    return head.eval()


@torch.no_grad()
def head_scores(head: AttentionHead, tokens: Tensor, batch_size: int = 256) -> Tensor:
    """(M, L, D) tokens to (M, C) logits."""
    return torch.cat([head(part.float()) for part in tokens.split(batch_size)])


def _share_of_rate(step: int, steps: int) -> float:
    warm = max(1, steps // 20)
    return (step + 1) / warm if step < warm else (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))) / 2


def _check(features: Tensor, labels: Tensor, num_classes: int) -> None:
    if len(features) != len(labels) or not len(labels):
        raise DataError(f"expected one label for each item, got {len(features)} items and {len(labels)} labels")
    if int(labels.min()) < 0 or int(labels.max()) >= num_classes:
        raise DataError(f"labels run from {int(labels.min())} to {int(labels.max())}; there are {num_classes} classes")
    if not torch.isfinite(features).all():
        raise DataError("features hold NaN or infinities")
