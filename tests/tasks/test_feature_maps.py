"""Maps are checked on features whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from perceptic.tasks.colours import components_to_lch, heat, lab_to_rgb
from perceptic.tasks.feature_maps import gaussian_blur, principal_components, similarity_to_point, stretch


def halves(rows: int = 6, columns: int = 8, size: int = 5) -> torch.Tensor:
    """Left patches point one way, right patches another."""
    features = torch.zeros(rows, columns, size)
    features[:, : columns // 2, 0] = 1
    features[:, columns // 2 :, 1] = 1
    return features


def test_first_component_tells_two_regions_apart() -> None:
    components = principal_components(halves(), blur=False)
    assert components.shape == (6, 8, 3)
    first = components[..., 0]
    assert set(first.flatten().tolist()) == {0.0, 1.0}
    assert (first[:, :4] == first[0, 0]).all()
    assert (first[:, 4:] == 1 - first[0, 0]).all()


def test_the_order_of_patches_changes_nothing() -> None:
    torch.manual_seed(0)
    features = torch.randn(7, 9, 12)
    flipped = principal_components(features.flip(0), blur=False).flip(0)
    torch.testing.assert_close(principal_components(features, blur=False), flipped, atol=1e-5, rtol=0)


def test_fewer_patches_than_components() -> None:
    assert torch.isfinite(principal_components(torch.randn(1, 2, 4))).all()
    assert (principal_components(torch.ones(1, 1, 4)) == 0.5).all()


def test_blur_keeps_constants_and_spreads_a_point_by_the_gaussian() -> None:
    torch.testing.assert_close(gaussian_blur(torch.full((4, 5, 2), 3.0)), torch.full((4, 5, 2), 3.0))
    point = torch.zeros(5, 5, 1)
    point[2, 2] = 1
    blurred = gaussian_blur(point)[..., 0]
    side = np.exp(-0.5) / (1 + 2 * np.exp(-0.5))
    centre = 1 / (1 + 2 * np.exp(-0.5))
    assert blurred[2, 2] == pytest.approx(centre**2, abs=1e-6)
    assert blurred[1, 2] == pytest.approx(side * centre, abs=1e-6)
    assert blurred[1, 1] == pytest.approx(side**2, abs=1e-6)
    assert blurred[0, 0] == 0


def test_similarity_to_a_point_finds_its_region() -> None:
    left = similarity_to_point(halves(), x=0.1, y=0.5)
    assert (left[:, :4] == 1).all()
    assert (left[:, 4:] == 0).all()
    right = similarity_to_point(halves(), x=1.0, y=1.0)  # the far corner belongs to the last patch
    assert (right[:, 4:] == 1).all()


def test_stretch() -> None:
    values = torch.tensor([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]])
    torch.testing.assert_close(stretch(values, ignore=0.0), torch.tensor([[0, 0.5], [0.5, 0.5], [1, 0.5]]))


def test_known_colours() -> None:
    # L*a*b* of sRGB red, green, blue and white (D65).
    lab = torch.tensor([[53.24, 80.09, 67.20], [87.73, -86.18, 83.18], [32.30, 79.19, -107.86], [100.0, 0, 0]])
    expected = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]])
    assert (lab_to_rgb(lab).int() - expected).abs().max() <= 1


def test_heat_grows_lighter() -> None:
    colours = heat(torch.linspace(0, 1, 50)).float()
    brightness = colours @ torch.tensor([0.2126, 0.7152, 0.0722])
    assert (brightness.diff() > 0).all()


def test_first_component_is_lightness() -> None:
    grey = torch.full((5, 3), 0.5)
    grey[:, 0] = torch.linspace(0, 1, 5)
    colours = components_to_lch(grey)
    assert (colours.float().std(dim=-1) <= 1).all(), "no chroma without the second and third component"
    assert (colours[:, 0].int().diff() > 0).all()
