"""The learning rate at known steps."""

import pytest

from perceptic.train.schedule import cosine_with_warmup


def test_warmup_is_linear_and_ends_at_the_peak():
    rates = [cosine_with_warmup(step, 100, 1.0, 4) for step in range(5)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])


def test_half_way_down_is_the_mean_of_peak_and_final():
    assert cosine_with_warmup(55, 100, 1.0, 10, 0.2) == pytest.approx(0.6)
    assert cosine_with_warmup(100, 100, 1.0, 10, 0.2) == pytest.approx(0.2)


def test_no_warmup_starts_at_the_peak_and_never_rises():
    rates = [cosine_with_warmup(step, 50, 3e-3, 0) for step in range(50)]
    assert rates[0] == pytest.approx(3e-3)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] > 0
