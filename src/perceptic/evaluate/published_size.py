"""Whether data are those that the published numbers were measured on, as far as their size can tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perceptic.errors import DataError
from perceptic.evaluate.benchmark import Benchmark

SUBSET = "subset"
"""The fact (a key of a result's facts) that says which part of the published set was measured."""
_ROUGH_SHARE = 0.1  # revisions of PLM-VideoBench differ by 6 %, copies of Kinetics by about as much


@dataclass(frozen=True)
class FoundSize:
    """What was found on disk: `items` of the benchmark's split before any limit, and classes where it has them.

    Attributes:
        split: the one that the user asked for; "" for the benchmark's own.
        notes: what the reading had to say, which may explain a size.
    """

    where: Path
    items: int
    classes: int | None = None
    split: str = ""
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class SizeCheck:
    """Facts and sentences for a result; `facts` has SUBSET where the data are not the published set."""

    facts: Mapping[str, Any]
    notes: tuple[str, ...] = ()


def check_size(benchmark: Benchmark, found: FoundSize, *, allow_subset: bool) -> SizeCheck:
    """Compare sizes before anything is computed.

    Another split than the benchmark's has no published number of items; its classes are compared all the same.

    Raises:
        DataError: the number of items or classes is another than the published set's, and that was not allowed.
    """
    wrong = _differences(benchmark, found)
    if not wrong:
        return SizeCheck({}, _rough_note(benchmark, found))
    if not allow_subset:
        counts = "; ".join(f"expected {expected:,} {what}, found {count:,}" for what, count, expected in wrong)
        raise DataError(
            f"{found.where}: not the set that {benchmark.name} names: {counts}. "
            + " ".join([*found.notes, ""])
            + f"Give its whole split '{benchmark.split}' (from {benchmark.data.source or 'its publisher'}), or "
            "measure what is there on purpose with --allow-subset, without the papers' numbers beside it"
        )
    said = " and ".join(f"{count:,} of {expected:,} {what}" for what, count, expected in wrong)
    return SizeCheck({SUBSET: said}, (f"Not the published set: {said}. The papers' numbers do not compare.",))


def is_comparable(benchmark: Benchmark, settings: Mapping[str, Any]) -> bool:
    """Whether published numbers may stand beside a result with these settings (`facts` included).

    Not beside a part of the data, another split or the control. A limit draws a fair sample, whose interval says the
    rest, except for retrieval, where fewer candidates are easier.
    """
    split = settings.get("options", {}).get("split", "")
    has_fewer_candidates = benchmark.task == "retrieval" and settings.get("limit") is not None
    return (
        not settings.get("facts", {}).get(SUBSET)
        and not settings.get("shuffle_labels")
        and not has_fewer_candidates
        and split in ("", benchmark.split)
    )


def _differences(benchmark: Benchmark, found: FoundSize) -> list[tuple[str, int, int]]:
    """What is counted, how many there are, how many there should be; only where these differ."""
    wrong = []
    if benchmark.classes is not None and found.classes and found.classes != benchmark.classes:
        wrong.append(("classes", found.classes, benchmark.classes))
    expected = _published_items(benchmark, found)
    if expected is not None and found.items not in benchmark.other_items:
        room = _ROUGH_SHARE * expected if benchmark.items_are_rough else 0
        if abs(found.items - expected) > room:
            wrong.append(("items", found.items, expected))
    return wrong


def _rough_note(benchmark: Benchmark, found: FoundSize) -> tuple[str, ...]:
    expected = _published_items(benchmark, found)
    if expected in (None, found.items):
        return ()
    return (f"The data have {found.items:,} items; the published set has {expected:,}.",)


def _published_items(benchmark: Benchmark, found: FoundSize) -> int | None:
    return benchmark.items if found.split in ("", benchmark.split) else None
