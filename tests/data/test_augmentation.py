"""Crop, jitter and flip on decoded pixels."""

import colorsys
import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perceptic.data.augmentation import NO_AUGMENTATION, Augmentation, augment, draw_variation, plain
from perceptic.errors import ConfigError

GREY = torch.tensor([0.299, 0.587, 0.114])[:, None, None]


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (4, 2, 3, 16, 16), dtype=np.uint8)


@pytest.fixture
def middle(pixels):
    """Far from the ends, so that nothing is clamped."""
    return (pixels // 4 + 96).astype(np.uint8)


def generators(count, seed=0):
    return [np.random.default_rng([seed, place]) for place in range(count)]


def run(pixels, flips=None, size=16, seed=0, **options):
    flips = np.zeros(len(pixels), dtype=bool) if flips is None else np.array(flips)
    augmentation = dataclasses.replace(NO_AUGMENTATION, **options)
    return augment(pixels, flips, size, augmentation, generators(len(pixels), seed))


def test_without_variation_pixels_are_only_scaled(pixels):
    expected = torch.from_numpy(pixels).double() / 127.5 - 1
    torch.testing.assert_close(run(pixels).double(), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(plain(pixels, 16).double(), expected, rtol=0, atol=1e-6)


def test_flips_mirror_the_chosen_samples_in_every_frame(pixels):
    straight = run(pixels)
    flipped = run(pixels, flips=[True, False, False, True])
    assert torch.equal(flipped[0], straight[0].flip(-1))
    assert torch.equal(flipped[1], straight[1])
    assert torch.equal(flipped[3], straight[3].flip(-1))


def test_brightness_is_one_factor_per_sample(middle):
    factors = ((run(middle, brightness=0.2) + 1) / (run(middle) + 1)).flatten(1)
    torch.testing.assert_close(factors, factors[:, :1].expand_as(factors), rtol=1e-4, atol=1e-4)
    assert (factors[:, 0] - 1).abs().max() <= 0.2
    assert factors[:, 0].std() > 0.01


def test_saturation_and_hue_keep_the_grey_level(middle):
    straight = run(middle)
    for options in ({"saturation": 0.5}, {"hue": 0.5}):
        changed = run(middle, **options)
        torch.testing.assert_close((changed * GREY).sum(2), (straight * GREY).sum(2), rtol=1e-3, atol=1e-3)
        assert not torch.allclose(changed, straight, atol=1e-2)


def test_contrast_moves_levels_about_the_mean_of_the_whole_clip(middle):
    straight, changed = run(middle), run(middle, contrast=0.5)
    means = [(x * GREY).sum(2).mean(dim=(1, 2, 3)) for x in (straight, changed)]
    torch.testing.assert_close(means[0], means[1], rtol=1e-4, atol=1e-4)
    spreads = changed.flatten(1).std(dim=1) / straight.flatten(1).std(dim=1)
    assert (spreads - 1).abs().max() <= 0.5
    assert spreads.std() > 0.01


def test_a_turn_of_hue_turns_the_colour():
    orange = np.full((40, 1, 3, 2, 2), 128, dtype=np.uint8)
    orange[:, :, 0], orange[:, :, 2] = 160, 100
    hues = [colorsys.rgb_to_hsv(*rgb)[0] for rgb in (run(orange, hue=0.5)[:, 0, :, 0, 0] + 1).tolist()]
    assert min(hues) < 0.15
    assert max(hues) > 0.85
    near = [colorsys.rgb_to_hsv(*rgb)[0] for rgb in (run(orange, hue=0.02)[:, 0, :, 0, 0] + 1).tolist()]
    plain_hue = colorsys.rgb_to_hsv(160, 128, 100)[0]
    assert max(abs(hue - plain_hue) for hue in near) < 0.05


def test_crops_resize_a_window_and_frames_share_it(pixels):
    same_frames = np.repeat(pixels[:, :1], 2, axis=1)
    cropped = run(same_frames, size=8, crop_share=1.0, crop_scale=(0.3, 0.5))
    assert cropped.shape == (4, 2, 3, 8, 8)
    assert torch.equal(cropped[:, 0], cropped[:, 1])
    assert not torch.allclose(cropped, plain(same_frames, 8), atol=1e-2)


def test_pictures_of_different_sizes_become_one_batch():
    rng = np.random.default_rng(1)
    pictures = [rng.integers(0, 256, (1, 3, *size), dtype=np.uint8) for size in ((20, 30), (64, 9), (5, 5))]
    batch = augment(pictures, np.array([True, False, True]), 12, Augmentation(), generators(3))
    assert batch.shape == (3, 1, 3, 12, 12)


def test_a_sample_looks_the_same_in_any_batch(pixels):
    options = Augmentation(contrast=0.2, hue=0.1)
    flips = np.array([True, False, True, False])
    whole = augment(pixels, flips, 8, options, generators(4))
    second_half = augment(pixels[2:], flips[2:], 8, options, generators(4)[2:])
    assert torch.equal(whole[2:], second_half)
    assert not torch.equal(whole, augment(pixels, flips, 8, options, generators(4, seed=1)))


def test_an_option_leaves_the_draws_of_the_others_alone():
    one, other = (
        draw_variation(options, 48, 64, np.random.default_rng(3))
        for options in (Augmentation(), Augmentation(crop_share=0.0, saturation=0.0, hue=0.5))
    )
    assert one.jitter.brightness == other.jitter.brightness
    assert one.window != other.window


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    low=st.floats(0.01, 1.0),
    high=st.floats(0.01, 1.0),
)
def test_windows_lie_inside_and_keep_no_more_than_asked(seed, height, width, low, high):
    scale = (min(low, high), max(low, high))
    variation = draw_variation(Augmentation(crop_scale=scale), height, width, np.random.default_rng(seed))
    window = variation.window
    assert 0 <= window.top <= window.top + window.rows <= height
    assert 0 <= window.left <= window.left + window.columns <= width
    assert min(window.rows, window.columns) >= 1
    # Rounding adds at most half a pixel a side.
    assert window.rows * window.columns <= scale[1] * height * width + (height + width) / 2 + 0.25 or 1 in (
        window.rows,
        window.columns,
    )
    assert 0.68 <= variation.jitter.brightness <= 1.32
    assert 0.68 <= variation.jitter.saturation <= 1.32
    assert (variation.jitter.contrast, variation.jitter.hue) == (1.0, 0.0)


def test_areas_and_flips_cover_their_ranges_evenly():
    shares = []
    for seed in range(2000):
        window = draw_variation(Augmentation(), 200, 200, np.random.default_rng(seed)).window
        shares.append(window.rows * window.columns / 200**2)
    assert min(shares) == pytest.approx(0.08, abs=0.01)
    assert max(shares) > 0.97
    # Even over 0.08 to 1, but for the large elongated windows that the edge cuts.
    assert np.mean(np.array(shares) < 0.5) == pytest.approx(0.42 / 0.92, abs=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop_scale": (0.5, 0.2)}, "crop_scale: expected 0 < smallest"),
        ({"crop_scale": (0.5, 1.5)}, "at most 1.0 of the area"),
        ({"crop_ratio": (0.0, 1.0)}, "crop_ratio"),
        ({"hue": 0.6}, r"hue: expected 0 to 0\.5"),
        ({"flip_share": -0.1}, "flip_share"),
    ],
)
def test_impossible_options_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        Augmentation(**options)
