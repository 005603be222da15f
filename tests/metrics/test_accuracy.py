"""Top-k accuracy, mean per class recall, average precision, confusion counts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perceptic.errors import ConfigError, DataError
from perceptic.metrics import (
    average_precision,
    class_recalls,
    confusion_counts,
    mean_average_precision,
    mean_by_group,
    mean_per_class_recall,
    top_k_accuracy,
    top_k_hits,
)

FEW = settings(max_examples=60, deadline=None)
# Few values, so that ties are common.
SCORES = st.integers(0, 3)


def labelled(draw: st.DrawFn, max_samples: int = 12) -> tuple[np.ndarray, np.ndarray]:
    num_samples, num_classes = draw(st.integers(1, max_samples)), draw(st.integers(1, 6))
    scores = draw(st.lists(SCORES, min_size=num_samples * num_classes, max_size=num_samples * num_classes))
    targets = draw(st.lists(st.integers(0, num_classes - 1), min_size=num_samples, max_size=num_samples))
    return np.array(scores, dtype=float).reshape(num_samples, num_classes), np.array(targets)


LABELLED = st.composite(labelled)()


def test_the_spec_s_example() -> None:
    targets, predictions = [0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 0]
    assert top_k_accuracy(np.eye(2)[predictions], targets) == pytest.approx(0.666667, abs=1e-6)
    assert mean_per_class_recall(predictions, targets) == pytest.approx(0.625)


def test_acc5_has_no_value_with_four_classes() -> None:
    assert math.isnan(top_k_accuracy(np.eye(4), [0, 1, 2, 3], k=5))
    assert top_k_accuracy(np.eye(5), [4, 3, 2, 1, 0], k=5) == 1.0


def test_equal_scores_are_taken_in_the_order_of_the_classes() -> None:
    assert top_k_hits(np.zeros((4, 4)), [0, 1, 2, 3], k=2).tolist() == [True, True, False, False]
    assert top_k_accuracy(np.zeros((8, 4)), [0, 1, 2, 3] * 2) == 0.25, "a collapsed model is at chance"


@FEW
@given(LABELLED, st.integers(1, 6))
def test_top_k_agrees_with_sorting(case: tuple[np.ndarray, np.ndarray], k: int) -> None:
    scores, targets = case
    wanted = [
        int(target) in sorted(range(scores.shape[1]), key=lambda c, row=row: (-row[c], c))[:k]  # type: ignore[misc]
        for row, target in zip(scores, targets, strict=True)
    ]
    assert top_k_hits(scores, targets, k).tolist() == wanted


@FEW
@given(LABELLED, st.randoms())
def test_the_order_of_samples_does_not_matter(case: tuple[np.ndarray, np.ndarray], random: object) -> None:
    scores, targets = case
    order = np.random.default_rng(len(targets)).permutation(len(targets))
    assert top_k_accuracy(scores, targets) == pytest.approx(top_k_accuracy(scores[order], targets[order]))
    predictions = scores.argmax(axis=1)
    first = mean_per_class_recall(predictions, targets)
    assert first == pytest.approx(mean_per_class_recall(predictions[order], targets[order]))
    assert 0 <= first <= 1


@FEW
@given(st.lists(st.integers(0, 9), min_size=1))
def test_perfect_is_one_and_one_class_is_its_recall(targets: list[int]) -> None:
    assert mean_per_class_recall(targets, targets) == 1.0
    assert top_k_accuracy(np.eye(10)[targets], targets) == 1.0
    assert mean_per_class_recall([0, 1, 1, 0], [0, 0, 0, 0]) == 0.5, "class 1 never occurs and has no recall"


def test_mean_per_class_recall_of_a_stray_large_class_needs_no_large_table() -> None:
    assert mean_per_class_recall([10**12, 1], [0, 1]) == 0.5


@FEW
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1))
def test_mean_per_class_recall_is_that_of_the_confusion(pairs: list[tuple[int, int]]) -> None:
    predictions, targets = np.array(pairs).T
    recalls = class_recalls(confusion_counts(predictions, targets, 4))
    assert mean_per_class_recall(predictions, targets) == pytest.approx(np.nanmean(recalls))


def test_an_answer_that_names_no_class_is_wrong() -> None:
    assert mean_per_class_recall([-1, 1], [0, 1]) == 0.5


def test_confusions_and_recalls_by_hand() -> None:
    counts = confusion_counts([0, 1, 1, 2], [0, 0, 1, 255], 3, ignore_label=255)
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    recalls = class_recalls(counts)
    assert recalls[:2].tolist() == [0.5, 1.0]
    assert math.isnan(recalls[2])


def test_shuffled_labels_are_at_chance() -> None:
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 10, 4000)
    scores = np.eye(10)[targets] + rng.normal(size=(4000, 10)) * 0.1
    assert top_k_accuracy(scores, targets) > 0.99
    shuffled = rng.permutation(targets)
    assert top_k_accuracy(scores, shuffled) == pytest.approx(0.1, abs=0.02)
    assert top_k_accuracy(scores, shuffled, k=5) == pytest.approx(0.5, abs=0.03)
    assert mean_per_class_recall(scores.argmax(axis=1), shuffled) == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize(
    ("scores", "targets", "said"),
    [
        (np.zeros((0, 3)), [], "at least one of samples"),
        (np.zeros((3, 0)), [0, 0, 0], "at least one of classes"),
        ([1.0, 2.0], [0], r"an array of \(samples, classes\), got shape \(2,\)"),
        ([[0.1, math.nan]], [0], r"found nan at \(0, 1\)"),
        (np.zeros((2, 3)), [0], "2 scores, 1 targets"),
        (np.zeros((1, 3)), [3], "targets: expected numbers from 0 to 2, found 3 to 3"),
        (np.zeros((1, 3)), [-1], "numbers from 0 to 2, found -1 to -1"),
        (np.zeros((1, 3)), [0.0], "whole numbers, got float64"),
        ([["a", "b"]], [0], "an array of numbers"),
    ],
)
def test_what_has_no_accuracy(scores: object, targets: object, said: str) -> None:
    with pytest.raises(DataError, match=said):
        top_k_accuracy(scores, targets)  # type: ignore[arg-type]


def test_a_class_ruled_out_is_allowed_and_k_must_be_positive() -> None:
    assert top_k_accuracy([[-math.inf, 0.0]], [1]) == 1.0
    with pytest.raises(ConfigError, match="k must be at least 1"):
        top_k_accuracy([[0.0]], [0], k=0)


def test_what_has_no_mean_per_class_recall() -> None:
    with pytest.raises(DataError, match="at least one of samples"):
        mean_per_class_recall([], [])
    with pytest.raises(DataError, match="2 predictions, 1 targets"):
        mean_per_class_recall([0, 1], [0])
    with pytest.raises(DataError, match="whole numbers, got float64"):
        mean_per_class_recall([0], [math.nan])
    with pytest.raises(DataError, match="numbers from 0 to 2, found 255 to 255; pass ignore_label"):
        confusion_counts([0], [255], 3)
    with pytest.raises(DataError, match="predictions: expected numbers from 0 to 2, found 7 to 7"):
        confusion_counts([0, 7], [255, 1], 3, ignore_label=255)
    with pytest.raises(DataError, match="one shape"):
        confusion_counts([0], [0, 1], 3)
    with pytest.raises(DataError, match="negative numbers"):
        class_recalls([[-1, 0], [0, 1]])


def naive_average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    precisions = [
        sum(bool(positive[j]) for j in range(len(scores)) if scores[j] >= scores[i]) / int((scores >= scores[i]).sum())
        for i in range(len(scores))
        if positive[i]
    ]
    return sum(precisions) / max(len(precisions), 1)


def test_average_precision_by_hand() -> None:
    assert average_precision([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0]) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision([0.9, 0.8], [True, True]) == 1.0
    assert average_precision([0.9, 0.8], [0, 0]) == 0.0, "the reference divides by max(positives, 1)"
    assert average_precision([5, 5, 5, 5], [1, 0, 0, 0]) == 0.25, "a constant score knows nothing"


@FEW
@given(st.lists(st.tuples(SCORES, st.booleans()), min_size=1, max_size=15), st.integers(0, 100))
def test_average_precision_agrees_with_the_plain_sum(pairs: list[tuple[int, bool]], seed: int) -> None:
    scores, positive = (np.array(column) for column in zip(*pairs, strict=True))
    value = average_precision(scores, positive)
    assert 0 <= value <= 1
    assert value == pytest.approx(naive_average_precision(scores, positive))
    order = np.random.default_rng(seed).permutation(len(pairs))
    assert value == pytest.approx(average_precision(scores[order], positive[order]))


def test_mean_average_precision_counts_absent_classes_unless_asked() -> None:
    scores, positive = [[0.9, 0.1], [0.2, 0.3]], [[1, 0], [0, 0]]
    assert mean_average_precision(scores, positive) == 0.5
    assert mean_average_precision(scores, positive, skip_absent=True) == 1.0


def test_mean_average_precision_of_shuffled_labels_is_the_share_of_positives() -> None:
    rng = np.random.default_rng(1)
    positive = rng.random((3000, 4)) < 0.2
    assert mean_average_precision(rng.permutation(positive.astype(float)), positive) == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize(
    ("scores", "positive", "said"),
    [
        (np.zeros((0, 1)), np.zeros((0, 1)), "at least one of samples"),
        ([[math.nan]], [[1]], "found nan"),
        ([[math.inf]], [[1]], "found inf"),
        ([[1.0]], [[2]], "0 and 1"),
        ([[1.0]], [[1, 0]], "one shape"),
    ],
)
def test_what_has_no_average_precision(scores: object, positive: object, said: str) -> None:
    with pytest.raises(DataError, match=said):
        mean_average_precision(scores, positive)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="at least one class"):
        mean_average_precision([[1.0]], [[0]], skip_absent=True)


def test_means_by_group_keep_the_order_of_appearance() -> None:
    means = mean_by_group([1.0, 0.0, 1.0], ["human", "augmented", "human"])
    assert list(means.items()) == [("human", 1.0), ("augmented", 0.0)]
    with pytest.raises(DataError, match="3 values, 2 groups"):
        mean_by_group([1.0, 0.0, 1.0], ["a", "b"])


@FEW
@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from("abc")), min_size=1))
def test_group_means_weighted_by_size_are_the_mean(pairs: list[tuple[float, str]]) -> None:
    values, groups = zip(*pairs, strict=True)
    means = mean_by_group(list(values), groups)
    whole = sum(means[group] * groups.count(group) for group in means if isinstance(group, str)) / len(values)
    assert whole == pytest.approx(float(np.mean(values)))
