"""How regions are asked about (perception-language-model sections 6 and 8.3).

A subject of a video is marked by a red box; time is counted in the frames that are shown, 32 in the released data. The
first of several prompts is the benchmark's. `{start}`, `{end}` and `{caption}` are left to fill in.
"""

from __future__ import annotations

from typing import Final

REGION_PROMPT: Final = (
    "Please describe the region (<|bbox0|>) in details.\nThe region is in the format of [x1, y1, x2, y2]."
)
"""What a region of a picture shows, whose corners stand in the prompt."""
DRAWN_REGION_PROMPT: Final = "Please describe the region inside the rec rectangle."
"""The same of a region that is drawn on the picture; "rec" is the release's."""
GROUNDING_PROMPT: Final = (
    "Provide a bounding box of the region this sentence describes: '{caption}'.\nUse the format [x1, y1, x2, y2]."
)
"""Where in a picture something is."""


def rcap_prompts(num_frames: int = 32) -> tuple[str, ...]:
    """What happens to it within given frames."""
    tail = f"[{{start}}, {{end}}] in this {num_frames} frame video"
    return (
        "Give a detailed description of the events occurring in the region marked by the red rectangle within frames "
        f"{tail}.",
        f"What is happening to the subject in the region highlighted by the red rectangle during frames {tail}?",
    )


def rtloc_prompts(num_frames: int = 32) -> tuple[str, ...]:
    """When something happens to it."""
    form = interval_format(num_frames)
    return (
        when_prompt(num_frames),
        "Please provide the start and end frame of when '{caption}' happens corresponding to the region marked by the "
        f"red rectangle. {form}",
    )


def rdcap_prompts(num_frames: int = 32) -> tuple[str, ...]:
    """All that it does, and when."""
    form = list_format(num_frames)
    return (
        events_prompt(num_frames),
        "Describe the subject's actions within the red rectangles, providing start and end frames ids and a brief "
        f"description for each action in a dense caption format. {form}",
    )


def when_prompt(num_frames: int = 32, *, is_boxed: bool = True) -> str:
    """When something happens, to the marked subject or anywhere in the video."""
    opening = "Given the region marked by the red rectangle in the video, please" if is_boxed else "Please"
    return f"{opening} provide the start and end frame of when '{{caption}}' happens. {interval_format(num_frames)}"


def events_prompt(num_frames: int = 32, *, is_boxed: bool = True) -> str:
    """All that happens and when, with the marked subject or anywhere in the video."""
    where = "within the red rectangles" if is_boxed else "in the video"
    return (
        f"Create a dense caption of the subject's actions {where}, including action frames ids and brief descriptions. "
        f"{list_format(num_frames)}"
    )


def interval_format(num_frames: int = 32) -> str:
    """How an answer with one stretch of time is to be written."""
    return f"Use the format [start, end] {_tail(num_frames)}"


def list_format(num_frames: int = 32) -> str:
    """How an answer with several is."""
    return f"For each item use the format [start, end]: [description] separated by a newline, {_tail(num_frames)}"


def _tail(num_frames: int) -> str:
    return f"where start and end are frame numbers between 0 and {num_frames - 1} in this {num_frames} frame video."
