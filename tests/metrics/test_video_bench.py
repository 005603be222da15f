"""MBAcc, SODA_c, localisation and the overall average of PLM-VideoBench."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perceptic.errors import DataError
from perceptic.metrics import (
    JudgedScore,
    Stretch,
    Verdict,
    VideoBench,
    group_all_correct,
    judged_scores,
    localisation,
    multi_binary_accuracy,
    parse_stretch,
    soda_c,
    temporal_iou,
)
from perceptic.metrics.soda import best_ordered_matching

FEW = settings(max_examples=60, deadline=None)
# The harness's 1e-8 in the union leaves a perfect overlap of 10 frames 1e-9 below 1.
CLOSE = 1e-6
FRAMES = st.integers(0, 31).map(float)


class TestMultiBinary:
    @pytest.mark.parametrize(
        ("groups", "grouped", "plain"),
        [
            ([[1, 1], [1, 0, 1], [1], [0, 0], [1, 1, 1, 1]], 0.6, 0.75),
            ([[1, 1], [1, 1]], 1.0, 1.0),
            ([[1, 0], [0, 1]], 0.0, 0.5),
        ],
    )
    def test_the_spec_s_examples(self, groups: list[list[int]], grouped: float, plain: float) -> None:
        rows = [(f"q{number}", right) for number, group in enumerate(groups) for right in group]
        names, correct = zip(*rows, strict=True)
        assert multi_binary_accuracy(correct, names) == pytest.approx(grouped)
        assert np.mean(correct) == pytest.approx(plain)

    @FEW
    @given(st.lists(st.tuples(st.booleans(), st.sampled_from("abc")), min_size=1), st.integers(0, 99))
    def test_any_order_of_rows(self, rows: list[tuple[bool, str]], seed: int) -> None:
        wanted = [all(right for right, other in rows if other == name) for name in dict.fromkeys(n for _, n in rows)]
        correct, names = (list(column) for column in zip(*rows, strict=True))
        assert group_all_correct(correct, names).tolist() == wanted
        order = np.random.default_rng(seed).permutation(len(rows)).tolist()
        shuffled = multi_binary_accuracy([correct[i] for i in order], [names[i] for i in order])
        assert shuffled == pytest.approx(np.mean(wanted))

    def test_guessing_halves_with_every_row(self) -> None:
        guesses = np.random.default_rng(0).random(3 * 3000) < 0.5
        assert multi_binary_accuracy(guesses, np.arange(9000) // 3) == pytest.approx(1 / 8, abs=0.02)

    def test_what_has_no_score(self) -> None:
        with pytest.raises(DataError, match="at least one of rows"):
            multi_binary_accuracy([], [])
        with pytest.raises(DataError, match="2 is_correct, 1 groups"):
            multi_binary_accuracy([1, 0], ["a"])
        with pytest.raises(DataError, match="0 and 1"):
            multi_binary_accuracy([math.nan], ["a"])


class TestTemporalIou:
    @pytest.mark.parametrize(
        ("first", "second", "iou"),
        [
            ((0, 10), (0, 10), 1),
            ((0, 10), (5, 15), 0.333333),
            ((0, 10), (10, 20), 0),
            ((10, 2), (2, 10), 1),
            ((23, 26), (22, 27), 0.6),
            ((6, 15), (8, 15), 0.777778),
            ((0, 31), (4, 8), 0.129032),
            ((5, 5), (5, 5), 0),
            ((0, 4), (10, 20), 0),
        ],
    )
    def test_the_spec_s_examples(self, first: tuple[int, int], second: tuple[int, int], iou: float) -> None:
        assert float(temporal_iou(first, second)) == pytest.approx(iou, abs=CLOSE)
        assert float(temporal_iou(second, first)) == pytest.approx(iou, abs=CLOSE)

    @FEW
    @given(FRAMES, FRAMES, FRAMES, FRAMES)
    def test_agrees_with_counting_small_steps(self, a: float, b: float, c: float, d: float) -> None:
        first = set(range(int(min(a, b)), int(max(a, b))))
        second = set(range(int(min(c, d)), int(max(c, d))))
        wanted = len(first & second) / len(first | second) if first | second else 0.0
        assert float(temporal_iou((a, b), (c, d))) == pytest.approx(wanted, abs=CLOSE)

    def test_what_has_no_overlap(self) -> None:
        with pytest.raises(DataError, match="start and end"):
            temporal_iou([1, 2, 3], [1, 2])
        with pytest.raises(DataError, match="NaN or infinities"):
            temporal_iou([math.nan, 2], [1, 2])


class TestLocalisation:
    @pytest.mark.parametrize(
        ("answer", "target", "iou", "row_score"),
        [
            ("[6, 15]", (6, 15), 1, 1),
            ("[15, 6]", (6, 15), 1, 1),
            ("[6.5, 15.0]", (6, 15), 0.944444, 1),
            ("Frame [8, 15] shows it", (6, 15), 0.777778, 0.75),
            ("[3, 12]", (3, 13), 0.9, 0.75),
            ("[10,20]", (12, 18), 0.6, 0.5),
            ("[0, 31]", (4, 8), 0.129032, 0),
            ("frames 6 to 15", (6, 15), 0, 0),
            ("[6 , 15]", (6, 15), 0, 0),
            ("[6, 15] or [0, 3]", (0, 3), 0, 0),
            ("[5, 5]", (5, 5), 0, 0),
        ],
    )
    def test_the_spec_s_examples(self, answer: str, target: tuple[int, int], iou: float, row_score: float) -> None:
        found = localisation([parse_stretch(answer).stretch], [Stretch(*target)])
        assert found.mean_iou == pytest.approx(iou, abs=CLOSE)
        assert found.mean_recall == row_score

    def test_the_spec_s_set(self) -> None:
        answers = ["[6, 15]", "Frame [8, 15] shows it", "[0, 31]", "frames 6 to 15"]
        targets = [Stretch(6, 15), Stretch(6, 15), Stretch(4, 8), Stretch(6, 15)]
        found = localisation([parse_stretch(answer).stretch for answer in answers], targets)
        assert found.mean_recall == pytest.approx(0.4375)
        assert found.mean_iou == pytest.approx(0.476703, abs=CLOSE)
        assert found.recalls.sum(axis=0).tolist() == [2, 2, 2, 1]
        assert (found.num_unparsed, found.num_without_length) == (1, 0)

    def test_thresholds_are_strict(self) -> None:
        assert localisation([Stretch(0, 5)], [Stretch(5, 9)], thresholds=[0.0]).mean_recall == 0
        assert localisation([Stretch(0, 6)], [Stretch(5, 9)], thresholds=[0.0]).mean_recall == 1

    def test_a_collapsed_truth_counts_against_the_model_in_compatible_mode_only(self) -> None:
        predictions, targets = [Stretch(0, 5), Stretch(8, 8)], [Stretch(0, 5), Stretch(8, 8)]
        assert localisation(predictions, targets).mean_recall == 0.5
        clean = localisation(predictions, targets, "clean")
        assert (clean.mean_recall, clean.num_without_length) == (1.0, 1)

    @FEW
    @given(st.lists(st.tuples(FRAMES, FRAMES, FRAMES, FRAMES), min_size=1))
    def test_properties(self, rows: list[tuple[float, float, float, float]]) -> None:
        predictions, targets = [Stretch(a, b) for a, b, _, _ in rows], [Stretch(c, d) for _, _, c, d in rows]
        found = localisation(predictions, targets)
        assert 0 <= found.mean_recall <= 1
        assert (np.diff(found.recalls.astype(int), axis=1) <= 0).all(), "harder thresholds are not met more often"
        backwards = localisation(predictions[::-1], targets[::-1])
        assert found.mean_recall == pytest.approx(backwards.mean_recall)

    def test_stretches_of_other_rows_are_at_chance(self) -> None:
        rng = np.random.default_rng(0)
        starts = rng.integers(0, 28, 2000)
        targets = [Stretch(float(start), float(start + 3)) for start in starts]
        assert localisation(targets, targets).mean_recall == 1
        # Overlaps above 0.3 need a start at most one frame off, above 0.5 the same start: about 3 and 1 of 28.
        chance = (3 + 1 + 1 + 1) / 28 / 4
        shuffled = [targets[place] for place in rng.permutation(2000)]
        assert localisation(shuffled, targets).mean_recall == pytest.approx(chance, abs=0.02)

    def test_what_has_no_score(self) -> None:
        with pytest.raises(DataError, match="at least one sample"):
            localisation([], [])
        with pytest.raises(DataError, match="a length, got none"):
            localisation([None], [Stretch(5, 5)], "clean")
        with pytest.raises(DataError, match="NaN or infinities"):
            localisation([Stretch(math.nan, 1)], [Stretch(0, 1)])


SODA_CASES = {
    "identical": ([(0, 10), (10, 31)], [(0, 10), (10, 31)], [[10, 0], [0, 10]], (2, 1, 1, 1)),
    "one prediction": ([(0, 10), (10, 31)], [(0, 10)], [[8], [3]], (0.8, 0.8, 0.4, 0.533333)),
    "competing": (
        [(0, 8), (8, 20), (20, 31)],
        [(0, 10), (10, 31)],
        [[9, 1], [4, 6], [0, 7]],
        (1.086667, 0.543333, 0.362222, 0.434667),
    ),
    "wrong order": ([(0, 10), (10, 31)], [(10, 31), (0, 10)], [[0, 10], [10, 0]], (1, 0.5, 0.5, 0.5)),
    "disjoint": ([(0, 10)], [(20, 30)], [[10]], (0, 0, 0, 0)),
    "duplicates": ([(0, 31)], [(0, 31)] * 3, [[6, 9, 9]], (0.9, 0.3, 0.9, 0.45)),
    "partial": (
        [(0, 6), (6, 15), (15, 31)],
        [(0, 5), (5, 16), (16, 22), (22, 31)],
        [[10, 0, 0, 0], [2, 8, 1, 0], [0, 1, 7, 5]],
        (1.769129, 0.442282, 0.589710, 0.505465),
    ),
}


class TestSoda:
    @pytest.mark.parametrize("case", SODA_CASES.values(), ids=SODA_CASES.keys())
    def test_the_spec_s_examples(self, case: tuple[list, list, list, tuple]) -> None:  # type: ignore[type-arg]
        targets, predictions, judged, (matched, precision, recall, f_measure) = case
        score = soda_c(
            [Stretch(*ends) for ends in targets], [Stretch(*ends) for ends in predictions], np.array(judged) / 10
        )
        assert score.matched == pytest.approx(matched, abs=CLOSE)
        assert (score.precision, score.recall) == pytest.approx((precision, recall), abs=CLOSE)
        assert score.f_measure == pytest.approx(f_measure, abs=CLOSE)
        if precision + recall:
            assert score.f_measure == pytest.approx(2 * precision * recall / (precision + recall), abs=1e-5)

    @FEW
    @given(st.integers(0, 4), st.integers(0, 4), st.integers(0, 999))
    def test_the_matching_agrees_with_trying_all(self, rows: int, columns: int, seed: int) -> None:
        gains = np.random.default_rng(seed).random((rows, columns))
        wanted = max(
            sum(gains[row, column] for row, column in zip(first, second, strict=True))
            for size in range(min(rows, columns) + 1)
            for first in combinations(range(rows), size)
            for second in combinations(range(columns), size)
        )
        assert best_ordered_matching(gains) == pytest.approx(wanted)

    def test_no_predictions_score_nothing(self) -> None:
        score = soda_c([Stretch(0, 5)], [], None)
        assert (score.f_measure, score.precision, score.recall) == (0, 0, 0)

    def test_what_has_no_score(self) -> None:
        one = [Stretch(0, 5)]
        with pytest.raises(DataError, match="at least one event"):
            soda_c([], one, np.zeros((0, 1)))
        with pytest.raises(DataError, match="1 targets x 1 predictions"):
            soda_c(one, one, [[1.0, 0.0]])
        with pytest.raises(DataError, match="1 targets x 1 predictions"):
            soda_c(one, one, None)
        with pytest.raises(DataError, match="NaN or infinities"):
            soda_c(one, one, [[math.nan]])


def test_judged_scores_count_what_could_not_be_read() -> None:
    found = judged_scores([Verdict(True), Verdict(False), JudgedScore(0.5), JudgedScore(0.0, "not JSON")])
    assert (found.mean, found.success_rate, found.mean_of_read) == (0.375, 0.75, 0.5)
    assert math.isnan(judged_scores([Verdict(False, "empty")]).mean_of_read)
    with pytest.raises(DataError, match="at least one, got none"):
        judged_scores([])


# Section 2.8: FGQA, SGQA, RDCap, RCap, RTLoc, average.
PUBLISHED = {
    "Human": (90.9, 67.9, 66.6, 53.9, 67.8, 73.9),
    "GPT-4o": (61.2, 63.7, 20.9, 35.7, 33.1, 51.6),
    "Gemini 1.5 Pro": (57.1, 49.9, 14.4, 33.1, 27.6, 44.0),
    "Gemini 2.0 Flash": (58.7, 44.8, 13.2, 30.9, 27.6, 42.5),
    "Qwen2-VL 2B": (39.0, 38.5, 0.9, 18.1, 10.8, 29.1),
    "InternVL2 1B": (35.8, 28.9, 0.3, 17.2, 2.7, 23.8),
    "InternVL2.5 1B": (42.3, 39.6, 6.7, 23.6, 1.6, 30.8),
    "PLM-1B": (57.6, 40.9, 50.3, 40.9, 57.7, 49.4),
    "Qwen2.5-VL 3B": (43.7, 45.1, 0.3, 17.2, 13.9, 33.1),
    "LLaVA-OV 7B": (40.2, 41.5, 4.7, 24.4, 13.9, 32.0),
    "Qwen2-VL 7B": (49.2, 44.5, 4.1, 17.6, 15.1, 35.3),
    "Qwen2.5-VL 7B": (49.8, 43.0, 2.5, 21.5, 10.7, 34.8),
    "InternVL2 8B": (47.7, 45.9, 1.2, 21.5, 11.6, 35.0),
    "InternVL2.5 8B": (53.7, 48.3, 5.7, 26.1, 8.8, 38.5),
    "PLM-8B": (67.7, 46.2, 52.8, 46.6, 59.1, 55.6),
    # Three rows whose printed average is not that of their columns: what the columns give.
    "PLM-3B": (67.1, 38.8, 53.1, 45.0, 58.2, 52.7),
    "InternVL2 4B": (43.2, 41.7, 0.5, 19.9, 9.6, 31.6),
    "InternVL2.5 4B": (50.0, 49.2, 4.9, 25.9, 15.4, 38.2),
}


@pytest.mark.parametrize("row", PUBLISHED.values(), ids=PUBLISHED.keys())
def test_the_published_averages(row: tuple[float, ...]) -> None:
    *figures, average = row
    assert VideoBench(*figures).average == pytest.approx(average, abs=0.0501)


def test_five_columns_are_never_averaged_flat() -> None:
    assert VideoBench(67.7, 46.2, 52.8, 46.6, 59.1).average == pytest.approx(55.6, abs=0.05)
    assert np.mean([67.7, 46.2, 52.8, 46.6, 59.1]) == pytest.approx(54.5, abs=0.05)
