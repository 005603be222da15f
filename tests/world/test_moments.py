"""When something happens follows from what is told of every frame before it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from perceptic.world import Clip, render_clip_annotated, sample_clip
from perceptic.world.acts import told_frames
from perceptic.world.clip import Event, scene_at
from perceptic.world.dense_captions import event_caption
from perceptic.world.moments import video_moments_row
from perceptic.world.places import place_words
from perceptic.world.plm_rows import turns_of
from perceptic.world.randomness import seeded
from perceptic.world.words import VISIBLE, colour_now


def told() -> Iterator[tuple[Clip, Event, str]]:
    """Each event that is asked about, with the answer."""
    for seed in range(60):
        clip = sample_clip(seed, num_frames=32)
        row = video_moments_row("a.mp4", clip, render_clip_annotated(clip, 64), seeded(seed, "test"))
        for ask, answer in turns_of(row["conversations"]) if row else ():
            events = [event for event in clip.events if event_caption(event).removesuffix(".") in ask]
            (event,) = [event for event in events if f"[{event.start_frame}, {event.end_frame}]" in answer]
            yield clip, event, answer


def test_what_is_told_of_a_frame_is_true_of_it() -> None:
    states = 0
    for clip, event, answer in told():
        frames = told_frames(clip)
        for number, state in re.findall(r"(\d) ([a-z][a-z ]*)", answer):
            item = scene_at(clip, frames[int(number)]).objects[event.object_index]
            if event.kind in ("grows", "shrinks"):
                assert state in ("gone", event.before.size, event.after.size)
            elif event.kind == "changes colour":
                assert state in ("gone", colour_now(item))
            else:
                assert state == (place_words(item) if item.opacity >= VISIBLE else "gone")
            states += 1
    assert states > 400


def test_every_frame_is_told_once_and_halves_come_before_quarters() -> None:
    for _, event, answer in told():
        numbers = [int(number) for number in re.findall(r"(\d) [a-z]", answer)]
        assert numbers == ([] if event.kind.startswith("turns") else [0, 4, 2, 6, 1, 3, 5, 7])


def test_what_appears_is_gone_before_and_there_after() -> None:
    appeared = 0
    for clip, event, answer in told():
        if event.kind == "appears" and clip.scene.objects[event.object_index].opacity == 0.0:
            frames = told_frames(clip)
            for number, state in re.findall(r"(\d) ([a-z][a-z ]*)", answer):
                if frames[int(number)] <= event.start_frame:
                    assert state == "gone"
            appeared += 1
    assert appeared > 5
