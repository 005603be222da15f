"""Crop, jitter and flip on decoded pixels."""

import numpy as np
import pytest
import torch

from perceptic.data.augmentation import Augmentation, augment, plain

NOTHING = Augmentation(crop_share=0.0, brightness=0.0, saturation=0.0, flip_share=0.0)


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (4, 2, 3, 16, 16), dtype=np.uint8)


def run(pixels, augmentation, flips=None, size=16, seed=0):
    flips = np.zeros(len(pixels), dtype=bool) if flips is None else np.array(flips)
    return augment(pixels, flips, size, augmentation, np.random.default_rng(seed))


def test_without_variation_pixels_are_only_scaled(pixels):
    expected = torch.from_numpy(pixels).double() / 127.5 - 1
    torch.testing.assert_close(run(pixels, NOTHING).double(), expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(plain(pixels, 16).double(), expected, rtol=0, atol=1e-6)


def test_flips_mirror_the_chosen_samples_in_every_frame(pixels):
    straight = run(pixels, NOTHING)
    flipped = run(pixels, NOTHING, flips=[True, False, False, True])
    assert torch.equal(flipped[0], straight[0].flip(-1))
    assert torch.equal(flipped[1], straight[1])
    assert torch.equal(flipped[3], straight[3].flip(-1))


def test_brightness_scales_and_saturation_keeps_the_grey_level(pixels):
    grey_weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    middle = (pixels // 2 + 32).astype(np.uint8)  # far from the ends, so that nothing is clamped
    straight = run(middle, NOTHING) + 1
    bright = run(middle, Augmentation(crop_share=0.0, brightness=0.2, saturation=0.0)) + 1
    factors = (bright / straight).flatten(1)
    torch.testing.assert_close(factors, factors[:, :1].expand_as(factors), rtol=1e-4, atol=1e-4)
    assert (factors[:, 0] - 1).abs().max() <= 0.2
    assert factors[:, 0].std() > 0.01
    pale = run(middle, Augmentation(crop_share=0.0, brightness=0.0, saturation=0.2)) + 1
    torch.testing.assert_close((pale * grey_weights).sum(2), (straight * grey_weights).sum(2), rtol=1e-3, atol=1e-3)
    assert not torch.allclose(pale, straight, atol=1e-2)


def test_crops_resize_a_window_and_frames_share_it(pixels):
    same_frames = np.repeat(pixels[:, :1], 2, axis=1)
    cropped = run(same_frames, Augmentation(crop_scale=(0.3, 0.5), brightness=0.0, saturation=0.0), size=8)
    assert cropped.shape == (4, 2, 3, 8, 8)
    assert torch.equal(cropped[:, 0], cropped[:, 1])
    assert cropped.min() >= -1
    assert cropped.max() <= 1
    assert not torch.allclose(cropped, plain(same_frames, 8), atol=1e-2)


def test_the_same_generator_state_gives_the_same_pixels(pixels):
    assert torch.equal(run(pixels, Augmentation(), seed=5), run(pixels, Augmentation(), seed=5))
    assert not torch.equal(run(pixels, Augmentation(), seed=5), run(pixels, Augmentation(), seed=6))
