"""Label propagation: features that mark every place, hand-computed weights, the two kinds of context, the window."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from perceptic.errors import ConfigError, DataError
from perceptic.evaluate.propagation import Propagation, coarse_masks, propagate
from perceptic.metrics import video_object_scores

SIDE = 6
PATCH = 4


def walk(num_frames: int) -> tuple[torch.Tensor, np.ndarray]:
    """A patch with a feature of its own that moves one place right each frame, object number 7; (features, masks)."""
    features = torch.zeros(num_frames, SIDE, SIDE, 2)
    features[..., 0] = 1.0
    masks = np.zeros((num_frames, SIDE * PATCH, SIDE * PATCH), dtype=np.uint8)
    for frame in range(num_frames):
        features[frame, 2, frame % SIDE] = torch.tensor([0.0, 1.0])
        masks[frame, 2 * PATCH : 3 * PATCH, (frame % SIDE) * PATCH : (frame % SIDE + 1) * PATCH] = 7
    return features, masks


def test_a_marked_patch_is_followed() -> None:
    features, masks = walk(5)
    found = propagate(features, masks[0], Propagation(num_neighbours=1))
    assert set(np.unique(found)) == {0, 7}
    for frame in range(5):
        rows, columns = np.nonzero(found[frame] == 7)
        true_rows, true_columns = np.nonzero(masks[frame] == 7)
        assert abs(rows.mean() - true_rows.mean()) < 1
        assert abs(columns.mean() - true_columns.mean()) < 1
    best = video_object_scores(coarse_masks(masks, (SIDE, SIDE)), masks)
    assert video_object_scores(found, masks)[0].mean == pytest.approx(best[0].mean)


def test_features_without_places_follow_nothing() -> None:
    features, masks = walk(4)
    found = propagate(torch.ones_like(features), masks[0], Propagation(num_neighbours=SIDE * SIDE, radius=SIDE))
    assert (found[1:] == 0).all()


def test_weights_are_the_softmax_of_cosine_over_temperature() -> None:
    """Two patches in the first frame, one of an object. A later patch at 30 degrees from the object's and 60 from the
    other: with temperature t the object's share is 1 / (1 + exp((cos 60 - cos 30) / t))."""
    angles = torch.deg2rad(torch.tensor([[0.0, 90.0], [30.0, 30.0]]))
    features = torch.stack([angles.cos(), angles.sin()], dim=-1)[:, None]
    mask = np.array([[1, 0]], dtype=np.uint8)
    cosines = torch.tensor([np.cos(np.pi / 6), np.cos(np.pi / 3)])
    for temperature in (0.1, 5.0):
        share = F.softmax(cosines / temperature, dim=0)[0]
        found = propagate(features, mask, Propagation(num_neighbours=2, temperature=temperature))
        assert bool((found[1] == 1).all()) == bool(share > 0.5)
    reversed_mask = np.array([[0, 1]], dtype=np.uint8)
    assert (propagate(features, reversed_mask, Propagation(num_neighbours=2))[1] == 0).all()


def test_length_of_features_does_not_matter() -> None:
    features, masks = walk(4)
    assert np.array_equal(propagate(features, masks[0]), propagate(features * 100.0, masks[0]))


def test_the_first_frame_is_never_forgotten() -> None:
    """The object is hidden for longer than the context and comes back."""
    features, masks = walk(1)
    hidden = torch.zeros_like(features)
    hidden[..., 0] = 1.0
    clip = torch.cat([features, *[hidden] * 4, features])
    found = propagate(clip, masks[0], Propagation(num_context=2, num_neighbours=1))
    assert not (found[3] == 7).any()
    assert (found[5] == 7).any()


def test_labels_come_from_the_window_only() -> None:
    features, masks = walk(4)
    jump = torch.stack([features[0], features[3]])
    near = propagate(jump, masks[0], Propagation(num_neighbours=1, radius=2))
    far = propagate(jump, masks[0], Propagation(num_neighbours=1, radius=3))
    assert not (near[1] == 7).any()
    assert (far[1] == 7).any()


def test_more_neighbours_than_patches_and_a_single_frame_work() -> None:
    mask = np.array([[1, 0], [0, 0]], dtype=np.uint8)
    assert propagate(torch.rand(3, 2, 2, 4), mask, Propagation(num_neighbours=50)).shape == (3, 2, 2)
    assert np.array_equal(propagate(torch.rand(1, 2, 2, 4), mask), mask[None])


def test_coarse_masks_keep_object_numbers() -> None:
    _, masks = walk(2)
    assert set(np.unique(coarse_masks(masks, (SIDE, SIDE)))) == {0, 7}


def test_bad_input_is_named() -> None:
    with pytest.raises(DataError, match="only background"):
        propagate(torch.rand(2, 2, 2, 4), np.zeros((4, 4), dtype=np.uint8))
    with pytest.raises(DataError, match="frames, rows"):
        propagate(torch.rand(2, 2, 4), np.ones((4, 4), dtype=np.uint8))
    with pytest.raises(ConfigError, match="num_neighbours"):
        Propagation(num_neighbours=0)
