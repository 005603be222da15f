"""Captions are read back and held against the scene, claim by claim."""

from __future__ import annotations

import re
from dataclasses import astuple
from typing import Any

import pytest

from perceptic.errors import ConfigError
from perceptic.world import (
    HELDOUT_PAIRS,
    HELDOUT_WORDS,
    CaptionNoise,
    captions,
    count_descriptions,
    count_tokens,
    flip_caption,
    flip_scene,
    is_flip_safe,
    label_caption,
    main_relation,
    sample_scene,
)
from perceptic.world.vocabulary import COLOURS, SIZES, TEXTURES
from perceptic.world.wording import SYNONYMS

SEEDS = range(450)


@pytest.mark.parametrize("split", ["train", "heldout_pairs", "heldout_words"])
def test_every_object_mentioned_exists_in_the_number_said(split: str, reader: Any) -> None:
    found = 0
    for seed in SEEDS:
        scene = sample_scene(seed, split)
        for text in astuple(captions(scene, seed)):
            for mention in reader.mentions(text):
                found += 1
                matching = [item for item in scene.objects if mention.matches(item)]
                assert len(matching) == mention.number, (seed, text, mention)
    assert found > 2 * len(SEEDS), "the reader found too few phrases to prove anything"


def test_long_captions_name_every_object_with_all_its_attributes(reader: Any) -> None:
    for seed in SEEDS:
        scene = sample_scene(seed)
        mentions = reader.mentions(captions(scene, seed).long)
        complete = [mention for mention in mentions if len(mention.attributes) == 4]
        for item in scene.objects:
            assert any(mention.matches(item) for mention in complete), (seed, item)


def test_long_captions_tell_true_relations(reader: Any) -> None:
    told = 0
    for seed in SEEDS:
        scene = sample_scene(seed)
        text = captions(scene, seed).long
        for claim in reader.relations(text):
            told += 1
            assert claim.is_true(scene), (seed, text, claim)
    assert told > len(SEEDS) // 2


def test_relations_are_told_wherever_two_single_objects_have_one(reader: Any) -> None:
    for seed in SEEDS:
        scene = sample_scene(seed, layout="objects", num_objects=2)
        first, second = scene.objects
        if main_relation(first, second) is not None:
            assert len(reader.relations(captions(scene, seed).long)) == 1, captions(scene, seed).long


def test_all_that_can_be_read_is_in_the_long_caption() -> None:
    for seed in SEEDS:
        scene = sample_scene(seed, text_fraction=1.0)
        text = captions(scene, seed).long
        assert [word for word in scene.texts if f'"{word}"' not in text] == []
        assert sorted(re.findall(r'"(\w+)"', text)) == sorted(scene.texts)


def test_chart_captions_tell_all_values() -> None:
    for seed in range(100):
        scene = sample_scene(seed, layout="chart")
        assert scene.chart is not None
        text = captions(scene, seed).long
        assert [int(number) for number in re.findall(r"\d+", text)] == list(scene.chart.values)
        assert all(label in text for label in scene.chart.labels)


def test_lengths_grow_and_fit_a_context_of_64() -> None:
    told = [captions(sample_scene(seed), seed) for seed in SEEDS]
    lengths = [[count_tokens(text) for text in astuple(words)] for words in told]
    assert max(max(row) for row in lengths) <= 58
    short, medium, long = (sorted(column)[len(column) // 2] for column in zip(*lengths, strict=True))
    assert short < medium < long


def test_equal_seeds_speak_alike_and_others_differently() -> None:
    scene = sample_scene(5)
    assert captions(scene, 1) == captions(scene, 1)
    assert len({captions(scene, seed).medium for seed in range(30)}) > 15


def test_training_never_speaks_of_what_is_held_out(reader: Any) -> None:
    noise = CaptionNoise(missing=0.2, wrong=0.5)
    for split in ("train", "validation"):
        for seed in SEEDS:
            for text in astuple(captions(sample_scene(seed, split), seed, noise=noise)):
                pairs = {(m.attributes["colour"], m.attributes["shape"]) for m in reader.mentions(text)}
                assert not pairs & HELDOUT_PAIRS, text
                assert not HELDOUT_WORDS & set(re.findall(r'"(\w+)"', text)), text


def test_noise_leaves_out_and_mistakes_as_asked(reader: Any) -> None:
    def wrong_share(noise: CaptionNoise) -> float:
        outcomes = []
        for seed in range(300):
            scene = sample_scene(seed, layout="objects", num_objects=2)
            for mention in reader.mentions(captions(scene, seed, noise=noise).long):
                outcomes.append(not any(mention.matches(item) for item in scene.objects))
        return sum(outcomes) / len(outcomes)

    assert wrong_share(CaptionNoise(missing=0.3, wrong=0.0)) == 0.0
    assert 0.1 < wrong_share(CaptionNoise(missing=0.0, wrong=0.1)) < 0.5
    shorter = [captions(sample_scene(s), s, noise=CaptionNoise(missing=0.5, wrong=0.0)).long for s in range(200)]
    assert sum(map(len, shorter)) < 0.7 * sum(len(captions(sample_scene(s), s).long) for s in range(200))


def test_noise_must_be_a_probability() -> None:
    with pytest.raises(ConfigError, match=r"wrong is 1\.5"):
        CaptionNoise(wrong=1.5)


def test_flipped_captions_are_true_of_the_flipped_scene(reader: Any) -> None:
    checked = 0
    for seed in SEEDS:
        scene = sample_scene(seed)
        if not is_flip_safe(scene):
            continue
        text = flip_caption(captions(scene, seed).long)
        for claim in reader.relations(text):
            checked += 1
            assert claim.is_true(flip_scene(scene)), text
    assert checked > 200


def test_flipping_twice_changes_nothing() -> None:
    text = "Left of the star, a house turns clockwise. Right!"
    assert flip_caption(text) == "Right of the star, a house turns anticlockwise. Left!"
    assert flip_caption(flip_caption(text)) == text
    assert flip_caption("a bright leftover") == "a bright leftover"


def test_the_caption_space_exceeds_a_million() -> None:
    # Two objects of 160 seen pairs, 3 sizes, 6 textures; 4 relations; 12 plain backgrounds.
    looks = 160 * 3 * 6
    assert count_descriptions("train", 2) == looks * (looks - 1) // 2 * 4 * 12
    assert count_descriptions("train", 2) > 1_000_000


def test_captions_of_a_thousand_scenes_are_nearly_all_different() -> None:
    assert len({captions(sample_scene(seed, "validation"), seed).long for seed in range(1000)}) > 960


def test_a_label_names_the_shape_and_nothing_else() -> None:
    for seed in range(60):
        scene = sample_scene(seed, num_objects=1)
        label = label_caption(scene, seed)
        words = set(re.findall(r"[a-z-]+", label))
        names = {scene.objects[0].shape, *SYNONYMS.get(scene.objects[0].shape, ())}
        assert any(name in label for name in names)
        assert not words & {*COLOURS, *SIZES, *TEXTURES, "background"}
        assert label == label_caption(scene, seed)
