"""Positions in training data that were saved by some number of processes, dealt out to another number of them."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from perceptic.data import mixing, stream
from perceptic.data.shuffled_units import redistribute_units
from perceptic.errors import DataError


@dataclass(frozen=True)
class Redistributed:
    """A position for each new process, and what is no longer as it would have been, for people."""

    states: tuple[dict[str, Any], ...]
    note: str


def redistribute(states: Sequence[Mapping[str, Any]], num_readers: int) -> Redistributed:
    """Let another number of processes go on where the old ones stopped.

    Every sample that was not trained on yet comes, each once an epoch as before; only order and company change.

    Args:
        states: of `StreamBatches`, or of `PackedStream` in shuffled order: one of each old process.

    Raises:
        DataError: states of different data, not one of each process, or of the original's order.
    """
    if not states:
        raise DataError("data position: there is none")
    if len({state.get("kind") == stream.KIND for state in states}) > 1:
        raise DataError("data position: the processes' positions are of different data")
    deal = _deal_pairs if states[0].get("kind") == stream.KIND else _deal_rows
    note = (
        f"the data position of {len(states)} processes was dealt out to {num_readers}: no sample is lost or repeated, "
        "but their order, and which meet in a batch, are not those of an uninterrupted run"
    )
    return Redistributed(tuple(deal(states, num_readers)), note)


def _deal_pairs(states: Sequence[Mapping[str, Any]], num_readers: int) -> list[dict[str, Any]]:
    first = states[0]
    if any(state["counts"] != first["counts"] or list(state["parts"]) != list(first["parts"]) for state in states):
        raise DataError("data position: the processes' positions are of different mixes")
    parts = {
        name: redistribute_units([state["parts"][name] for state in states], num_readers) for name in first["parts"]
    }
    owed = _dealt([state["owed"] for state in states], num_readers)
    return [
        {
            "kind": stream.KIND,
            "counts": first["counts"],
            "drawn": max(state["drawn"] for state in states),
            "owed": owed[index],
            "parts": {name: parts[name][index] for name in parts},
            "skipped": _all_skipped(states) if index == 0 else {},
        }
        for index in range(num_readers)
    ]


def _deal_rows(states: Sequence[Mapping[str, Any]], num_readers: int) -> list[dict[str, Any]]:
    orders = mixing.redistribute([state["order"] for state in states], num_readers)
    waiting = _dealt([state["owed"] for state in states], num_readers)
    return [
        {
            "order": orders.states[index],
            "owed": [*waiting[index], *([draw.row_set, draw.row] for draw in orders.owed[index])],
            "skipped": _all_skipped(states) if index == 0 else {},
        }
        for index in range(num_readers)
    ]


def _dealt(lists: Sequence[Sequence[Any]], num_readers: int) -> list[list[Any]]:
    """Everything in `lists`, in turn to each reader, so that each has what was drawn first before what was last."""
    together = [item for items in itertools.zip_longest(*lists, fillvalue=None) for item in items if item is not None]
    return [together[index::num_readers] for index in range(num_readers)]


def _all_skipped(states: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Only their sum matters: the first process goes on with all that was skipped."""
    total: Counter[str] = Counter()
    for state in states:
        total.update(state["skipped"])
    return dict(total)
