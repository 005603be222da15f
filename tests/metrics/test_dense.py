"""Segmentation of pictures and videos, depth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from perceptic.errors import ConfigError, DataError
from perceptic.metrics import (
    RegionAndBoundary,
    boundary_similarity,
    class_ious,
    confusion_counts,
    depth_scores,
    mean_iou,
    pixel_accuracy,
    region_and_boundary,
    region_similarity,
    video_object_scores,
)
from perceptic.metrics.video_segmentation import dilate, mask_outline

FEW = settings(max_examples=60, deadline=None)

MASKS = hnp.arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def square(top: int, left: int, size: int, shape: tuple[int, int] = (40, 40)) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[top : top + size, left : left + size] = True
    return mask


class TestMeanIou:
    def test_the_spec_s_examples(self) -> None:
        small, large = np.zeros((4, 4), dtype=bool), np.zeros((4, 4), dtype=bool)
        small[:2, :2], large[:2, :3] = True, True
        assert region_similarity(large, small) == pytest.approx(0.666667, abs=1e-6)
        counts = confusion_counts([0, 1, 1, 1, 2, 2], [0, 0, 1, 1, 255, 2], 3, ignore_label=255)
        assert class_ious(counts) == pytest.approx([0.5, 0.666667, 1], abs=1e-6)
        assert mean_iou(counts) == pytest.approx(0.722222, abs=1e-6)
        assert pixel_accuracy(counts) == pytest.approx(4 / 5)

    def test_classes_that_occur_nowhere_are_left_out(self) -> None:
        assert mean_iou(confusion_counts([0, 0], [0, 0], 150)) == 1.0
        assert math.isnan(mean_iou(np.zeros((3, 3))))
        assert math.isnan(pixel_accuracy(np.zeros((3, 3))))

    def test_many_confusions_at_once(self) -> None:
        counts = np.random.default_rng(0).integers(0, 9, (5, 2, 4, 4))
        one_by_one = [[float(mean_iou(single)) for single in row] for row in counts]
        np.testing.assert_allclose(mean_iou(counts), one_by_one)

    @FEW
    @given(
        st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30), st.permutations(range(4))
    )
    def test_sets_agree_with_counts_whatever_the_classes_are_called(
        self, pixels: list[tuple[int, int]], names: list[int]
    ) -> None:
        ious = []
        for c in range(4):
            said = {i for i, (p, _) in enumerate(pixels) if p == c}
            true = {i for i, (_, t) in enumerate(pixels) if t == c}
            if said | true:
                ious.append(len(said & true) / len(said | true))
        predictions, targets = np.array(pixels).T
        value = float(mean_iou(confusion_counts(predictions, targets, 4)))
        assert value == pytest.approx(sum(ious) / len(ious))
        renamed = np.array(names)
        assert value == pytest.approx(float(mean_iou(confusion_counts(renamed[predictions], renamed[targets], 4))))
        assert float(mean_iou(confusion_counts(targets, targets, 4))) == 1.0

    def test_shuffled_labels_are_at_chance(self) -> None:
        targets = np.random.default_rng(0).integers(0, 4, 20000)
        shuffled = np.random.default_rng(1).permutation(targets)
        # A quarter of a quarter is shared, of two quarters less that.
        assert mean_iou(confusion_counts(shuffled, targets, 4)) == pytest.approx(1 / 7, abs=0.01)

    def test_what_has_no_mean_iou(self) -> None:
        with pytest.raises(DataError, match="true class, predicted class"):
            mean_iou([1.0, 2.0])
        with pytest.raises(DataError, match="infinities or NaN"):
            mean_iou([[math.nan]])
        with pytest.raises(DataError, match="at least one label"):
            confusion_counts([], [], 3)


class TestVideoObjects:
    def test_masks_by_hand(self) -> None:
        mask = square(10, 10, 10)
        assert region_similarity(mask, mask) == boundary_similarity(mask, mask) == 1.0
        moved = square(10, 11, 10)
        assert region_similarity(moved, mask) == pytest.approx(90 / 110)
        assert boundary_similarity(moved, mask) == 1.0, "one pixel is within the tolerance"
        assert boundary_similarity(square(25, 25, 10), mask) == 0.0

    def test_the_outline_is_the_last_pixel_before_an_edge(self) -> None:
        outline = mask_outline(square(1, 1, 2, (5, 5)))
        assert outline.astype(int).tolist() == [
            [1, 1, 1, 0, 0],
            [1, 0, 1, 0, 0],
            [1, 1, 1, 0, 0],
            [0, 0, 0, 0, 0],
            [0, 0, 0, 0, 0],
        ]

    @FEW
    @given(MASKS)
    def test_a_mask_and_its_complement_have_one_outline(self, mask: np.ndarray) -> None:
        assert (mask_outline(mask) == mask_outline(~mask)).all()

    def test_empty_masks(self) -> None:
        nothing, something = np.zeros((20, 20), dtype=bool), square(5, 5, 5, (20, 20))
        assert region_similarity(nothing, nothing) == boundary_similarity(nothing, nothing) == 1.0
        for pair in ((nothing, something), (something, nothing)):
            assert region_similarity(*pair) == boundary_similarity(*pair) == 0.0

    @FEW
    @given(MASKS, st.integers(0, 12))
    def test_dilation_agrees_with_distances(self, mask: np.ndarray, radius: int) -> None:
        where = np.argwhere(mask)
        rows, columns = np.indices(mask.shape)
        wanted = np.zeros(mask.shape, dtype=bool)
        for row, column in where:
            wanted |= (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
        assert (dilate(mask, radius) == wanted).all()

    @FEW
    @given(hnp.arrays(np.bool_, (2, 12, 15)), st.sampled_from([0.0, 0.008, 0.1]))
    def test_boundaries_agree_with_pairs_of_pixels(self, masks: np.ndarray, tolerance: float) -> None:
        radius = math.ceil(tolerance * math.hypot(12, 15))
        first, second = (np.argwhere(mask_outline(mask)) for mask in masks)
        if len(first) and len(second):
            near = ((first[:, None] - second[None]) ** 2).sum(axis=2) <= radius**2
            precision, recall = near.any(axis=1).mean(), near.any(axis=0).mean()
            wanted = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        else:
            wanted = float(len(first) == len(second))
        value = boundary_similarity(masks[0], masks[1], tolerance)
        assert value == pytest.approx(wanted)
        assert value == pytest.approx(boundary_similarity(masks[1], masks[0], tolerance))

    def test_the_first_and_the_last_frame_do_not_count(self) -> None:
        truth = np.stack([square(10, 10, 10) + 2 * square(25, 25, 8).astype(int)] * 4)
        prediction = truth.copy()
        prediction[0] = prediction[3] = 0
        prediction[2][prediction[2] == 2] = 0
        one, two = video_object_scores(prediction, truth)
        assert (one.object_id, one.region, one.boundary, one.num_frames) == (1, 1.0, 1.0, 2)
        assert (two.object_id, two.region, two.boundary) == (2, 0.5, 0.5)
        assert region_and_boundary([one, two]).mean == 0.75
        assert video_object_scores(prediction, truth, skip_ends=False)[0].region == 0.5

    def test_every_object_counts_the_same(self) -> None:
        both = region_and_boundary([RegionAndBoundary(1.0, 0.5), RegionAndBoundary(0.0, 0.5)])
        assert (both.region, both.boundary, both.mean) == (0.5, 0.5, 0.5)

    def test_objects_that_swap_numbers_are_wrong(self) -> None:
        truth = np.stack([square(2, 2, 9) + 2 * square(25, 25, 9).astype(int)] * 3)
        swapped = np.where(truth > 0, 3 - truth, 0)
        assert region_and_boundary(video_object_scores(swapped, truth)).mean == 0.0

    @pytest.mark.parametrize(
        ("predictions", "targets", "said"),
        [
            (np.zeros((0, 2, 2), int), np.zeros((0, 2, 2), int), "at least one of frames"),
            (np.zeros((3, 2, 2), int), np.zeros((3, 2, 2), int), "only background"),
            (np.ones((2, 2, 2), int), np.ones((2, 2, 2), int), "at least 3 frames"),
            (np.ones((3, 2, 2), int), np.ones((3, 2, 3), int), "one shape"),
            (np.ones((3, 2, 2)), np.ones((3, 2, 2), int), "whole numbers"),
        ],
    )
    def test_what_has_no_score(self, predictions: np.ndarray, targets: np.ndarray, said: str) -> None:
        with pytest.raises(DataError, match=said):
            video_object_scores(predictions, targets)

    def test_what_has_no_mean(self) -> None:
        with pytest.raises(DataError, match="at least one object"):
            region_and_boundary([])
        with pytest.raises(ConfigError, match="share of the diagonal"):
            boundary_similarity([[True]], [[True]], 8)
        with pytest.raises(DataError, match="0 and 1"):
            region_similarity([[math.nan]], [[1.0]])


class TestDepth:
    def test_the_spec_s_example(self) -> None:
        scores = depth_scores([1.1, 1.8, 3.3], [1, 2, 3])
        assert scores.rmse == pytest.approx(0.216025, abs=1e-6)
        assert scores.relative_error == pytest.approx(0.1)
        assert (scores.delta1, scores.num_pixels) == (1.0, 3)

    def test_deltas_by_hand(self) -> None:
        scores = depth_scores([1.0, 1.3, 1.0, 2.5], [1.0, 1.0, 1.6, 1.0])
        assert (scores.delta1, scores.delta2, scores.delta3) == (0.25, 0.5, 0.75)
        assert depth_scores([1.25], [1.0]).delta1 == 0.0, "strictly below"

    def test_unknown_depths_do_not_count(self) -> None:
        scores = depth_scores([[2.0, math.nan], [7.0, 3.0]], [[1.0, 0.0], [math.nan, 3.0]])
        assert (scores.num_pixels, scores.rmse) == (2, pytest.approx(math.sqrt(0.5)))
        assert depth_scores([2.0, 9.0], [2.0, 1.0], [True, False]).rmse == 0.0

    def test_a_prediction_of_nothing_is_outside_of_every_delta(self) -> None:
        scores = depth_scores([0.0, -1.0], [1.0, 1.0])
        assert (scores.delta3, scores.rmse) == (0.0, pytest.approx(math.sqrt(2.5)))

    @FEW
    @given(st.lists(st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)), min_size=1), st.floats(0.5, 2))
    def test_properties(self, pairs: list[tuple[float, float]], unit: float) -> None:
        predictions, targets = np.array(pairs).T
        scores = depth_scores(predictions, targets)
        assert 0 <= scores.delta1 <= scores.delta2 <= scores.delta3 <= 1
        assert depth_scores(targets, targets).rmse == 0.0
        assert depth_scores(predictions * unit, targets * unit).rmse == pytest.approx(scores.rmse * unit)
        assert depth_scores(predictions[::-1], targets[::-1]).rmse == pytest.approx(scores.rmse)

    def test_shuffled_depths_are_off_by_what_the_depths_spread(self) -> None:
        targets = np.random.default_rng(0).uniform(1, 5, 20000)
        shuffled = np.random.default_rng(1).permutation(targets)
        assert depth_scores(shuffled, targets).rmse == pytest.approx(targets.std() * math.sqrt(2), rel=0.02)

    @pytest.mark.parametrize(
        ("predictions", "targets", "valid", "said"),
        [
            ([], [], None, "at least one valid pixel"),
            ([1.0], [0.0], None, "at least one valid pixel"),
            ([1.0], [1.0, 2.0], None, "one shape"),
            ([math.nan], [1.0], None, "1 are not"),
            ([1.0], [0.0], [True], "wherever is_valid says so"),
        ],
    )
    def test_what_has_no_depth_score(self, predictions: object, targets: object, valid: object, said: str) -> None:
        with pytest.raises(DataError, match=said):
            depth_scores(predictions, targets, valid)  # type: ignore[arg-type]
