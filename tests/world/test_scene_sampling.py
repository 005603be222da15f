"""Scenes: splits that never meet, layouts that are what they say, objects that can be seen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perceptic.errors import ConfigError
from perceptic.world import (
    COLOURS,
    HELDOUT_PAIRS,
    HELDOUT_WORDS,
    LAYOUTS,
    SEEN_PAIRS,
    SHAPES,
    SIZES,
    SPLITS,
    TEXTURES,
    WORDS,
    Scene,
    holds,
    location,
    main_relation,
    render,
    sample_clip,
    sample_scene,
    scene_at,
)

MANY = 2000


def pairs_of(scene: Scene) -> set[tuple[str, str]]:
    return {(item.colour, item.shape) for item in scene.objects}


def test_the_vocabulary_is_large_enough() -> None:
    assert (len(SHAPES), len(COLOURS), len(TEXTURES), len(SIZES)) == (16, 12, 6, 3)
    assert len(set(WORDS)) == len(WORDS) >= 60


def test_held_out_pairs_and_words_are_spread_evenly() -> None:
    by_colour = [sum(colour == name for colour, _ in HELDOUT_PAIRS) for name in COLOURS]
    by_shape = [sum(shape == name for _, shape in HELDOUT_PAIRS) for name in SHAPES]
    assert set(by_shape) == {2}
    assert set(by_colour) == {2, 3}
    assert len(SEEN_PAIRS) + len(HELDOUT_PAIRS) == 16 * 12
    assert set(WORDS) > HELDOUT_WORDS
    assert set("".join(HELDOUT_WORDS)) <= set("".join(set(WORDS) - HELDOUT_WORDS)), "unseen words of seen letters"


@pytest.mark.parametrize("split", ["train", "validation"])
def test_training_and_validation_never_show_what_is_held_out(split: str) -> None:
    for seed in range(MANY):
        scene = sample_scene(seed, split)
        assert not pairs_of(scene) & HELDOUT_PAIRS
        assert not set(scene.texts) & HELDOUT_WORDS


def test_training_clips_never_show_what_is_held_out_in_any_frame() -> None:
    for seed in range(1000):
        clip = sample_clip(seed)
        states = [event.before for event in clip.events] + [event.after for event in clip.events]
        shown = {(item.colour, item.shape) for item in (*clip.scene.objects, *states)}
        assert not shown & HELDOUT_PAIRS
        assert not set(clip.scene.texts) & HELDOUT_WORDS


def test_held_out_splits_always_show_what_they_are_for() -> None:
    for seed in range(MANY // 2):
        assert pairs_of(sample_scene(seed, "heldout_pairs")) & HELDOUT_PAIRS
        scene = sample_scene(seed, "heldout_words")
        assert set(scene.texts) & HELDOUT_WORDS
        assert not pairs_of(scene) & HELDOUT_PAIRS


def test_splits_share_no_scene() -> None:
    seen = {sample_scene(seed, "train") for seed in range(MANY)}
    assert len(seen) > 0.999 * MANY
    assert not seen & {sample_scene(seed, "validation") for seed in range(MANY)}


def test_every_seen_pair_and_word_occurs_in_training() -> None:
    scenes = [sample_scene(seed, text_fraction=1.0) for seed in range(MANY)]
    assert set().union(*map(pairs_of, scenes)) == set(SEEN_PAIRS)
    words = {word for scene in scenes for word in scene.texts if len(word) > 1}
    assert words == set(WORDS) - HELDOUT_WORDS


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_are_what_they_say(layout: str) -> None:
    for split in SPLITS:
        for seed in range(60):
            scene = sample_scene(seed, split, layout=layout)
            assert (scene.chart is not None) == (layout == "chart")
            if layout == "single":
                assert len(scene.objects) == 1
            elif layout == "objects":
                assert 2 <= len(scene.objects) <= 4
                assert len(pairs_of(scene)) == len(scene.objects)
            elif layout == "group":
                assert len(pairs_of(scene)) <= 2 <= len(scene.objects)
            elif layout == "overlap":
                assert holds(scene.objects[0], "in front of", scene.objects[1])
            elif layout == "inside":
                assert holds(scene.objects[0], "inside", scene.objects[1])


@pytest.mark.parametrize("number", range(1, 7))
def test_the_number_of_objects_asked_for_is_kept(number: int) -> None:
    for split in SPLITS:
        assert {len(sample_scene(seed, split, num_objects=number).objects) for seed in range(60)} == {number}


def test_all_counts_up_to_five_occur() -> None:
    assert {len(sample_scene(seed).objects) for seed in range(600)} >= {1, 2, 3, 4, 5}


def test_every_object_can_be_seen_well() -> None:
    for seed in range(400):
        scene = sample_scene(seed)
        rendered = render(scene, 64)
        for visible, whole in zip(rendered.masks, rendered.amodal_masks, strict=True):
            assert whole.sum() >= 20
            assert visible.sum() >= 0.4 * whole.sum(), seed


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**62), split=st.sampled_from(SPLITS))
def test_any_seed_gives_a_scene_inside_the_frame(seed: int, split: str) -> None:
    scene = sample_scene(seed, split)
    assert scene == sample_scene(seed, split)
    assert scene.split == split
    for item in scene.objects:
        assert item.radius <= item.x <= 1 - item.radius
        assert item.radius <= item.y <= 1 - item.radius
        assert 0 < item.depth < 1
        assert location(item) in {
            "top left", "top", "top right", "left", "centre", "right", "bottom left", "bottom", "bottom right",
        }  # fmt: skip


def test_depths_order_objects_and_relations_are_symmetric() -> None:
    opposite = {"left of": "right of", "above": "below", "in front of": "behind", "inside": "around"}
    for seed in range(500):
        objects = sample_scene(seed).objects
        for first in objects:
            for second in objects:
                if first is second:
                    continue
                for relation, reverse in opposite.items():
                    assert holds(first, relation, second) == holds(second, reverse, first)
                    assert not (holds(first, relation, second) and holds(first, reverse, second))
                main = main_relation(first, second)
                assert main is None or holds(first, main, second)


def test_a_generator_is_drawn_from() -> None:
    rng = np.random.default_rng(0)
    assert sample_scene(rng) != sample_scene(rng)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "test"}, "split 'test' does not exist"),
        ({"layout": "row"}, "layout 'row' does not exist"),
        ({"num_objects": 7}, "1 to 6"),
        ({"num_objects": 3, "layout": "single"}, "holds 1 to 1"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sample_scene(0, **arguments)  # type: ignore[arg-type]


def test_negative_seeds_are_refused() -> None:
    with pytest.raises(ConfigError, match="seed -1"):
        sample_scene(-1)


def test_frames_of_a_clip_hold_the_same_objects() -> None:
    clip = sample_clip(3)
    shapes = [item.shape for item in clip.scene.objects]
    assert all([item.shape for item in scene_at(clip, frame).objects] == shapes for frame in range(clip.num_frames))
