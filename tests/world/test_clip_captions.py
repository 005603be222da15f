"""Captions of clips are read back: the actions in their order, the objects with their attributes."""

from __future__ import annotations

import re
from dataclasses import astuple
from typing import Any

from perceptic.world import (
    COLOURS,
    HELDOUT_PAIRS,
    CaptionNoise,
    clip_captions,
    count_tokens,
    flip_caption,
    flip_clip,
    is_clip_flip_safe,
    sample_clip,
    scene_at,
)

SEEDS = range(300)
ACTIONS = {
    r"(?:moves|slides) (?:to the )?left": "moves left",
    r"(?:moves|slides) (?:to the )?right": "moves right",
    r"moves up|rises": "moves up",
    r"moves down|sinks": "moves down",
    r"grows|gets bigger": "grows",
    r"shrinks|gets smaller": "shrinks",
    r"(?:turns|spins) clockwise": "turns clockwise",
    r"(?:turns|spins) anticlockwise": "turns anticlockwise",
    r"\bappears|fades in": "appears",
    r"disappears|fades out": "disappears",
    rf"(?:turns|changes colour to|becomes) (?:{'|'.join(COLOURS)})": "changes colour",
    r"bounces|hops up and down": "bounces",
    r"shakes|wobbles from side to side": "shakes",
}
PATTERN = re.compile("|".join(f"({pattern})" for pattern in ACTIONS))


def actions(text: str) -> list[str]:
    """Kinds of the actions in a text, in the order told; "after A, B" tells in order, as "A before B" does."""
    kinds = list(ACTIONS.values())
    return [kinds[match.lastindex - 1] for match in PATTERN.finditer(text.lower()) if match.lastindex]


def test_medium_and_long_captions_tell_all_events_in_order() -> None:
    for split in ("train", "heldout_pairs"):
        for seed in SEEDS:
            clip = sample_clip(seed, split)
            told = clip_captions(clip, seed)
            kinds = [event.kind for event in clip.events]
            assert actions(told.medium) == kinds, told.medium
            assert actions(told.long) == kinds, told.long


def test_short_captions_tell_some_events_in_order() -> None:
    for seed in SEEDS:
        clip = sample_clip(seed)
        told = actions(clip_captions(clip, seed).short)
        kinds = [event.kind for event in clip.events]
        assert any(kinds[start : start + len(told)] == told for start in range(len(kinds)))
        assert told


def test_objects_mentioned_exist_at_some_time(reader: Any) -> None:
    for seed in SEEDS:
        clip = sample_clip(seed)
        states = [item for frame in range(clip.num_frames) for item in scene_at(clip, frame).objects]
        for text in astuple(clip_captions(clip, seed)):
            for mention in reader.mentions(text):
                assert any(mention.matches(item) for item in states), (seed, text, mention)


def test_long_captions_name_every_object_with_all_its_attributes(reader: Any) -> None:
    for seed in SEEDS:
        clip = sample_clip(seed)
        told = [m for m in reader.mentions(clip_captions(clip, seed).long) if len(m.attributes) == 4]
        first = {event.object_index: event.before for event in reversed(clip.events)}
        for index, item in enumerate(clip.scene.objects):
            assert any(mention.matches(first.get(index, item)) for mention in told), (seed, item)


def test_captions_fit_a_context_of_64_and_vary() -> None:
    told = [clip_captions(sample_clip(seed), seed) for seed in SEEDS]
    assert max(count_tokens(text) for words in told for text in astuple(words)) <= 58
    assert len({words.long for words in told}) == len(told)
    assert len({clip_captions(sample_clip(1), seed).medium for seed in range(30)}) > 8


def test_noise_misses_and_mistakes_events(reader: Any) -> None:
    noise = CaptionNoise(missing=0.3, wrong=0.3)
    differing = 0
    for seed in SEEDS:
        clip = sample_clip(seed)
        text = clip_captions(clip, seed, noise=noise).medium
        differing += actions(text) != [event.kind for event in clip.events]
        pairs = {(m.attributes["colour"], m.attributes["shape"]) for m in reader.mentions(text)}
        assert not pairs & HELDOUT_PAIRS
    assert 0.3 * len(SEEDS) < differing < 0.9 * len(SEEDS)


def test_flipped_captions_tell_the_flipped_clip() -> None:
    checked = 0
    for seed in SEEDS:
        clip = sample_clip(seed)
        if is_clip_flip_safe(clip):
            checked += 1
            text = flip_caption(clip_captions(clip, seed).medium)
            assert actions(text) == [event.kind for event in flip_clip(clip).events]
    assert checked > 200
