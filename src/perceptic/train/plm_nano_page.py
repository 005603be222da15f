"""The exam's mistakes as a page: what was seen, asked, answered and wanted. Pictures are inside the page."""

from __future__ import annotations

import html
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence

from torch import Tensor

from perceptic.data.check_page import page, section, table
from perceptic.data.check_table import TextTable
from perceptic.media.images import load_image
from perceptic.media.preprocess import tensor_to_image
from perceptic.media.regions import draw_boxes
from perceptic.media.video import read_video
from perceptic.tasks.media_parts import MediaPart
from perceptic.tasks.world_exam import ExamAnswer
from perceptic.train.plm_nano_report import PlmReport

_RIGHT = 0.5
"""Answers that score less are mistakes; most kinds know 0 and 1 only."""


def mistakes_page(name: str, report: PlmReport, *, per_section: int = 6, num_frames: int = 8) -> str:
    """The page as HTML.

    Args:
        name: of the model. per_section: mistakes shown of each kind. num_frames: shown of a clip.
    """
    rows = [
        (
            measure.name,
            f"{measure.value:.1f}",
            f"{measure.chance:.1f}",
            "" if measure.aim is None else f"{measure.aim:.0f}",
        )
        for measure in report.measures
    ]
    figures = table(TextTable(("percent", name, "guessing", "aim"), tuple(rows)))
    mistakes = "".join(_mistakes(report, per_section, num_frames))
    return page(f"What {name} gets wrong", f"{figures}{mistakes or '<p>Nothing.</p>'}")


def _mistakes(report: PlmReport, per_section: int, num_frames: int) -> Iterator[str]:
    for scores, title in ((report.seen, "seen pairs"), (report.unseen, "unseen pairs")):
        for score in scores:
            wrong = [answer for answer in score.answers if answer.score < _RIGHT]
            for answer in wrong[:per_section]:
                facts = (title, f"{len(wrong)} of {len(score.answers)} wrong")
                pictures = list(_pictures(answer.item.part, num_frames))
                yield section(f"{score.section}: {answer.item.part.name}", facts, pictures, _said(answer))


def _said(answer: ExamAnswer) -> str:
    asked, given, wanted = (html.escape(text) for text in (answer.item.question, answer.given, answer.item.wanted))
    return f"{asked}\n\nanswered  {given}\nwanted    <mark>{wanted}</mark>"


def _pictures(part: MediaPart, num_frames: int) -> Iterator[bytes]:
    assert isinstance(part.source, bytes), "the exam draws its own pictures and clips"
    if part.kind == "image":
        stream = io.BytesIO()
        load_image(part.source).save(stream, "PNG")
        yield stream.getvalue()
        return
    frames = read_video(part.source, num_frames=num_frames)
    yield from _encoded(_boxed(frames.pixels, frames.indices.tolist(), part))


def _boxed(pixels: Tensor, indices: Sequence[int], part: MediaPart) -> Tensor:
    return draw_boxes(pixels, indices, part.boxes) if isinstance(part.boxes, Mapping) else pixels


def _encoded(frames: Iterable[Tensor]) -> Iterator[bytes]:
    for frame in frames:
        stream = io.BytesIO()
        tensor_to_image(frame).save(stream, "PNG")
        yield stream.getvalue()
