"""Rows about times and orders: what is told frame by frame is what happens, and the answer follows from it."""

from __future__ import annotations

import re

from perceptic.world import Clip, Event, sample_clip
from perceptic.world.acts import STILL, told_frames
from perceptic.world.clip import EVENT_KINDS
from perceptic.world.clip_questions import event_sentence
from perceptic.world.clip_rendering import render_clip_annotated
from perceptic.world.places import COLUMNS, ROWS
from perceptic.world.plm_rows import turns_of
from perceptic.world.randomness import seeded
from perceptic.world.trails import steps_word_rows, trail, trail_words, video_orders_row, video_times_rows
from perceptic.world.vocabulary import COLOURS, SIZES


def test_a_trail_tells_what_the_event_changes_in_every_frame() -> None:
    met = set()
    for clip in _clips(200):
        for event in clip.events:
            words = trail(clip, event)
            assert len(words) == 8
            shown = [word for word in words if word != "gone"]
            assert set(shown) <= set(_words_of(event))
            met.add(event.kind)
    assert met == set(EVENT_KINDS)


def test_a_trail_changes_while_the_event_lasts() -> None:
    for clip in _clips(100):
        for event in clip.events:
            own = [other for other in clip.events if other.object_index == event.object_index]
            if own != [event] or event.kind in ("bounces", "shakes") or event.kind.startswith("turns"):
                continue
            words, frames = trail(clip, event), told_frames(clip)
            before = {word for word, frame in zip(words, frames, strict=True) if frame <= event.start_frame}
            after = {word for word, frame in zip(words, frames, strict=True) if frame >= event.end_frame}
            assert len(before) == 1
            assert len(after) <= 1
            assert not before & after


def test_what_comes_back_to_where_it_was_is_told_by_what_it_does() -> None:
    (clip, event), *_ = (
        (clip, event)
        for clip in _clips(200)
        for event in clip.events
        if event.kind == "bounces" and event.end_frame - event.start_frame > 8
    )
    words = trail(clip, event)
    assert set(words) == {STILL, "bounces"}
    assert words[0] == STILL


def test_times_are_those_of_the_events_whose_trails_precede_them() -> None:
    boxed = plain = 0
    for seed, clip in enumerate(_clips(40)):
        for row in video_times_rows("a.mp4", clip, render_clip_annotated(clip, 64), seeded(seed, "test")):
            boxed, plain = boxed + ("bbox_map" in row), plain + ("bbox_map" not in row)
            for ask, answer in turns_of(row["conversations"]):
                assert ("red rectangle" in ask) == ("bbox_map" in row)
                told, _, span = answer.rpartition(": ")
                total = 8 if "8 frame video" in ask else 32
                possible = {
                    (trail_words(clip, event), f"[{event.start_frame * total // 32}, {_end(event, total)}]")
                    for event in clip.events
                }
                assert (told, span) in possible
    assert boxed > 20
    assert plain > 20


def test_orders_follow_from_what_has_not_begun_yet() -> None:
    asked = 0
    for seed, clip in enumerate(_clips(150)):
        row = video_orders_row("a.mp4", clip, seeded(seed, "test"))
        by_sentence = {event_sentence(clip, event): event for event in clip.events}
        for ask, answer in turns_of(row["conversations"]) if row else []:
            steps, _, wanted = answer.rpartition(": ")
            told = [tuple(step.split(" from ")) for step in steps.split(", ")]
            assert len(told) == 2
            assert trail_words(clip, by_sentence[wanted]) in {words for words, _ in told}
            one, other = _asked(ask, by_sentence, wanted)
            first = min(by_sentence[one], by_sentence[other], key=lambda event: event.start_frame)
            assert (by_sentence[wanted] is first) == ("first" in ask)
            numbers = [int(number) for _, number in told]
            frames = told_frames(clip)
            for number, name in zip(numbers, (one, other), strict=True):
                assert frames[number] <= by_sentence[name].start_frame
                assert number == 7 or frames[number + 1] > by_sentence[name].start_frame
            asked += 1
    assert asked > 60


def test_what_cannot_be_told_apart_has_no_order() -> None:
    clip = next(clip for clip in _clips(50) if len(clip.events) == 1)
    assert video_orders_row("a.mp4", clip, seeded(0, "test")) is None


def test_words_of_a_clip_hold_what_its_steps_tell() -> None:
    read = 0
    for seed, clip in enumerate(_clips(60)):
        for row in steps_word_rows(clip, seeded(seed, "test")):
            ((_, text),) = turns_of(row["conversations"])
            frames, lines = text.splitlines()[:8], text.splitlines()[8:]
            for line in lines:
                (words,) = re.findall(r"\D (0 \w+ 7 \w+(?: \d \w+){6}):", line) or [None]
                told = words.split() if words else []
                for number, word in zip(told[::2], told[1::2], strict=True):
                    assert word in ("gone", STILL) or word in frames[int(number)]
                    read += 1
    assert read > 400


def _clips(count: int) -> list[Clip]:
    return [sample_clip(seed, num_frames=32) for seed in range(count)]


def _words_of(event: Event) -> tuple[str, ...]:
    if event.kind in ("moves up", "moves down"):
        return ROWS
    if event.kind in ("grows", "shrinks"):
        return tuple(SIZES)
    if event.kind == "changes colour":
        return tuple(COLOURS)
    if event.kind in ("bounces", "shakes") or event.kind.startswith("turns"):
        return (STILL, event.kind.split()[-1])
    return COLUMNS


def _end(event: Event, total: int) -> int:
    return min(event.end_frame * total // 32, total - 1)


def _asked(ask: str, by_sentence: dict[str, Event], wanted: str) -> tuple[str, str]:
    """The sentences of the two events in the order of their trails."""
    named = sorted((words for words in by_sentence if words in ask), key=ask.index)
    after = re.search("right after", ask) is not None
    return (named[0], wanted) if after else (named[0], named[1])
