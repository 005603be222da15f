"""How a subject marked by a red box in a video is asked about (perception-language-model sections 6 and 8.3).

`{start}`, `{end}` and `{caption}` are left to fill in. Questions count time in the frames that are shown, 32 in the
released data.
"""

from __future__ import annotations


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
        "Given the region marked by the red rectangle in the video, please provide the start and end frame of when "
        f"'{{caption}}' happens. {form}",
        "Please provide the start and end frame of when '{caption}' happens corresponding to the region marked by the "
        f"red rectangle. {form}",
    )


def rdcap_prompts(num_frames: int = 32) -> tuple[str, ...]:
    """All that it does, and when."""
    form = list_format(num_frames)
    return (
        "Create a dense caption of the subject's actions within the red rectangles, including action frames ids and "
        f"brief descriptions. {form}",
        "Describe the subject's actions within the red rectangles, providing start and end frames ids and a brief "
        f"description for each action in a dense caption format. {form}",
    )


def interval_format(num_frames: int = 32) -> str:
    """How an answer with one stretch of time is to be written."""
    return f"Use the format [start, end] {_tail(num_frames)}"


def list_format(num_frames: int = 32) -> str:
    """How an answer with several is."""
    return f"For each item use the format [start, end]: [description] separated by a newline, {_tail(num_frames)}"


def _tail(num_frames: int) -> str:
    return f"where start and end are frame numbers between 0 and {num_frames - 1} in this {num_frames} frame video."
