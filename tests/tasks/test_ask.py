"""Questions about files, and times and boxes out of answers. Weights are random, so answers are put in its mouth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import perceptic
from perceptic.errors import ConfigError, MediaError, TextError
from perceptic.inference.sampling import GenerationOptions
from perceptic.media.boxes import Box
from perceptic.tasks.answers import Answer
from perceptic.tasks.ask import ask, question_messages
from perceptic.tasks.assistant import Assistant
from perceptic.tasks.caption import caption
from perceptic.tasks.describe import DescribedEvent, dense_describe, describe
from perceptic.tasks.frame_spans import FrameSpan, SpanText, first_span, seconds_at, spans_with_text
from perceptic.tasks.locate import Located, locate, locate_region
from perceptic.tasks.messages import ChatMessage
from perceptic.tasks.seeing import Seeing
from perceptic.text.templates import SYSTEM_PROMPT

SHORT = GenerationOptions(max_new_tokens=4)


class Said:
    """An assistant that answers what a test wants, to prompts that it keeps."""

    def __init__(self, assistant: Assistant, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answer = ""
        self.prompts: list[str] = []
        real = assistant.generate

        def generate(messages: Any, **arguments: Any) -> Answer:
            answer = real(messages, **{**arguments, "options": SHORT})
            self.prompts.append("".join(part for part in messages[-1].parts if isinstance(part, str)))
            return replace(answer, text=self.answer)

        monkeypatch.setattr(assistant, "generate", generate)


@pytest.fixture
def said(assistant: Assistant, monkeypatch: pytest.MonkeyPatch) -> Said:
    return Said(assistant, monkeypatch)


@pytest.fixture
def cat(goldens: Path) -> Path:
    return goldens / "media" / "cat.png"


@pytest.fixture
def dog(goldens: Path) -> Path:
    return goldens / "media" / "dog.mp4"


def test_ask_a_model_by_its_folder(plm_folder: Path, assistant: Assistant, cat: Path, dog: Path) -> None:
    answer = perceptic.ask(cat, "What?", model=plm_folder, dtype="float32", options=SHORT)
    assert answer.token_ids == ask(str(cat), "What?", model=assistant, options=SHORT).token_ids
    assert answer.token_ids == ask([cat], "What?", model=assistant, options=SHORT).token_ids
    assert answer.token_ids == ask(cat.read_bytes(), "What?", model=assistant, options=SHORT).token_ids
    assert answer.token_ids == ask(Image.open(cat), "What?", model=assistant, options=SHORT).token_ids
    video = ask(dog, "What?", model=assistant, options=SHORT)
    assert video.media[0].frame_seconds == (0.0, 1.0, 3.0, 4.0)
    both = ask([dog, cat], "What?", model=assistant, seeing=Seeing(num_frames=1), options=SHORT)
    assert [(seen.kind, seen.num_chunks) for seen in both.media] == [("video", 1), ("image", 1)]
    assert ask([], "Hello", model=assistant, options=SHORT).media == ()


def test_what_ask_sends() -> None:
    assert question_messages([], "Hi") == (ChatMessage.user("Hi"),)
    assert question_messages([], "Hi", system="Be brief.")[0] == ChatMessage.system("Be brief.")
    with pytest.raises(ConfigError, match="allow_network"):
        question_messages("https://example.org/a.png", "Hi")


def test_what_ask_refuses(assistant: Assistant, cat: Path, dog: Path, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"nope.png: no such file"):
        ask("nope.png", "What?", model=assistant)
    with pytest.raises(MediaError):
        ask(tmp_path, "What?", model=assistant)
    with pytest.raises(TextError, match="empty"):
        ask([], "", model=assistant)
    with pytest.raises(ConfigError, match="box needs exactly one picture or video to lie on, not 2"):
        ask([cat, dog], "What?", model=assistant, box=[1, 1, 5, 5])
    with pytest.raises(ConfigError, match="regions needs exactly one"):
        ask([], "<|bbox0|>", model=assistant, regions=[[1, 1, 5, 5]])
    with pytest.raises(ConfigError, match="boxes"):
        ask(cat, "In <|bbox1|>?", model=assistant, regions=[[1, 1, 5, 5]])


def test_regions_become_text(said: Said, assistant: Assistant, cat: Path) -> None:
    ask(
        cat, "What is in <|bbox1|> and <|bbox0|>?", model=assistant, regions=[[0, 0, 500, 666], Box(50, 66.7, 100, 333)]
    )
    ask(cat, "What is in <|bbox0|>?", model=assistant)
    assert said.prompts == ["What is in [100,100,200,500] and [000,000,999,999]?", "What is in <|bbox0|>?"]


def test_a_system_prompt_replaces_the_default(assistant: Assistant, cat: Path) -> None:
    default = ask(cat, "What?", model=assistant, options=SHORT)
    same = ask(cat, "What?", model=assistant, options=SHORT, system=SYSTEM_PROMPT)
    other = ask(cat, "What?", model=assistant, options=SHORT, system="Be brief.")
    assert default.token_ids == same.token_ids
    assert other.num_prompt_tokens < default.num_prompt_tokens


def test_describe_uses_the_prompts_that_models_know(said: Said, assistant: Assistant, cat: Path, dog: Path) -> None:
    describe(cat, model=assistant)
    describe(dog, model=assistant)
    describe(cat, [50, 66.7, 100, 333], model=assistant)
    describe(cat, Box(50, 66.7, 100, 333), drawn=True, model=assistant)
    tube = describe(dog, {0: [10, 10, 50, 50]}, model=assistant)
    assert said.prompts == [
        "Describe the image in details.",
        "What is happening in the video?",
        "Please describe the region ([100,100,200,500]) in details.\nThe region is in the format of [x1, y1, x2, y2].",
        "Please describe the region inside the rec rectangle.",
        "Give a detailed description of the events occurring in the region marked by the red rectangle within frames "
        "[0, 3] in this 150 frame video.",
    ]
    assert tube.media[0].frame_indices == (0, 50, 99, 149)
    with pytest.raises(ConfigError, match="a picture has no frames"):
        describe(cat, {0: [1, 1, 5, 5]}, model=assistant)


def test_caption_takes_another_prompt(said: Said, assistant: Assistant, cat: Path, dog: Path) -> None:
    caption(cat, model=assistant)
    caption(dog, model=assistant)
    caption(cat, prompt="Name the animal.", model=assistant)
    assert said.prompts == ["Describe the image in details.", "What is happening in the video?", "Name the animal."]


def test_locate(said: Said, assistant: Assistant, dog: Path) -> None:
    said.answer = "It happens in [1, 2]."
    found = locate(dog, "the dog's {nose} moves", [10, 10, 90, 90], model=assistant)
    assert said.prompts == [
        "Given the region marked by the red rectangle in the video, please provide the start and end frame of when "
        "'the dog's {nose} moves' happens. Use the format [start, end] where start and end are frame numbers between "
        "0 and 3 in this 4 frame video."
    ]
    assert found.frame_seconds == pytest.approx((0, 50 / 30, 99 / 30, 149 / 30))
    assert (found.start_seconds, found.end_seconds) == found.frame_seconds[1:3]
    assert (found.start_frame, found.end_frame, found.problem) == (1, 2, None)
    assert found.text == said.answer

    said.answer = "[0.5, 3]"
    between = locate(dog, "it", model=assistant, seeing=Seeing(start_seconds=1, sampling="uniform"))
    assert said.prompts[-1].startswith("Please provide the start and end frame of when 'it' happens. Use the format")
    assert between.start_seconds == pytest.approx(sum(between.frame_seconds[:2]) / 2)
    assert between.end_seconds == between.frame_seconds[3]
    assert between.frame_seconds[0] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("", "no [start, end]"),
        ("From 1 to 2", "no [start, end]"),
        ("[1, two]", "no [start, end]"),
        ("[1, 2, 3]", "no [start, end]"),
        ("[-1, 2]", "no [start, end]"),
        ("[1e9, 2]", "no [start, end]"),
        ("[1, 99999999999999999999]", "no [start, end]"),
        ("[2, 4]", "frame 4 is not among the 4 seen"),
        ("[9, 2]", "frame 9"),
        ("[3, 1]", "starts at frame 3, after its end at frame 1"),
    ],
)
def test_what_cannot_be_located_is_a_value(
    said: Said, assistant: Assistant, dog: Path, answer: str, problem: str
) -> None:
    said.answer = answer
    found = locate(dog, "it", model=assistant)
    assert isinstance(found, Located)
    assert (found.start_seconds, found.end_seconds, found.start_frame, found.end_frame) == (None, None, None, None)
    assert found.text == answer
    assert found.problem is not None
    assert problem in found.problem
    assert len(found.frame_seconds) == 4


def test_only_videos_have_times(assistant: Assistant, cat: Path, dog: Path) -> None:
    with pytest.raises(ConfigError, match=r"cat.png: is a picture; this asks about the frames of a video"):
        locate(cat, "it", model=assistant)
    with pytest.raises(ConfigError, match=r"cat.png: is a picture"):
        dense_describe(cat, model=assistant)
    with pytest.raises(ConfigError, match=r"dog.mp4: is a video; boxes are found in pictures"):
        locate_region(dog, "it", model=assistant)


def test_locate_a_region(said: Said, assistant: Assistant, cat: Path) -> None:
    said.answer = "[100,100,200,500]"
    found = locate_region(cat, "the ear", model=assistant)
    assert said.prompts == [
        "Provide a bounding box of the region this sentence describes: 'the ear'.\nUse the format [x1, y1, x2, y2]."
    ]
    assert found.box is not None
    assert (found.box.left, found.box.bottom) == pytest.approx((50, 333))
    assert found.problem is None
    for answer, problem in (
        ("An ear.", "no [x1, y1, x2, y2]"),
        ("[500,100,200,500]", "corners of the box are swapped"),
    ):
        said.answer = answer
        failed = locate_region(cat, "the ear", model=assistant)
        assert (failed.box, failed.text) == (None, answer)
        assert problem in (failed.problem or "")


def test_dense_descriptions(said: Said, assistant: Assistant, dog: Path) -> None:
    said.answer = "[0, 1]: A dog runs.\n[1, 3]: [It jumps\nand lands]\n[2, 9]: It flies.\n[3, 2]: Back. [1, 1]:"
    found = dense_describe(dog, [10, 10, 90, 90], model=assistant)
    assert said.prompts[-1] == (
        "Create a dense caption of the subject's actions within the red rectangles, including action frames ids and "
        "brief descriptions. For each item use the format [start, end]: [description] separated by a newline, where "
        "start and end are frame numbers between 0 and 3 in this 4 frame video."
    )
    times = found.media[0].frame_seconds
    assert found.events == (
        DescribedEvent(times[0], times[1], 0, 1, "A dog runs."),
        DescribedEvent(times[1], times[3], 1, 3, "It jumps and lands"),
    )
    assert found.text == said.answer
    assert found.problem == (
        "[2, 9]: frame 9 is not among the 4 seen, numbered from 0; [3, 2]: it starts at frame 3, after its end at "
        "frame 2; [1, 1]: it has no description"
    )
    said.answer = "A dog runs and jumps."
    nothing = dense_describe(dog, model=assistant)
    assert "the subject's actions in the video, including" in said.prompts[-1]
    assert (nothing.events, nothing.text) == ((), said.answer)
    assert nothing.problem == "the answer has no '[start, end]: description'"


def test_spans() -> None:
    assert first_span("a [ 1 ,2.5 ] b [3, 4]") == FrameSpan(1, 2.5)
    assert spans_with_text("x [0, 1] - a: b [2, 3]:c") == [
        SpanText(FrameSpan(0, 1), "a: b"),
        SpanText(FrameSpan(2, 3), "c"),
    ]
    assert spans_with_text("nothing") == []
    assert seconds_at(1.5, [0.0, 1.0, 3.0]) == 2.0
    assert seconds_at(2, [0.0, 1.0, 3.0]) == 3.0
    assert seconds_at(0, [7.0]) == 7.0


@settings(deadline=None)
@given(answer=st.text(alphabet="[]0123456789,.: ab\n", max_size=40), num_frames=st.integers(1, 40))
def test_any_answer_can_be_read(answer: str, num_frames: int) -> None:
    seconds = [0.5 * index for index in range(num_frames)]
    spans = [item.span for item in spans_with_text(answer)]
    assert first_span(answer) == (spans[0] if spans else None)
    for span in spans:
        if span.problem(num_frames) is None:
            assert 0 <= seconds_at(span.start, seconds) <= seconds_at(span.end, seconds) <= seconds[-1]
