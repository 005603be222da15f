"""Bootstrap intervals: against plain resampling, their coverage, their corners."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perceptic import metrics
from perceptic.errors import ConfigError, DataError
from perceptic.metrics import (
    Resampling,
    average_precision,
    bootstrap_average,
    bootstrap_mean,
    bootstrap_statistic,
    bootstrap_sums,
    confusion_counts,
    f1_of_counts,
    mean_iou,
    yes_no_counts,
)

FEW = settings(max_examples=60, deadline=None)
RNG = np.random.default_rng(0)


def test_agrees_with_drawing_one_by_one() -> None:
    values = RNG.random(37)
    drawn = np.random.default_rng([7, 0]).integers(0, 37, (500, 37))
    low, high = np.quantile([values[row].mean() for row in drawn], (0.05, 0.95))
    interval = bootstrap_mean(values, resampling=Resampling(level=0.9, num_resamples=500, seed=7))
    assert (interval.value, interval.low, interval.high) == pytest.approx((values.mean(), low, high))
    assert (interval.level, interval.num_units, interval.num_resamples) == (0.9, 37, 500)


def test_parts_drawn_at_a_time_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values = RNG.random(11)
    whole = bootstrap_mean(values)
    monkeypatch.setattr("perceptic.metrics.bootstrap._DRAWS", 35)
    assert bootstrap_mean(values) == whole


def test_groups_are_drawn_whole() -> None:
    values, groups = RNG.random(40).round() * 1.0, [f"picture {number // 4}" for number in range(40)]
    copies = np.repeat(RNG.random(10), 4)
    grouped = bootstrap_mean(copies, groups=groups)
    assert grouped.num_units == 10
    alone = bootstrap_mean(copies[::4])
    assert (grouped.low, grouped.high) == pytest.approx((alone.low, alone.high)), "four copies say no more than one"
    naive = bootstrap_mean(copies)
    assert naive.high - naive.low < 0.7 * (grouped.high - grouped.low)
    assert bootstrap_mean(values, groups=groups).value == pytest.approx(values.mean())


def test_groups_of_unequal_size_keep_the_mean_over_samples() -> None:
    values, groups = [1.0, 1.0, 1.0, 0.0], ["a", "a", "a", "b"]
    drawn = np.random.default_rng([0, 0]).integers(0, 2, (1000, 2))
    sums, sizes = np.array([3.0, 0.0])[drawn].sum(axis=1), np.array([3.0, 1.0])[drawn].sum(axis=1)
    interval = bootstrap_mean(values, groups=groups)
    assert interval.value == 0.75
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(sums / sizes, (0.025, 0.975))))


def test_nineteen_of_twenty_intervals_hold_the_truth() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        interval = bootstrap_mean(rng.random(80) < 0.3, resampling=Resampling(num_resamples=200))
        covered += interval.low <= 0.3 <= interval.high
    assert 0.90 <= covered / 400 <= 0.98


@FEW
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=30))
def test_properties(values: list[float]) -> None:
    quick = Resampling(num_resamples=50)
    interval = bootstrap_mean(values, resampling=quick)
    assert min(values) - 1e-9 <= interval.low <= interval.high <= max(values) + 1e-9
    assert interval == bootstrap_mean(values, resampling=quick), "the same seed gives the same interval"
    shifted = bootstrap_mean(np.array(values) + 1, resampling=quick)
    assert (shifted.low, shifted.high) == pytest.approx((interval.low + 1, interval.high + 1))


def test_a_perfect_metric_is_sure_and_another_seed_is_near() -> None:
    perfect = bootstrap_mean([True] * 20)
    assert (perfect.value, perfect.low, perfect.high) == (1, 1, 1)
    values = RNG.random(200)
    first, second = (bootstrap_mean(values, resampling=Resampling(seed=seed)) for seed in (1, 2))
    assert first != second
    assert first.low == pytest.approx(second.low, abs=0.02)


def test_the_difference_of_two_models_is_surer_than_either() -> None:
    hard = RNG.random(500)
    first, second = hard + 0.01 * RNG.normal(size=500) + 0.02, hard + 0.01 * RNG.normal(size=500)
    difference = bootstrap_mean(first - second)
    assert 0 < difference.low < 0.02 < difference.high < 0.04
    assert bootstrap_mean(first).low < bootstrap_mean(second).value


def test_mean_iou_from_confusions_of_pictures() -> None:
    targets = RNG.integers(0, 4, (30, 50))
    predictions = np.where(RNG.random((30, 50)) < 0.8, targets, 0)
    counts = np.stack([confusion_counts(said, true, 4) for said, true in zip(predictions, targets, strict=True)])
    interval = bootstrap_sums(counts, mean_iou)
    assert interval.value == pytest.approx(float(mean_iou(counts.sum(axis=0))))
    plain = bootstrap_statistic(lambda drawn: float(mean_iou(counts[drawn].sum(axis=0))), 30)
    assert (interval.low, interval.high) == pytest.approx((plain.low, plain.high), abs=0.01)


def test_f1_from_counts_of_questions() -> None:
    targets = RNG.random(300) < 0.5
    answers = (targets ^ (RNG.random(300) < 0.1)).tolist()
    counts = yes_no_counts(answers, targets)
    interval = bootstrap_sums(counts, f1_of_counts)
    assert interval.value == pytest.approx(metrics.yes_no_scores(answers, targets).f1)
    assert interval.low < 0.9 < interval.high


def test_resamples_without_a_value_are_left_out_and_counted() -> None:
    counts = yes_no_counts([False, False, True], [False, False, True])
    interval = bootstrap_sums(counts, f1_of_counts)
    assert (interval.low, interval.high) == (1, 1)
    assert interval.num_undefined / 1000 == pytest.approx((2 / 3) ** 3, abs=0.05)
    nowhere = bootstrap_sums(yes_no_counts([False] * 2, [False] * 2), f1_of_counts)
    assert math.isnan(nowhere.low)
    assert nowhere.num_undefined == 1000


def test_any_metric_one_resample_at_a_time() -> None:
    positive = RNG.random(120) < 0.3
    scores = positive + RNG.normal(size=120)
    interval = bootstrap_statistic(
        lambda drawn: average_precision(scores[drawn], positive[drawn]), 120, resampling=Resampling(num_resamples=200)
    )
    assert interval.value == pytest.approx(average_precision(scores, positive))
    assert interval.low < interval.value < interval.high
    grouped = bootstrap_statistic(lambda drawn: float(scores[drawn].mean()), 120, groups=np.arange(120) // 10)
    assert grouped.num_units == 12
    assert grouped.value == pytest.approx(scores.mean())


def test_the_average_of_a_suite() -> None:
    sets = [RNG.random(size) for size in (50, 80, 60, 70, 90)]
    interval = bootstrap_average(sets, weights=metrics.VIDEO_BENCH_WEIGHTS)
    wanted = metrics.VideoBench(*(float(part.mean()) for part in sets)).average
    assert interval.value == pytest.approx(wanted)
    spread = math.sqrt(
        sum(
            (share * part.std() / math.sqrt(len(part))) ** 2
            for share, part in zip(metrics.VIDEO_BENCH_WEIGHTS, sets, strict=True)
        )
    )
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * spread, rel=0.1)
    assert interval.num_units == 350
    grouped = bootstrap_average(sets[:2], groups=[None, np.arange(80) // 8])
    assert grouped.num_units == 60
    assert grouped.value == pytest.approx(np.mean([part.mean() for part in sets[:2]]))


def test_sets_of_a_suite_are_drawn_independently() -> None:
    values = RNG.random(200)
    alone, twice = bootstrap_mean(values), bootstrap_average([values, values])
    assert twice.high - twice.low == pytest.approx((alone.high - alone.low) / math.sqrt(2), rel=0.1)


def test_one_unit_has_no_interval() -> None:
    for interval in (bootstrap_mean([0.5]), bootstrap_mean([0.2, 0.8], groups=["a", "a"])):
        assert interval.value == pytest.approx(0.5)
        assert math.isnan(interval.low)
        assert math.isnan(interval.high)


def test_what_has_no_interval() -> None:
    with pytest.raises(DataError, match="at least one of samples"):
        bootstrap_mean([])
    with pytest.raises(DataError, match="found nan"):
        bootstrap_mean([0.1, math.nan])
    with pytest.raises(DataError, match="each of 2 samples, got 1"):
        bootstrap_mean([0.1, 0.2], groups=["a"])
    with pytest.raises(DataError, match="1000 values of sums"):
        bootstrap_sums(np.ones((3, 2)), lambda sums: sums)
    with pytest.raises(DataError, match="at least one sample"):
        bootstrap_statistic(lambda _: 0.0, 0)
    with pytest.raises(DataError, match="at least one sample"):
        bootstrap_average([])
    with pytest.raises(DataError, match="1 sets, 2 weights"):
        bootstrap_average([[1.0]], weights=[1, 2])
    with pytest.raises(DataError, match="a positive sum"):
        bootstrap_average([[1.0]], weights=[0])
    with pytest.raises(DataError, match=r"sets\[1\]: expected at least one of samples"):
        bootstrap_average([[1.0], []])
    with pytest.raises(ConfigError, match="level must lie between 0 and 1, not 95"):
        Resampling(level=95)
    with pytest.raises(ConfigError, match="num_resamples must be at least 1"):
        Resampling(num_resamples=0)


def test_public_names_all_load_and_torch_does_not() -> None:
    code = (
        "import sys, perceptic.metrics as m; [getattr(m, name) for name in m.__all__];"
        "assert 'torch' not in sys.modules and set(m.__all__) == set(dir(m))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'accurracy'"):
        metrics.accurracy  # noqa: B018
