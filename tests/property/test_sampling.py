"""Samplers: sorted, in range, the right count, on any input."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perceptic.errors import ConfigError
from perceptic.media import sampling

COUNTS = st.integers(1, 5_000)


def _assert_valid(indices: list[int], total_frames: int) -> None:
    assert indices == sorted(indices)
    assert indices[0] >= 0
    assert indices[-1] < total_frames


@given(COUNTS, st.integers(1, 300))
def test_uniform_and_spaced_give_exactly_the_count(total: int, count: int) -> None:
    for rule in (sampling.uniform_indices, sampling.spaced_indices):
        indices = rule(total, count)
        _assert_valid(indices, total)
        assert len(indices) == count
        if count <= total:
            assert len(set(indices)) == count
    if count > 1:
        assert sampling.uniform_indices(total, count)[-1] == total - 1


@given(
    total=COUNTS,
    frames_per_second=st.floats(0.01, 1000),
    max_frames=st.integers(1, 64),
    start=st.none() | st.floats(0, 1000),
    end=st.none() | st.floats(0, 1000),
    sampling_rate=st.floats(1, 60),
)
def test_plm_rule(
    total: int,
    frames_per_second: float,
    max_frames: int,
    start: float | None,
    end: float | None,
    sampling_rate: float,
) -> None:
    indices = sampling.plm_indices(
        total, frames_per_second, max_frames, start_seconds=start, end_seconds=end, sampling_rate=sampling_rate
    )
    _assert_valid(indices, total)
    assert 1 <= len(indices) <= max_frames
    assert len(set(indices)) == len(indices)
    if start is None and end is None:
        assert len(indices) == min(max_frames, total)


@st.composite
def _frame_times(draw: st.DrawFn) -> list[float]:
    gaps = draw(st.lists(st.floats(1 / 1000, 3.0), max_size=60))
    return list(itertools.accumulate(gaps, initial=draw(st.floats(0, 10))))


@given(_frame_times(), st.floats(0.01, 200), st.none() | st.floats(0, 50), st.none() | st.floats(0, 50))
def test_rate_rule(seconds: list[float], rate: float, start: float | None, end: float | None) -> None:
    try:
        chosen = sampling.frames_in_range(seconds, start, end)
    except ConfigError:
        with pytest.raises(ConfigError):
            sampling.rate_indices(seconds, rate, start_seconds=start, end_seconds=end)
        return
    indices = sampling.rate_indices(seconds, rate, start_seconds=start, end_seconds=end)
    _assert_valid(indices, len(seconds))
    assert len(set(indices)) == len(indices)
    assert len(indices) <= len(chosen) + 1
    # Each tick of the clock within the range has its frame, and no frame is there without a tick.
    origin = seconds[0] if start is None else max(seconds[0], start)
    stop = min(seconds[-1], end if end is not None else seconds[-1])
    ticks = [origin + k / rate for k in range(min(2_000, max(0, int((stop - origin) * rate))))]
    on_screen = {sum(s <= tick for s in seconds) - 1 for tick in ticks}
    safe = {i for i in on_screen if all(abs(tick - s) > 1e-4 for tick in ticks for s in seconds)}
    assert safe <= set(indices)
