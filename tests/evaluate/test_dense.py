"""Linear heads on patch features: hand-computed targets, features that hold the answer, features that do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from perceptic.errors import ConfigError, DataError
from perceptic.evaluate.dense import (
    VOID,
    HeadTraining,
    class_shares,
    fit_depth,
    fit_segmentation,
    predict_depths,
    predict_masks,
)

QUICK = HeadTraining(steps=150, batch_size=8, learning_rate=0.05)


def blocks(count: int = 24) -> np.ndarray:
    """Masks (N, 16, 16) of 4 x 4 blocks with random classes 0 to 2."""
    coarse = np.random.default_rng(0).integers(0, 3, (count, 4, 4))
    return coarse.repeat(4, axis=1).repeat(4, axis=2).astype(np.uint8)


def telling(masks: np.ndarray) -> torch.Tensor:
    """Features that hold the class of each 4 x 4 block, and noise."""
    one_hot = torch.nn.functional.one_hot(torch.from_numpy(masks[:, ::4, ::4].astype(np.int64)), 3).float()
    noise = torch.randn(*one_hot.shape[:3], 5, generator=torch.Generator().manual_seed(0))
    return torch.cat([one_hot, noise], dim=-1).half()


def test_shares_of_a_patch_leave_void_out() -> None:
    masks = np.array([[[0, 1, 1, 1], [0, VOID, 1, VOID]]], dtype=np.uint8)
    shares = class_shares(masks, 2, (1, 2))
    assert shares.tolist() == [[[[0.5, 0.25], [0.0, 0.75]]]]


def test_a_head_reads_what_the_features_hold() -> None:
    masks = blocks()
    features = telling(masks)
    head = fit_segmentation(features[:16], masks[:16], 3, QUICK)
    predicted = predict_masks(head, features[16:], (16, 16))
    # Bilinear upsampling blurs the edges of blocks; their middles must be right.
    assert (predicted[:, 1::4, 1::4] == masks[16:, 1::4, 1::4]).mean() > 0.95


def test_a_head_on_masks_of_other_pictures_is_at_chance() -> None:
    masks = blocks(48)
    features = telling(masks)
    head = fit_segmentation(features[:32], masks[:32][::-1].copy(), 3, QUICK)
    predicted = predict_masks(head, features[32:], (16, 16))
    assert (predicted == masks[32:]).mean() < 0.5


def test_void_pixels_are_never_predicted() -> None:
    masks = blocks()
    masks[:, :8] = VOID
    predicted = predict_masks(fit_segmentation(telling(blocks()), masks, 3, QUICK), telling(blocks()), (16, 16))
    assert set(np.unique(predicted)) <= {0, 1, 2}


def test_equal_seeds_give_equal_heads() -> None:
    masks = blocks()
    first, second = (fit_segmentation(telling(masks), masks, 3, QUICK) for _ in range(2))
    assert torch.equal(first.linear.weight, second.linear.weight)


def test_depth_is_read_in_its_unit_and_invalid_pixels_do_not_count() -> None:
    height = np.linspace(2.0, 6.0, 16, dtype=np.float32)
    depths = np.broadcast_to(height[None, :, None], (12, 16, 16)).copy()
    rows = torch.linspace(-1, 1, 8)[None, :, None, None].expand(12, 8, 8, 1)
    features = torch.cat([rows, rows**2, rows**3], dim=-1)
    broken = depths.copy()
    broken[:, :, :4] = 0.0
    broken[:, :, 4] = np.nan
    head = fit_depth(features, broken, HeadTraining(steps=400, batch_size=12, learning_rate=0.05))
    error = predict_depths(head, features, (16, 16)) - depths
    assert float(np.sqrt((error**2).mean())) < 0.4
    assert float(head.centres.min()) == pytest.approx(2.0)
    assert float(head.centres.max()) == pytest.approx(6.0)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (np.full((2, 8, 8), VOID, dtype=np.uint8), "only void"),
        (np.full((2, 8, 8), 3, dtype=np.uint8), "found 3"),
        (np.zeros((3, 8, 8), dtype=np.uint8), r"expected \(2, height, width\)"),
        (np.zeros((2, 8), dtype=np.uint8), r"expected \(2, height, width\)"),
    ],
)
def test_bad_masks_are_named(masks: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        fit_segmentation(torch.zeros(2, 2, 2, 4), masks, 3)


def test_other_bad_input_is_named() -> None:
    with pytest.raises(DataError, match="found none"):
        fit_depth(torch.zeros(2, 2, 2, 4), np.zeros((2, 8, 8), dtype=np.float32))
    with pytest.raises(DataError, match=r"got shape \(2, 4, 4\)"):
        fit_segmentation(torch.zeros(2, 4, 4), np.zeros((2, 8, 8), dtype=np.uint8), 3)
    with pytest.raises(ConfigError, match="above 0"):
        HeadTraining(steps=0)
