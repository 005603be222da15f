"""What the report of PLM-VideoBench shows: bars by kind of question, and near misses with a picture of each."""

from __future__ import annotations

from collections.abc import Sequence

from perceptic.evaluate.pictures import small_picture
from perceptic.evaluate.plm_bench_rows import FgqaRow, RegionRow, SgqaRow, VideoFolders
from perceptic.evaluate.plm_bench_scores import Graded
from perceptic.evaluate.result import ClassShare, Mistake

_MISTAKES = 12


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
            small_picture(folders.find(one.row.video), "video"),
        )
        for one in wrong[:_MISTAKES]
    )


def _asked(one: Graded) -> str:
    if isinstance(one.row, FgqaRow | SgqaRow):
        return f"{one.row.question};"
    assert isinstance(one.row, RegionRow)
    return f"masklet {one.row.masklet_id};"
