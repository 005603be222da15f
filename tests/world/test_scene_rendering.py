"""Pixels that never change, and annotations that agree with them."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perceptic.errors import ConfigError
from perceptic.world import (
    OOD_VARIANTS,
    SHAPES,
    SPLITS,
    Background,
    Scene,
    SceneObject,
    flip_scene,
    is_flip_safe,
    out_of_distribution,
    render,
    render_pixels,
    sample_scene,
)


def digest(pixels: np.ndarray) -> str:
    return hashlib.sha256(pixels.tobytes()).hexdigest()[:16]


# Made on x86-64 Linux with numpy 2; the world's pixels are part of its interface, so a change here needs a reason.
GOLDEN_SCENES = {
    ("train", 0, 64): "7f76d442a4c6349e",
    ("train", 3, 64): "568b830926f15a28",
    ("train", 11, 64): "9b7c4020e94cc9ff",
    ("train", 13, 128): "11e1bc28b5e89cbc",
    ("train", 4, 96): "b7c955460462839c",
    ("validation", 1, 64): "23f1e186b7ceeb4c",
    ("heldout_pairs", 2, 64): "9f257c9c2ed93b50",
    ("heldout_words", 7, 64): "c76a16bc089cf784",
    ("train", 15, 64): "60b1baed1ebb7ce6",
}
GOLDEN_VARIANTS = {
    "poses_and_backgrounds": "93253c01264a0eda",
    "palette_swap": "867af6c9365ca3aa",
    "outline": "f5b9b717b46da42f",
    "confusables": "5cc58433c131237f",
}


@pytest.mark.parametrize(("split", "seed", "size"), GOLDEN_SCENES)
def test_pixels_of_known_scenes(split: str, seed: int, size: int) -> None:
    assert digest(render_pixels(sample_scene(seed, split), size)) == GOLDEN_SCENES[split, seed, size]


@pytest.mark.parametrize("variant", OOD_VARIANTS)
def test_pixels_of_known_variants(variant: str) -> None:
    pixels = [render_pixels(out_of_distribution(sample_scene(seed), variant, seed), 64) for seed in range(8)]
    assert digest(np.stack(pixels)) == GOLDEN_VARIANTS[variant]


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**40), split=st.sampled_from(SPLITS), size=st.sampled_from([33, 64, 96, 128]))
def test_annotations_agree_with_each_other(seed: int, split: str, size: int) -> None:
    scene = sample_scene(seed, split)
    rendered = render(scene, size)
    assert np.array_equal(rendered.pixels, render_pixels(scene, size))
    masks = rendered.masks
    # Every pixel belongs to exactly one object or to the background.
    assert np.array_equal(masks.sum(axis=0) + (rendered.owners == -1), np.ones((size, size)))
    assert not (masks & ~rendered.amodal_masks).any()
    for index, item in enumerate(scene.objects):
        assert (rendered.depth[masks[index]] == np.float32(item.depth)).all()
        _assert_tight(masks[index], rendered.boxes[index])
        _assert_tight(rendered.amodal_masks[index], rendered.amodal_boxes[index])
    assert (rendered.depth[rendered.owners == -1] == 1.0).all()


def _assert_tight(mask: np.ndarray, box: object) -> None:
    if box is None:
        assert not mask.any()
        return
    left, top, right, bottom = box.xyxy  # type: ignore[attr-defined]
    inside = mask[top:bottom, left:right]
    assert inside.sum() == mask.sum()
    assert inside[0].any()
    assert inside[-1].any()
    assert inside[:, 0].any()
    assert inside[:, -1].any()
    assert box.xywh == (left, top, right - left, bottom - top)  # type: ignore[attr-defined]


def test_the_nearest_object_owns_shared_pixels() -> None:
    for seed in range(100):
        scene = sample_scene(seed, layout="overlap", num_objects=2)
        rendered = render(scene, 64)
        shared = rendered.amodal_masks[0] & rendered.amodal_masks[1]
        assert shared.any()
        assert (rendered.owners[shared] == 0).all(), "the first object of this layout is the nearer one"


def test_masks_scale_with_the_picture() -> None:
    for seed in range(40):
        scene = sample_scene(seed)
        small, large = render(scene, 64), render(scene, 256)
        for index in range(len(scene.objects)):
            share_small, share_large = small.amodal_masks[index].mean(), large.amodal_masks[index].mean()
            assert share_small == pytest.approx(share_large, rel=0.12, abs=0.001)


def test_boxes_follow_the_unit_coordinates() -> None:
    for shape in SHAPES:
        item = SceneObject(shape, "red", "medium", "solid", 0.4, 0.6, 0.2, 0.5)
        box = render(_alone(item), 200).boxes[0]
        assert box is not None
        assert 0.4 - 0.215 <= box.left / 200 <= 0.4 - 0.08
        assert 0.6 + 0.12 <= box.bottom / 200 <= 0.6 + 0.215


def test_flipped_scenes_are_flipped_pixels() -> None:
    checked = 0
    for seed in range(300):
        scene = sample_scene(seed, text_fraction=0.0)
        if is_flip_safe(scene):
            checked += 1
            flipped = render_pixels(flip_scene(scene), 64).astype(int)
            assert np.abs(flipped - render_pixels(scene, 64)[:, ::-1]).max() <= 1
            assert flip_scene(flip_scene(scene)) == _without_rounding(scene)
    assert checked > 200


def _without_rounding(scene: Scene) -> Scene:
    objects = tuple(replace(item, x=round(1.0 - round(1.0 - item.x, 9), 9)) for item in scene.objects)
    return replace(scene, objects=objects)


def test_text_stays_readable_when_flipped() -> None:
    scene = next(s for s in map(sample_scene, range(200)) if s.sign is not None)
    assert not is_flip_safe(scene)
    panel = slice(0, 14) if scene.sign is not None and scene.sign.place == "top" else slice(50, 64)
    assert np.array_equal(render_pixels(flip_scene(scene), 64)[panel], render_pixels(scene, 64)[panel])


def test_variants_keep_ground_truth_but_change_pixels() -> None:
    keep = ("shape", "colour", "size", "texture", "x", "y", "radius", "text")
    for seed in range(60):
        scene = sample_scene(seed, layout="objects")
        for variant in OOD_VARIANTS:
            changed = out_of_distribution(scene, variant, seed)
            for old, new in zip(scene.objects, changed.objects, strict=True):
                assert [getattr(old, name) for name in keep] == [getattr(new, name) for name in keep]
            assert not np.array_equal(render_pixels(scene, 64), render_pixels(changed, 64))
            assert all(box is not None for box in render(changed, 64).boxes), (seed, variant)


def test_outlines_are_hollow() -> None:
    item = SceneObject("square", "red", "large", "solid", 0.5, 0.5, 0.235, 0.5)
    outlined = render_pixels(out_of_distribution(_alone(item), "outline"), 64)
    filled = render_pixels(_alone(item), 64)
    assert tuple(filled[32, 32]) != tuple(outlined[32, 32]) == tuple(outlined[2, 2])


def test_unknown_variants_are_named() -> None:
    with pytest.raises(ConfigError, match="variant 'sketch' does not exist"):
        out_of_distribution(sample_scene(0), "sketch")


def test_too_small_pictures_are_refused() -> None:
    with pytest.raises(ConfigError, match="size 8"):
        render_pixels(sample_scene(0), 8)


def test_colours_are_what_they_are_called() -> None:
    from perceptic.world import COLOURS

    for colour, rgb in COLOURS.items():
        item = SceneObject("square", colour, "large", "solid", 0.5, 0.5, 0.235, 0.0)
        assert np.abs(render_pixels(_alone(item), 64)[32, 32].astype(int) - rgb).max() <= 1
        # No two names may be mistaken for each other.
        others = [np.linalg.norm(np.subtract(rgb, other)) for name, other in COLOURS.items() if name != colour]
        assert min(others) > 80


def test_shapes_differ_from_each_other_at_64_pixels() -> None:
    masks = []
    for shape in SHAPES:
        item = SceneObject(shape, "red", "medium", "solid", 0.5, 0.5, 0.16, 0.5)
        masks.append(render(_alone(item), 64).masks[0])
    for first in range(len(SHAPES)):
        for second in range(first):
            union, both = (masks[first] | masks[second]).sum(), (masks[first] & masks[second]).sum()
            assert both / union < 0.93, (SHAPES[first], SHAPES[second])


def _alone(item: SceneObject) -> Scene:
    return Scene((item,), Background("plain", "cream", "cream"))
