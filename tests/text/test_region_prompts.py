"""The words that released models know, letter by letter (perception-language-model section 6.3)."""

from __future__ import annotations

from perceptic.text.region_prompts import events_prompt, rcap_prompts, rdcap_prompts, rtloc_prompts, when_prompt


def test_what_happens_within_frames() -> None:
    assert rcap_prompts(77)[0].format(start=3, end=9) == (
        "Give a detailed description of the events occurring in the region marked by the red rectangle within frames "
        "[3, 9] in this 77 frame video."
    )


def test_when_something_happens() -> None:
    tail = (
        " provide the start and end frame of when 'it {jumps}' happens. Use the format [start, end] where start and "
        "end are frame numbers between 0 and 31 in this 32 frame video."
    )
    boxed = "Given the region marked by the red rectangle in the video, please"
    assert rtloc_prompts()[0].format(caption="it {jumps}") == boxed + tail
    assert when_prompt(is_boxed=False).format(caption="it {jumps}") == "Please" + tail


def test_all_that_happens() -> None:
    text = (
        "Create a dense caption of the subject's actions {where}, including action frames ids and brief descriptions. "
        "For each item use the format [start, end]: [description] separated by a newline, where start and end are "
        "frame numbers between 0 and 7 in this 8 frame video."
    )
    assert rdcap_prompts(8)[0] == text.format(where="within the red rectangles")
    assert events_prompt(8, is_boxed=False) == text.format(where="in the video")
