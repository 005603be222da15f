"""What the report of PLM-VideoBench shows: bars by kind of question, and near misses with a picture of each."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from perceptic.errors import MediaError
from perceptic.evaluate.plm_bench_rows import FgqaRow, RegionRow, SgqaRow, VideoFolders
from perceptic.evaluate.plm_bench_scores import Graded
from perceptic.evaluate.result import ClassShare, Mistake
from perceptic.media.video import read_video

_MISTAKES = 12
_THUMBNAIL = 160
_FRAMES = 3


def class_bars(graded: Sequence[Graded]) -> tuple[ClassShare, ...]:
    """Mean score of each kind of question, worst first; nothing where rows have no kinds."""
    kinds: dict[str, list[float]] = {}
    for one in graded:
        if isinstance(one.row, FgqaRow | SgqaRow) and one.row.kind:
            kinds.setdefault(one.row.kind, []).append(one.score)
    bars = [ClassShare(kind, 100 * sum(scores) / len(scores), len(scores)) for kind, scores in kinds.items()]
    return tuple(sorted(bars, key=lambda bar: bar.value)) if len(bars) > 1 else ()


def nearest_mistakes(graded: Sequence[Graded], folders: VideoFolders) -> tuple[Mistake, ...]:
    """Rows that are not wholly right, the nearest misses first; unreadable answers last."""
    wrong = [one for one in graded if one.score < 1]
    wrong.sort(key=lambda one: (one.failure is not None, -one.score))
    return tuple(
        Mistake(
            one.row.uid,
            one.truth,
            one.answer,
            f"{_asked(one)} score {one.score:.2f}" + (f"; {one.failure}" if one.failure else ""),
            film_strip(folders.find(one.row.video)),
        )
        for one in wrong[:_MISTAKES]
    )


def film_strip(video: Path | bytes | None) -> bytes | None:
    """First, middle and last frame side by side as PNG; None if they cannot be read any more."""
    if video is None:
        return None
    try:
        frames = read_video(video, num_frames=_FRAMES).pixels
    except MediaError:
        return None
    pictures = [Image.fromarray(frame.permute(1, 2, 0).contiguous().numpy()) for frame in frames]
    for picture in pictures:
        picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
    strip = Image.new("RGB", (sum(one.width for one in pictures), max(one.height for one in pictures)))
    left = 0
    for picture in pictures:
        strip.paste(picture, (left, 0))
        left += picture.width
    stream = io.BytesIO()
    strip.save(stream, "PNG")
    return stream.getvalue()


def _asked(one: Graded) -> str:
    if isinstance(one.row, FgqaRow | SgqaRow):
        return f"{one.row.question};"
    assert isinstance(one.row, RegionRow)
    return f"masklet {one.row.masklet_id};"
