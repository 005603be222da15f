"""Questions about pictures and videos with their answers: rows of JSONL, JSON or parquet.

    {"image": "a.png", "question": "What is the total?", "answers": ["12.50", "$12.50"]}
    {"video": "b.mp4", "question": "What happens first?", "options": ["he sits", "he runs"], "answer": "B"}

Columns: `image` (path, list of paths, or bytes as parquet has them) or `video`; `question`; `answer` or `answers`;
`options` (list, or object by letter); and, where there are some, `id`, `category`, `group`. Paths start at the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perceptic.errors import ConfigError, DataError, MediaError
from perceptic.evaluate.multiple_choice import LETTERS
from perceptic.evaluate.table_rows import SUFFIXES, read_table
from perceptic.media.collection import MediaKind
from perceptic.tasks.media_parts import MediaPart, media_part


@dataclass(frozen=True, eq=False)
class QaRow:
    """One question.

    Attributes:
        answers: right ones; for `options` the letter.
        box: the true region in pixels (left, top, right, bottom), where the answer is one.
        category: names a part of the set that is reported apart. group: rows that hang together (MME's picture).
    """

    id: str
    media: tuple[Path | bytes, ...]
    kind: MediaKind
    question: str
    answers: tuple[str, ...]
    options: tuple[str, ...] = ()
    box: tuple[float, ...] = ()
    category: str = ""
    group: str = ""

    @property
    def name(self) -> str:
        """What people call the medium."""
        return next((str(one) for one in self.media if isinstance(one, Path)), self.id)

    def parts(self) -> tuple[MediaPart, ...]:
        """The media as parts of a message. Raises MediaError."""
        return tuple(media_part(one) for one in self.media)


def read_qa(data: Path) -> list[QaRow]:
    """All rows of a file, or of the only table in a folder.

    Raises:
        ConfigError: no table, or several.
        DataError: a row that cannot be read, no rows, or two of the same id.
    """
    file = data if data.is_file() else _only_table(data)
    rows = [_row(value, file.parent, f"{file}, row {number}", str(number)) for number, value in _numbered(file)]
    if not rows:
        raise DataError(f"{file}: holds no rows")
    if len({row.id for row in rows}) < len(rows):
        raise DataError(f"{file}: two rows have the same id")
    return rows


def _numbered(file: Path) -> enumerate[dict[str, Any]]:
    return enumerate(read_table(file), start=1)


def _only_table(folder: Path) -> Path:
    found = sorted(path for suffix in SUFFIXES for path in folder.glob(f"*{suffix}"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise ConfigError(f"{folder}: expected one table ({', '.join(SUFFIXES)}), found {names}; name the file")
    return found[0]


def _row(value: Mapping[str, Any], root: Path, where: str, number: str) -> QaRow:
    media, kind = _media(value, root, where)
    options = _options(value.get("options"), where)
    answers = _answers(value, where)
    box = _box(answers)
    question = value.get("question", "")
    if not isinstance(question, str):
        raise DataError(f"{where}: 'question' must be text, not {question!r}")
    return QaRow(
        id=str(value.get("id", number)),
        media=media,
        kind=kind,
        question=question,
        answers=(_letter(answers, options, where),) if options else tuple(map(str, answers)),
        options=options,
        box=box,
        category=str(value.get("category") or ""),
        group=str(value.get("group") or ""),
    )


def _media(value: Mapping[str, Any], root: Path, where: str) -> tuple[tuple[Path | bytes, ...], MediaKind]:
    if value.get("video") is not None:
        return (_source(value["video"], root, where),), "video"
    images = value.get("image", value.get("images"))
    if images is None:
        return (), "image"
    several = images if isinstance(images, list) else [images]
    return tuple(_source(one, root, where) for one in several), "image"


def _source(value: Any, root: Path, where: str) -> Path | bytes:
    if isinstance(value, Mapping):  # parquet's picture: {"bytes", "path"}
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str) or not value:
        raise DataError(f"{where}: a medium is a path or bytes, not {value!r}")
    return root / value


def _options(value: Any, where: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, Mapping):
        value = [text for _, text in sorted(value.items()) if text is not None]
    if not isinstance(value, Sequence) or isinstance(value, str) or not 2 <= len(value) <= len(LETTERS):
        raise DataError(f"{where}: 'options' must be 2 to {len(LETTERS)} texts, not {value!r}")
    return tuple(map(str, value))


def _answers(value: Mapping[str, Any], where: str) -> list[Any]:
    found = value.get("answers", value.get("answer"))
    if found is None:
        raise DataError(f"{where}: has neither 'answer' nor 'answers'")
    found = found if isinstance(found, list) else [found]
    if not found:
        raise DataError(f"{where}: 'answers' is empty")
    return found


def _letter(answers: Sequence[Any], options: Sequence[str], where: str) -> str:
    """The right option by its letter, its number from 0, or its text."""
    answer = answers[0]
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(options):
        return LETTERS[answer]
    text = str(answer).strip()
    if text in options:
        return LETTERS[options.index(text)]
    letter = text.strip("().").upper()
    if len(letter) == 1 and letter in LETTERS[: len(options)]:
        return letter
    raise DataError(f"{where}: the answer {answer!r} is none of the {len(options)} options")


def _box(answers: Sequence[Any]) -> tuple[float, ...]:
    is_box = len(answers) == 4 and all(isinstance(one, int | float) and not isinstance(one, bool) for one in answers)
    return tuple(map(float, answers)) if is_box else ()


def is_readable(row: QaRow) -> str | None:
    """Why a row's media cannot be found, None if they can: paths only are looked at."""
    for one in row.media:
        if isinstance(one, Path) and not one.is_file():
            return f"{one} is not there"
    try:
        row.parts()
    except MediaError as error:
        return str(error)
    return None
