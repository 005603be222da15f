"""The parts that draw and choose, against slow and plain references."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perceptic import world
from perceptic.world.charts import CHART_KINDS, sample_chart
from perceptic.world.font import text_bitmap, text_coverage
from perceptic.world.paint import background_pixels, nearest_colour, texture_share
from perceptic.world.randomness import between, chance, pick, seeded, shuffled, whole
from perceptic.world.scene import Background
from perceptic.world.shapes import Polygon, shape_distance
from perceptic.world.vocabulary import (
    BACKGROUND_COLOURS,
    BACKGROUND_PATTERNS,
    LETTERS,
    UNSEEN_BACKGROUND_PATTERNS,
    WORDS,
)

POLYGONS = [
    [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)],
    [(0.0, -1.0), (0.3, -0.2), (1.0, 0.0), (0.2, 0.2), (0.0, 1.0), (-0.4, 0.1), (-1.0, 0.5)],
]


def plain_distance(polygon: list[tuple[float, float]], x: float, y: float) -> float:
    """Distance to the nearest edge, negative where a ray to the right crosses an odd number of edges."""
    nearest, inside = math.inf, False
    for (x0, y0), (x1, y1) in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        share = ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / ((x1 - x0) ** 2 + (y1 - y0) ** 2)
        share = min(max(share, 0.0), 1.0)
        nearest = min(nearest, math.hypot(x - x0 - share * (x1 - x0), y - y0 - share * (y1 - y0)))
        if (y0 > y) != (y1 > y) and x < x0 + (y - y0) * (x1 - x0) / (y1 - y0):
            inside = not inside
    return -nearest if inside else nearest


@pytest.mark.parametrize("polygon", POLYGONS)
@pytest.mark.parametrize("reverse", [False, True])
def test_polygon_distances_are_exact(polygon: list[tuple[float, float]], reverse: bool) -> None:
    axis = np.linspace(-1.3, 1.3, 41)
    vertices = np.array(polygon[::-1] if reverse else polygon)
    distance = Polygon(vertices).distance(axis[None, :], axis[:, None])
    plain = np.array([[plain_distance(polygon, float(x), float(y)) for x in axis] for y in axis])
    assert np.allclose(np.abs(distance), np.abs(plain), atol=1e-12)
    clear = np.abs(plain) > 1e-9
    assert (np.sign(distance) == np.sign(plain))[clear].all()


@pytest.mark.parametrize("shape", world.SHAPES)
def test_shapes_fill_their_disc_and_stay_in_it(shape: str) -> None:
    axis = np.linspace(-1.5, 1.5, 301)
    distance = shape_distance(shape, axis[None, :], axis[:, None])
    radius = np.sqrt(axis[None, :] ** 2 + axis[:, None] ** 2)
    inside = distance <= 0
    assert radius[inside].max() <= 1.22
    assert radius[inside].max() >= 0.85
    assert 0.12 < inside.mean() * 9 / math.pi < 1.0
    # A distance never changes faster than the way walked.
    assert np.abs(np.diff(distance, axis=1)).max() <= 0.0101


def test_letters_and_words_can_be_drawn_and_told_apart() -> None:
    bitmaps = {letter: text_bitmap(letter).tobytes() for letter in LETTERS}
    assert len(set(bitmaps.values())) == len(LETTERS)
    for word in WORDS:
        assert text_bitmap(word).shape == (7, 6 * len(word) - 1)


@given(height=st.integers(7, 40), text=st.sampled_from(["A", "FOX", "7", "QUEEN"]))
def test_ink_is_kept_at_every_height(height: int, text: str) -> None:
    bitmap, coverage = text_bitmap(text), text_coverage(text, height)
    assert coverage.shape[0] == height
    assert 0 <= coverage.min() <= coverage.max() <= 1
    assert coverage.mean() == pytest.approx(bitmap.mean(), rel=1e-9)


def test_text_at_its_own_size_is_its_bitmap() -> None:
    assert np.array_equal(text_coverage("MAP", 7), text_bitmap("MAP"))
    assert np.array_equal(text_coverage("MAP", 14), np.kron(text_bitmap("MAP"), np.ones((2, 2))))


@pytest.mark.parametrize("texture", world.TEXTURES[1:])
def test_textures_show_both_colours(texture: str) -> None:
    axis = (np.arange(24) + 0.5) / 12 - 1
    x, y = np.broadcast_arrays(axis[None, :], axis[:, None])
    share = texture_share(texture, x, y, shape_distance("square", x, y), 0.16, 10.24)
    assert 0 <= share.min() < 0.1
    assert 0.7 < share.max() <= 1
    assert 0.1 < share.mean() < 0.65


def test_every_background_can_be_drawn() -> None:
    for pattern in (*BACKGROUND_PATTERNS, *UNSEEN_BACKGROUND_PATTERNS):
        pixels = background_pixels(Background(pattern, "cream", "dark blue", 0.3), 64)
        assert pixels.shape == (64, 64, 3)
        assert (pattern == "plain") == (len(np.unique(pixels.reshape(-1, 3), axis=0)) == 1)
        mirrored = background_pixels(Background(pattern, "cream", "dark blue", 0.3, mirrored=True), 64)
        assert np.array_equal(mirrored, pixels[:, ::-1])
    assert set(BACKGROUND_PATTERNS).isdisjoint(UNSEEN_BACKGROUND_PATTERNS)
    assert len(BACKGROUND_COLOURS) == 12


def test_every_colour_has_a_near_relative() -> None:
    assert nearest_colour("white") != "white"
    assert nearest_colour("red") in world.COLOURS


@settings(max_examples=60)
@given(seed=st.integers(0, 10**9), kind=st.sampled_from(CHART_KINDS))
def test_charts_have_one_answer_to_every_question(seed: int, kind: str) -> None:
    chart = sample_chart(seeded(seed, "test"), ("CAT",), kind)  # type: ignore[arg-type]
    assert chart.kind == kind
    if kind == "line":
        assert all(first != second for first, second in zip(chart.values, chart.values[1:], strict=False))
        assert 3 <= len(chart.values) <= 6
    else:
        assert len(set(chart.labels)) == len(set(chart.values)) == len(chart.values)
    if kind == "pie":
        assert sum(chart.values) == 100
    else:
        assert all(1 <= value <= 9 for value in chart.values)


@given(seed=st.integers(0, 10**9), items=st.lists(st.integers(), min_size=1, max_size=12))
def test_choices_stay_in_range(seed: int, items: list[int]) -> None:
    rng = seeded(seed, "choices")
    assert pick(rng, items) in items
    assert sorted(shuffled(rng, items)) == sorted(items)
    assert 3 <= whole(rng, 3, 5) <= 5
    assert -1.0 <= between(rng, -1.0, 1.0) < 1.0
    assert not chance(rng, 0.0)
    assert chance(rng, 1.0)


def test_choices_are_even() -> None:
    rng = seeded(1, "even")
    counts = np.bincount([whole(rng, 0, 4) for _ in range(5000)])
    assert counts.min() > 850
    first = np.bincount([shuffled(rng, range(4))[0] for _ in range(4000)])
    assert first.min() > 850


def test_streams_of_other_purposes_differ() -> None:
    assert seeded(1, "scene", "train").random() == seeded(1, "scene", "train").random()
    assert seeded(1, "scene", "train").random() != seeded(1, "scene", "validation").random()
    assert seeded(1, "clip", "train").random() != seeded(2, "clip", "train").random()


def test_public_names_resolve_whatever_was_imported_before() -> None:
    program = (
        "import sys, pkgutil, importlib, perceptic.world as world\n"
        "for module in pkgutil.iter_modules(world.__path__):\n"
        "    importlib.import_module(f'perceptic.world.{module.name}')\n"
        "names = [getattr(world, name) for name in world.__all__]\n"
        "assert not any(type(value).__name__ == 'module' for value in names)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert sorted(world.__all__) == dir(world) == sorted(set(world.__all__))
    with pytest.raises(AttributeError, match="no attribute 'scenes'"):
        _ = world.scenes  # type: ignore[attr-defined]
