"""Classifiers on ready features against hand-made cases."""

from __future__ import annotations

import math

import pytest
import torch

from perceptic.errors import ConfigError, DataError
from perceptic.evaluate.classifiers import (
    HeadSettings,
    fit_logistic,
    head_scores,
    nearest_neighbour_scores,
    sweep_logistic,
    train_attention_head,
)


def clouds(count: int, spread: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    centres = torch.tensor([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 4.0]])
    return centres[labels] + spread * torch.randn(count, 3, generator=generator), labels


def test_votes_are_weighted_by_likeness() -> None:
    train = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    scores = nearest_neighbour_scores(
        train, torch.tensor([0, 1, 1]), torch.tensor([[1.0, 0.0]]), 2, k=2, temperature=1.0
    )
    # Cosines 1 and 0.8; weights relative to the nearest.
    assert scores[0].tolist() == pytest.approx([1.0, math.exp(-0.2)])
    everyone = nearest_neighbour_scores(
        train, torch.tensor([0, 1, 1]), torch.tensor([[1.0, 0.0]]), 2, k=50, temperature=1.0
    )
    assert everyone[0, 1] == pytest.approx(math.exp(-0.2) + math.exp(-1.0))


def test_a_tiny_temperature_does_not_overflow() -> None:
    train, labels = clouds(30, 0.1)
    scores = nearest_neighbour_scores(train, labels, train, 3, k=5, temperature=1e-4)
    assert torch.isfinite(scores).all()
    assert (scores.argmax(dim=1) == labels).all()


def test_logistic_regression_is_at_its_minimum() -> None:
    features, labels = clouds(60, 3.0)
    penalty = 0.1
    fit = fit_logistic(features, labels, 3, penalty)
    inputs = (features - fit.mean) / fit.scale
    errors = torch.softmax(fit(features), dim=1) - torch.nn.functional.one_hot(labels, 3)
    gradient = errors.T @ inputs / len(labels) + penalty * fit.weight
    assert gradient.abs().max() < 1e-3
    assert fit_logistic(features, labels, 3, 1000.0).weight.norm() < 0.01 * fit.weight.norm() + 0.01


def test_the_sweep_takes_the_penalty_that_holds_up() -> None:
    features, labels = clouds(150, 2.0)
    noisy = torch.cat([features, torch.randn(150, 200, generator=torch.Generator().manual_seed(1))], dim=1)
    fit = sweep_logistic(noisy, labels, 3, penalties=(1e-6, 1e-1), seed=0)
    assert set(fit.sweep) == {1e-6, 1e-1}
    assert fit.penalty == max(fit.sweep, key=lambda penalty: (fit.sweep[penalty], penalty))
    again = sweep_logistic(noisy, labels, 3, penalties=(1e-6, 1e-1), seed=0)
    torch.testing.assert_close(again.classifier.weight, fit.classifier.weight, rtol=0, atol=0)


def test_a_constant_feature_does_no_harm() -> None:
    features, labels = clouds(30, 0.5)
    fit = fit_logistic(torch.cat([features, torch.full((30, 1), 7.0)], dim=1), labels, 3, 1e-3)
    assert torch.isfinite(fit.weight).all()


def test_an_attention_head_finds_the_token_that_matters() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(120) % 4
    tokens = 0.3 * torch.randn(120, 6, 16, generator=generator)
    place = torch.randint(6, (120,), generator=generator)
    tokens[torch.arange(120), place, labels] += 4.0  # anywhere, so that a mean hides most of it
    settings = HeadSettings(steps=120, batch_size=32, learning_rate=3e-3)
    head = train_attention_head(tokens[:80], labels[:80], 4, settings)
    scores = head_scores(head, tokens[80:])
    assert (scores.argmax(dim=1) == labels[80:]).float().mean() > 0.8
    again = train_attention_head(tokens[:80], labels[:80], 4, settings)
    torch.testing.assert_close(head_scores(again, tokens[80:]), scores, rtol=0, atol=0)


def test_degenerate_input_is_refused() -> None:
    features, labels = clouds(6, 1.0)
    with pytest.raises(DataError, match="one label for each"):
        fit_logistic(features, labels[:3], 3, 0.1)
    with pytest.raises(DataError, match="classes"):
        fit_logistic(features, labels, 2, 0.1)
    with pytest.raises(DataError, match="NaN"):
        nearest_neighbour_scores(features * float("nan"), labels, features, 3)
    with pytest.raises(DataError, match="at least 2"):
        sweep_logistic(features[:1], labels[:1], 3)
    with pytest.raises(ConfigError, match="penalty"):
        fit_logistic(features, labels, 3, -1.0)
    with pytest.raises(ConfigError, match="heads"):
        train_attention_head(features[:, None], labels, 3, HeadSettings(heads=2))
    with pytest.raises(ConfigError, match="k must"):
        nearest_neighbour_scores(features, labels, features, 3, k=0)


def test_one_class_is_always_right() -> None:
    features = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(5, dtype=torch.long)
    assert (nearest_neighbour_scores(features, labels, features, 1).argmax(dim=1) == 0).all()
    assert (fit_logistic(features, labels, 1, 0.1)(features).argmax(dim=1) == 0).all()
