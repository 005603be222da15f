"""Which frames of a video to look at: pure index rules, no files.

Every rule returns a list of indices into the frames in presentation order, sorted, each in [0, total_frames - 1].
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence

from perceptic.errors import ConfigError


def uniform_indices(total_frames: int, num_frames: int) -> list[int]:
    """First frame, last frame and evenly between: int(i * (T - 1) / (n - 1)); n = 1 takes the middle, T // 2.

    The rule of the zero-shot evaluations (perception-encoder spec 6.2). Always exactly `num_frames` indices; a video
    with fewer frames repeats some.
    """
    _require_counts(total_frames, num_frames)
    if num_frames == 1:
        return [total_frames // 2]
    return [int(i * (total_frames - 1) / (num_frames - 1)) for i in range(num_frames)]


def rounded_indices(total_frames: int, num_frames: int) -> list[int]:
    """round(i * (T - 1) / (n - 1)), half to even; n = 1 takes the first (datasets-and-benchmarks 1.6).

    The rule of the language model's data and of PLM-VideoBench. Always exactly `num_frames` indices.
    """
    _require_counts(total_frames, num_frames)
    step = (total_frames - 1) / (num_frames - 1) if num_frames > 1 else 0.0
    return [round(i * step) for i in range(num_frames)]


def spaced_indices(total_frames: int, num_frames: int) -> list[int]:
    """int(i * T / n): evenly from the first frame, the last one not included (the original's demo; spec 6.2)."""
    _require_counts(total_frames, num_frames)
    return [int(i * total_frames / num_frames) for i in range(num_frames)]


def plm_indices(
    total_frames: int,
    frames_per_second: float,
    max_frames: int,
    *,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    sampling_rate: float = 1.0,
) -> list[int]:
    """The language model's rule (perception-language-model spec 5.1): a grid of `sampling_rate` frames per second.

    More grid points than `max_frames` are thinned evenly; with fewer, the grid is dropped and `max_frames` (or every
    frame, if the clip has fewer) are spread over the clip. Rounding is half to even.

    Where the original fails or asks for frames that do not exist (start past the end, a single frame, a frame rate
    of at most half the sampling rate) the bounds are clamped to [0, total_frames - 1] and the stride to at least 1; on
    all other inputs the indices are the original's.
    """
    _require_counts(total_frames, max_frames)
    if not (math.isfinite(frames_per_second) and frames_per_second > 0):
        raise ConfigError(f"frames_per_second must be positive, not {frames_per_second}")
    if not (math.isfinite(sampling_rate) and sampling_rate >= 1):
        raise ConfigError(f"sampling_rate must be at least 1 frame per second, not {sampling_rate}")
    first, last = _clip_bounds(total_frames, frames_per_second, start_seconds, end_seconds)
    stride = max(1, round(frames_per_second / int(sampling_rate)))
    grid = range(first, last + 1, stride)
    if len(grid) > max_frames:
        return [grid[i] for i in rounded_indices(len(grid), max_frames)]
    if len(grid) < max_frames:
        available = last - first + 1
        return [first + i for i in rounded_indices(available, min(max_frames, available))]
    return list(grid)


def frames_in_range(seconds: Sequence[float], start_seconds: float | None, end_seconds: float | None) -> range:
    """Indices of the frames that start in [start_seconds, end_seconds).

    A range that falls between two frames gives the frame on screen at `start_seconds`.

    Args:
        seconds: start of every frame, ascending, not empty.

    Raises:
        ConfigError: the range is empty or negative, or starts after the last frame.
    """
    if not seconds:
        raise ConfigError("there are no frames to choose from")
    start = -math.inf if start_seconds is None else float(start_seconds)
    end = math.inf if end_seconds is None else float(end_seconds)
    if math.isnan(start) or math.isnan(end) or end <= start:
        raise ConfigError(f"the time range {start_seconds} to {end_seconds} s is empty")
    if end <= seconds[0]:
        raise ConfigError(f"the time range ends at {end:g} s, before the first frame at {seconds[0]:g} s")
    first = bisect.bisect_left(seconds, start)
    after = bisect.bisect_left(seconds, end)
    if first < after:
        return range(first, after)
    if start > seconds[-1] + _typical_interval(seconds):
        raise ConfigError(f"start_seconds={start:g} is past the last frame at {seconds[-1]:g} s")
    return range(first - 1, first)


def rate_indices(
    seconds: Sequence[float],
    frames_per_second: float,
    *,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
) -> list[int]:
    """The frame on screen at each tick of a clock that runs from `start_seconds` at `frames_per_second`.

    Works on variable frame rates, since it goes by time. A frame is never repeated, so a clock faster than the video
    gives every frame once.

    Args:
        seconds: start of every frame, ascending.

    Raises:
        ConfigError: a rate that is not positive, or a time range with no frames.
    """
    if not (math.isfinite(frames_per_second) and frames_per_second > 0):
        raise ConfigError(f"frames_per_second must be positive, not {frames_per_second}")
    chosen = frames_in_range(seconds, start_seconds, end_seconds)
    origin = max(seconds[0], start_seconds) if start_seconds is not None else seconds[0]
    # Walk over frames, not ticks: a damaged file may claim a frame a year after the last one.
    indices = [max(bisect.bisect_right(seconds, origin) - 1, 0)]
    for index in range(max(chosen.start, indices[0] + 1), chosen.stop):
        is_last = index + 1 == len(seconds)
        shown_until = seconds[index] + _typical_interval(seconds) if is_last else seconds[index + 1]
        if _ticks_before(seconds[index], origin, frames_per_second) < _ticks_before(
            min(shown_until, math.inf if end_seconds is None else end_seconds), origin, frames_per_second
        ):
            indices.append(index)
    return indices


def _ticks_before(time: float, origin: float, frames_per_second: float) -> int:
    """How many ticks lie in [origin, time). Rounded first: 0.1 * 30 must not become the tick after 3."""
    return math.ceil(round((time - origin) * frames_per_second, 6))


def _typical_interval(seconds: Sequence[float]) -> float:
    return (seconds[-1] - seconds[0]) / (len(seconds) - 1) if len(seconds) > 1 else 0.0


def _clip_bounds(total: int, frames_per_second: float, start: float | None, end: float | None) -> tuple[int, int]:
    last_frame = total - 1
    first = 0 if start is None else int(start * frames_per_second)
    last = last_frame if end is None else min(int(end * frames_per_second), last_frame)
    first, last = min(first, last), max(first, last)
    if first == last:
        last = first + 1
    return max(0, min(first, last_frame)), max(0, min(last, last_frame))


def _require_counts(total_frames: int, num_frames: int) -> None:
    if total_frames < 1:
        raise ConfigError(f"total_frames must be at least 1, not {total_frames}")
    if num_frames < 1:
        raise ConfigError(f"the number of frames must be at least 1, not {num_frames}")
