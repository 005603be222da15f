"""Clips: what the events say is what the pixels do."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perceptic.errors import ConfigError
from perceptic.world import (
    EVENT_KINDS,
    SPLITS,
    Clip,
    Event,
    flip_clip,
    is_clip_flip_safe,
    render,
    render_clip,
    render_clip_annotated,
    reverse_clip,
    sample_clip,
    scene_at,
)

OPPOSITES = {
    "moves left": "moves right", "moves up": "moves down", "grows": "shrinks",
    "turns clockwise": "turns anticlockwise", "appears": "disappears",
}  # fmt: skip
GOLDEN_CLIPS = {
    0: "e11a9554629f77fe",
    1: "23aad01fd260922e",
    4: "efa6355c215cf050",
    9: "93ec539d3e80bc41",
    21: "8abf269b53159ee3",
}


def digest(pixels: np.ndarray) -> str:
    return hashlib.sha256(pixels.tobytes()).hexdigest()[:16]


@pytest.mark.parametrize("seed", GOLDEN_CLIPS)
def test_pixels_of_known_clips(seed: int) -> None:
    assert digest(render_clip(sample_clip(seed), 64)) == GOLDEN_CLIPS[seed]


@settings(deadline=None, max_examples=80)
@given(seed=st.integers(0, 2**40), split=st.sampled_from(SPLITS), num_frames=st.one_of(st.none(), st.integers(8, 48)))
def test_events_follow_each_other_inside_the_clip(seed: int, split: str, num_frames: int | None) -> None:
    clip = sample_clip(seed, split, num_frames=num_frames)
    assert clip == sample_clip(seed, split, num_frames=num_frames)
    assert clip.num_frames == num_frames or (num_frames is None and 16 <= clip.num_frames <= 32)
    assert 1 <= len(clip.events) <= 4
    for event in clip.events:
        assert 0 <= event.start_frame <= event.end_frame - 4
        assert event.end_frame <= clip.num_frames - 1
        assert clip.end_seconds(event) == event.end_frame / 8.0
        assert scene_at(clip, event.start_frame).objects[event.object_index] == event.before
        assert scene_at(clip, event.end_frame).objects[event.object_index] == event.after
    for first, second in pairwise(clip.events):
        assert first.end_frame <= second.start_frame
        assert (first.object_index, first.kind) != (second.object_index, second.kind)


def test_every_kind_of_event_occurs_and_moves_are_balanced() -> None:
    kinds = [event.kind for seed in range(600) for event in sample_clip(seed).events]
    counts = {kind: kinds.count(kind) for kind in EVENT_KINDS}
    assert min(counts.values()) > 20
    for kind, opposite in OPPOSITES.items():
        if kind.startswith("moves"):
            assert 0.7 < counts[kind] / counts[opposite] < 1.4


def _centre(mask: np.ndarray) -> tuple[float, float]:
    rows, columns = mask.nonzero()
    return float(columns.mean()), float(rows.mean())


def _check_pixels(event: Event, clip: Clip) -> None:
    """The event seen in amodal masks of the frames at its start and end."""
    first, last = (render(scene_at(clip, frame), 64) for frame in (event.start_frame, event.end_frame))
    before, after = first.amodal_masks[event.object_index], last.amodal_masks[event.object_index]
    if event.kind == "appears":
        assert not before.any()
        assert after.any()
    elif event.kind == "disappears":
        assert before.any()
        assert not after.any()
    elif event.kind == "grows":
        assert after.sum() > 1.5 * before.sum()
    elif event.kind == "shrinks":
        assert after.sum() < before.sum() / 1.5
    elif event.kind.startswith("moves"):
        (x0, y0), (x1, y1) = _centre(before), _centre(after)
        along = {"left": x0 - x1, "right": x1 - x0, "up": y0 - y1, "down": y1 - y0}
        assert max(along, key=lambda way: along[way]) == event.kind.split()[1]
        assert along[event.kind.split()[1]] > 10
    elif event.kind == "changes colour":
        assert event.before.colour != event.after.colour
    elif event.kind in ("bounces", "shakes"):
        assert np.array_equal(before, after)
        between = (render(scene_at(clip, frame), 64) for frame in range(event.start_frame + 1, event.end_frame))
        centres = [_centre(frame.amodal_masks[event.object_index]) for frame in between]
        axis = 1 if event.kind == "bounces" else 0
        assert max(abs(centre[axis] - _centre(before)[axis]) for centre in centres) > 2.5


def test_events_are_what_they_are_called() -> None:
    seen = set()
    for seed in range(150):
        clip = sample_clip(seed)
        for event in clip.events:
            seen.add(event.kind)
            _check_pixels(event, clip)
    assert seen == set(EVENT_KINDS)


def test_turns_go_the_way_they_say() -> None:
    for seed in range(40):
        clip = sample_clip(seed, kinds=("turns clockwise", "turns anticlockwise"))
        for event in clip.events:
            turned = event.after.rotation - event.before.rotation
            assert 120 <= turned <= 220 if event.kind == "turns clockwise" else -220 <= turned <= -120


def test_clockwise_is_clockwise_on_screen() -> None:
    from dataclasses import replace

    from perceptic.world import Background, Scene, SceneObject

    arrow = SceneObject("arrow", "red", "large", "solid", 0.5, 0.5, 0.235, 0.5)
    turned = render(Scene((replace(arrow, rotation=90.0),), Background("plain", "cream", "cream")), 64).masks[0]
    # The arrow points right; a quarter turn clockwise makes it point down, its wide head below the middle.
    assert turned[34:40].sum(axis=1).max() > turned[20:28].sum(axis=1).max()


def test_tracks_masks_and_frames_agree() -> None:
    for seed in range(20):
        clip = sample_clip(seed)
        rendered = render_clip_annotated(clip, 64)
        assert np.array_equal(rendered.pixels, render_clip(clip, 64))
        assert rendered.seconds.tolist() == [frame / 8.0 for frame in range(clip.num_frames)]
        for index in range(len(clip.scene.objects)):
            masks = rendered.masks(index)
            assert len(rendered.tracks[index]) == clip.num_frames
            for frame, box in enumerate(rendered.tracks[index]):
                single = render(scene_at(clip, frame), 64)
                assert single.boxes[index] == box
                assert np.array_equal(single.masks[index], masks[frame])


def test_chosen_frames_are_frames_of_the_clip() -> None:
    clip = sample_clip(2)
    assert np.array_equal(render_clip(clip, 48, [0, 7, 7, 3]), render_clip(clip, 48)[[0, 7, 7, 3]])


def test_played_backwards_the_frames_are_the_same_to_the_bit() -> None:
    for seed in range(60):
        clip = sample_clip(seed)
        backwards = reverse_clip(clip)
        assert np.array_equal(render_clip(backwards, 32), render_clip(clip, 32)[::-1])
        assert reverse_clip(backwards).events == clip.events
        for event, opposite in zip(clip.events, reversed(backwards.events), strict=True):
            expected = OPPOSITES | {value: key for key, value in OPPOSITES.items()}
            assert opposite.kind == expected.get(event.kind, event.kind)


def test_mirrored_clips_are_mirrored_frames() -> None:
    checked = 0
    for seed in range(60):
        clip = sample_clip(seed)
        if is_clip_flip_safe(clip):
            checked += 1
            flipped, straight = render_clip(flip_clip(clip), 48), render_clip(clip, 48)
            # Rotation directions do not matter for a shake's frames, whose swing mirrors too.
            if all(event.kind != "shakes" for event in clip.events):
                assert np.abs(flipped.astype(int) - straight[:, :, ::-1]).max() <= 1
    assert checked > 40


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_frames": 7}, "num_frames 7"),
        ({"frames_per_second": 0.0}, "frames_per_second 0"),
        ({"num_objects": 5}, "num_objects 5"),
        ({"num_events": 0}, "num_events 0"),
        ({"kinds": ("flies",)}, "event kind 'flies' does not exist"),
        ({"kinds": ("appears",)}, "needs at least one event"),
        ({"split": "val"}, "split 'val' does not exist"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sample_clip(0, **arguments)  # type: ignore[arg-type]


def test_numbers_asked_for_are_kept() -> None:
    for seed in range(40):
        clip = sample_clip(seed, num_frames=32, num_objects=3, num_events=1, kinds=("moves left", "moves right"))
        assert (clip.num_frames, len(clip.scene.objects), len(clip.events)) == (32, 3, 1)
        assert clip.events[0].kind in ("moves left", "moves right")
