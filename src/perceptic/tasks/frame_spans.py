"""Reading times out of answers: `[start, end]` in numbers of the frames that the model saw (spec section 6.3).

A model may answer anything. What cannot be read is a value that says so, never an error.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_NUMBER = r"(\d{1,9}(?:\.\d{1,9})?)"
_SPAN = re.compile(rf"\[\s*{_NUMBER}\s*,\s*{_NUMBER}\s*\]")


@dataclass(frozen=True)
class FrameSpan:
    """From one frame seen to another, numbered from 0; decimals lie between two frames."""

    start: float
    end: float

    def problem(self, num_frames: int) -> str | None:
        """Why this cannot be a part of a video of that many frames; None if it can."""
        if self.end > num_frames - 1:
            return f"frame {max(self.start, self.end):g} is not among the {num_frames} seen, numbered from 0"
        if self.start > self.end:
            return f"it starts at frame {self.start:g}, after its end at frame {self.end:g}"
        return None


@dataclass(frozen=True)
class SpanText:
    """A span of an answer and the text after it, up to the next span."""

    span: FrameSpan
    text: str


def first_span(answer: str) -> FrameSpan | None:
    """The first `[start, end]` of an answer; None if it has none."""
    match = _SPAN.search(answer)
    return None if match is None else _span(match)


def spans_with_text(answer: str) -> list[SpanText]:
    """All `[start, end]: description` items of an answer, in its order."""
    matches = list(_SPAN.finditer(answer))
    bounds = [*(match.start() for match in matches), len(answer)]
    return [
        SpanText(_span(match), _description(answer[match.end() : end]))
        for match, end in zip(matches, bounds[1:], strict=True)
    ]


def seconds_at(frame: float, frame_seconds: Sequence[float]) -> float:
    """When a frame seen appears; between two frames, the time between theirs."""
    before = int(frame)
    if before >= len(frame_seconds) - 1:
        return frame_seconds[-1]
    step = frame_seconds[before + 1] - frame_seconds[before]
    return frame_seconds[before] + (frame - before) * step


def _span(match: re.Match[str]) -> FrameSpan:
    return FrameSpan(float(match.group(1)), float(match.group(2)))


def _description(text: str) -> str:
    """Without the colon before it, line breaks, and the brackets that the prompt's format seems to ask for."""
    plain = " ".join(text.strip().lstrip(":-").split())
    is_bracketed = plain.startswith("[") and plain.endswith("]") and plain.count("[") == plain.count("]") == 1
    return plain[1:-1].strip() if is_bracketed else plain
