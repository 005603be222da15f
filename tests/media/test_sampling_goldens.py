"""The language model's frame sampling against the original's indices, and hand-computed cases of the other rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from perceptic.errors import ConfigError
from perceptic.media import sampling

CASES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "goldens/preprocess/video_sampling.json").read_text()
)


@pytest.mark.parametrize("case", CASES, ids=[str(number) for number in range(len(CASES))])
def test_plm_indices(case: dict[str, Any]) -> None:
    indices = sampling.plm_indices(
        case["num_frames"],
        case["fps"],
        case["max_frames"],
        start_seconds=case["start_time"],
        end_seconds=case["end_time"],
        sampling_rate=case["sampling_fps"],
    )
    if "error" in case or case.get("out_of_range"):
        assert indices
        assert max(indices) < case["num_frames"]
    else:
        assert indices == case["indices"]


def test_uniform_and_spaced_rules() -> None:
    assert sampling.uniform_indices(100, 8) == [0, 14, 28, 42, 56, 70, 84, 99]
    assert sampling.uniform_indices(7, 1) == [3]
    assert sampling.uniform_indices(1, 3) == [0, 0, 0]


def test_rounded_indices_are_those_of_plm_videobench() -> None:
    # datasets-and-benchmarks section 2.2
    listed = "0 4 8 12 15 19 23 27 31 35 39 43 46 50 54 58 62 66 70 74 77 81 85 89 93 97 101 105 108 112 116 120"
    assert sampling.rounded_indices(121, 32) == [int(number) for number in listed.split()]
    assert sampling.rounded_indices(32, 32) == list(range(32))
    assert sampling.rounded_indices(7, 1) == [0]
    # The frame indices of the original's encoder example on videos of 150 and 337 frames.
    assert sampling.spaced_indices(150, 8) == [0, 18, 37, 56, 75, 93, 112, 131]
    assert sampling.spaced_indices(337, 4) == [0, 84, 168, 252]


def test_rate_goes_by_time_on_a_variable_frame_rate() -> None:
    seconds = [0.0, 0.1, 0.2, 2.5, 2.6, 4.0]
    assert sampling.rate_indices(seconds, 1.0) == [0, 2, 4, 5]
    assert sampling.rate_indices(seconds, 0.5) == [0, 2, 5]
    assert sampling.rate_indices(seconds, 1000.0) == [0, 1, 2, 3, 4, 5]


def test_rate_in_a_time_range_starts_with_the_frame_on_screen() -> None:
    seconds = [index / 10 for index in range(100)]
    assert sampling.rate_indices(seconds, 2.0, start_seconds=3.05, end_seconds=5.0) == [30, 35, 40, 45]
    assert sampling.rate_indices(seconds, 30.0, start_seconds=1.0, end_seconds=1.3) == [10, 11, 12]


def test_frames_in_range() -> None:
    seconds = [0.0, 1.0, 2.0, 3.0]
    assert sampling.frames_in_range(seconds, None, None) == range(4)
    assert sampling.frames_in_range(seconds, 1.0, 3.0) == range(1, 3)
    assert sampling.frames_in_range(seconds, 1.2, 1.8) == range(1, 2)
    assert sampling.frames_in_range(seconds, 3.5, None) == range(3, 4)
    for start, end, message in [(5.0, None, "past the last"), (2.0, 2.0, "is empty"), (None, -1.0, "before the first")]:
        with pytest.raises(ConfigError, match=message):
            sampling.frames_in_range(seconds, start, end)


@pytest.mark.parametrize(("total", "count"), [(0, 1), (1, 0), (-1, 5)])
def test_impossible_counts_are_refused(total: int, count: int) -> None:
    for rule in (sampling.uniform_indices, sampling.spaced_indices):
        with pytest.raises(ConfigError):
            rule(total, count)
    with pytest.raises(ConfigError):
        sampling.plm_indices(total, 30.0, count)
