"""A language model's answers to many questions: in batches, each kept as it comes, so that a run can be killed.

An answer is kept by everything that decides it: weights, the type they are computed in, words, media, frames, boxes,
options. A second run asks only what is not there; two benchmarks that ask the same share the answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from perceptic.errors import DataError, MediaError
from perceptic.evaluate.reply_store import ReplyStore, content_key
from perceptic.inference.sampling import GenerationOptions
from perceptic.media.boxes import Box
from perceptic.tasks.answers import PreparedPrompt
from perceptic.tasks.assistant import Assistant
from perceptic.tasks.media_parts import MediaPart
from perceptic.tasks.messages import ChatMessage
from perceptic.tasks.seeing import Seeing


@dataclass(frozen=True, eq=False)
class Question:
    """One conversation under an id of its benchmark."""

    id: str
    messages: tuple[ChatMessage, ...]


@dataclass(frozen=True)
class Answered:
    """Texts by the id of their question, and why others have none."""

    texts: dict[str, str]
    failures: dict[str, str]


def answer_all(
    assistant: Assistant,
    questions: Sequence[Question],
    *,
    seeing: Seeing,
    options: GenerationOptions,
    store: ReplyStore,
    batch_size: int = 8,
    check: Callable[[Question, PreparedPrompt], None] = lambda question, prompt: None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Answered:
    """Ask everything that the store does not know.

    Args:
        seeing, options: of all questions.
        batch_size: answered together; more is faster until memory ends.
        check: raises DataError for a question whose media are not as they must be.
        on_progress: called with how many are done, of how many.

    Raises:
        ConfigError: a prompt that does not fit, more frames than the model was trained with.
        OutputError: an answer cannot be kept.
    """
    keys = {one.id: answer_key(assistant, one, seeing, options) for one in questions}
    failures: dict[str, str] = {}
    waiting: list[tuple[Question, PreparedPrompt]] = []

    def flush() -> None:
        answers = assistant.generate_many([prompt for _, prompt in waiting], options=options, batch_size=batch_size)
        for (question, _), answer in zip(waiting, answers, strict=True):
            store.put(keys[question.id], answer.text, id=question.id)
        waiting.clear()

    for done, question in enumerate(questions, start=1):
        if store.get(keys[question.id]) is None:
            try:
                prompt = assistant.prepare(question.messages, seeing)
                check(question, prompt)
                waiting.append((question, prompt))
            except (MediaError, DataError) as error:
                failures[question.id] = str(error)
        if len(waiting) == batch_size:
            flush()
        if done % batch_size == 0 or done == len(questions):
            on_progress(done - len(waiting), len(questions))
    if waiting:
        flush()
        on_progress(len(questions), len(questions))
    found = {name: text for name, key in keys.items() if (text := store.get(key)) is not None}
    return Answered({name: text for name, text in found.items() if name not in failures}, failures)


def answer_key(assistant: Assistant, question: Question, seeing: Seeing, options: GenerationOptions) -> str:
    """Equal for questions that have the same answer."""
    said: list[Any] = [
        [message.role, [part if isinstance(part, str) else _facts(part) for part in message.parts]]
        for message in question.messages
    ]
    made_with = {
        "weights": assistant.fingerprint,
        "dtype": str(assistant.dtype),
        "seeing": seeing.to_dict(),
        "options": options.to_dict(),
    }
    return content_key({**made_with, "messages": said})


def answers_path(cache: Path | None, assistant: Assistant) -> Path | None:
    """Where a model's answers are kept: one file for each set of weights."""
    return None if cache is None else cache / "answers" / f"{assistant.name}-{assistant.fingerprint[:16]}.jsonl"


def _facts(part: MediaPart) -> dict[str, Any]:
    """What decides how a medium looks."""
    own = {name: getattr(part, name) for name in ("max_num_tiles", "num_frames", "start_seconds", "end_seconds")}
    return {"kind": part.kind, "content": _content(part), "boxes": _boxes(part), **own}


def _content(part: MediaPart) -> Any:
    """What stands for a medium's content. A file counts as unchanged with its path, size and time."""
    source = part.source
    if isinstance(source, Path):
        try:
            status = source.stat()
        except OSError:
            return str(source)
        return [str(source.resolve()), status.st_size, status.st_mtime_ns]
    if isinstance(source, Image.Image):
        return [source.mode, source.size, hashlib.blake2b(source.tobytes(), digest_size=16).hexdigest()]
    return part.identity


def _boxes(part: MediaPart) -> Any:
    if isinstance(part.boxes, Mapping):
        return {str(frame): None if box is None else _corners(box) for frame, box in sorted(part.boxes.items())}
    return None if part.boxes is None else _corners(part.boxes)


def _corners(box: Box) -> list[float]:
    return list(asdict(box).values())
