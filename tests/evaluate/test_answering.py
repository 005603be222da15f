"""Answers are known again by everything that decides them, and by nothing else."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from perceptic.evaluate.answering import Question, answer_key
from perceptic.inference.sampling import GenerationOptions
from perceptic.media.boxes import Box
from perceptic.tasks.media_parts import MediaPart
from perceptic.tasks.messages import ChatMessage
from perceptic.tasks.seeing import Seeing

ASSISTANT = SimpleNamespace(fingerprint="1" * 32, dtype="torch.float32")


def key(part: MediaPart, text: str = "What?", assistant: Any = ASSISTANT) -> str:
    question = Question("any", (ChatMessage.user(part, text),))
    return answer_key(assistant, question, Seeing(), GenerationOptions())


def picture(shade: int) -> Image.Image:
    return Image.new("RGB", (4, 2), (shade, 0, 0))


def as_bytes(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize("make", [picture, lambda shade: as_bytes(picture(shade))], ids=["decoded", "bytes"])
def test_what_is_in_memory_is_known_by_its_content(make: Any) -> None:
    one, again, other = (MediaPart("image", make(shade), "name") for shade in (1, 1, 2))
    assert key(one) == key(again) == key(replace(one, name="another name"))
    assert key(one) != key(other)


def test_a_file_is_known_by_path_size_and_time(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(as_bytes(picture(1)))
    before = key(MediaPart("image", file, "a"))
    assert before == key(MediaPart("image", tmp_path / "." / "a.png", "a"))
    file.write_bytes(as_bytes(picture(1)) + b"more")
    assert before != key(MediaPart("image", file, "a"))


def test_everything_else_that_decides_an_answer_counts() -> None:
    part = MediaPart("image", picture(1), "name")
    others = {
        key(part),
        key(part, "Where?"),
        key(replace(part, boxes=Box(0, 0, 1, 1))),
        key(replace(part, max_num_tiles=4)),
        key(part, assistant=SimpleNamespace(fingerprint="2" * 32, dtype="torch.float32")),
        key(part, assistant=SimpleNamespace(fingerprint="1" * 32, dtype="torch.bfloat16")),
    }
    assert len(others) == 6
