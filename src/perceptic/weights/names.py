"""Name pairs: how one naming scheme of a checkpoint becomes another, as readable tables.

A `Pair` is one row: our names on the left, theirs on the right, and a function for each direction where the tensor
changes too. `{i}` stands for the number of a block. Rows are pure data; `translate` walks them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from perceptic.errors import WeightsError

StateDict: TypeAlias = dict[str, Tensor]
Change: TypeAlias = Callable[[Sequence[Tensor]], Sequence[Tensor]]

# A block number never has leading zeros: "resblocks.01" is a foreign key, not block 1.
_NUMBER = re.compile(r"\.(0|[1-9][0-9]{0,5})\.")


def unchanged(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    return tensors


@dataclass(frozen=True)
class Pair:
    """One row of a name table. Several names on a side are tensors that are fused on the other."""

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    read: Change = unchanged
    write: Change = unchanged


def pair(
    ours: str | tuple[str, ...], theirs: str | tuple[str, ...], read: Change = unchanged, write: Change = unchanged
) -> Pair:
    """A row; a single name may be given without a tuple."""
    return Pair(_as_tuple(ours), _as_tuple(theirs), read, write)


def with_prefixes(pairs: Iterable[Pair], ours: str, theirs: str) -> tuple[Pair, ...]:
    """The same rows, each name with a prefix."""
    return tuple(
        Pair(tuple(ours + n for n in row.ours), tuple(theirs + n for n in row.theirs), row.read, row.write)
        for row in pairs
    )


def swapped(pairs: Iterable[Pair]) -> tuple[Pair, ...]:
    """The table in the other direction."""
    return tuple(Pair(row.theirs, row.ours, row.write, row.read) for row in pairs)


def translate(state: Mapping[str, Tensor], pairs: Iterable[Pair], format_name: str) -> StateDict:
    """Rename every tensor of `state` from the right-hand names of `pairs` to the left-hand ones.

    Memory: renamed and reshaped tensors are views; only fused ones (the attention pool, a few MB) are copied.

    Raises:
        WeightsError: a key that no row knows, part of a fused group without the rest, or a tensor that a row
            cannot change. The first such keys are named.
    """
    rows = {name: row for row in pairs for name in row.theirs}
    templates = {key: _template(key, rows) for key in state}
    unknown = [key for key, template in templates.items() if template.text not in rows]
    if unknown:
        raise WeightsError(f"keys that are not part of the {format_name} format: {name_some(unknown)}")
    result: StateDict = {}
    for key, template in templates.items():
        row = rows[template.text]
        if row.theirs[0] != template.text and template.fill(row.theirs[0]) in state:
            continue  # the group is handled at its first member
        result.update(_read_row(state, row, template, key, format_name))
    return result


def count_known(keys: Iterable[str], pairs: Iterable[Pair]) -> int:
    """How many of `keys` are right-hand names."""
    known = {name for row in pairs for name in row.theirs}
    return sum(_template(key, known).text in known for key in keys)


def their_names(key: str, pairs: Iterable[Pair]) -> tuple[str, ...]:
    """The right-hand names behind a left-hand one; the name itself where no row knows it."""
    rows = list(pairs)
    template = _template(key, {name for row in rows for name in row.ours})
    for row in rows:
        if template.text in row.ours:
            return tuple(template.fill(name) for name in row.theirs)
    return (key,)


def name_some(keys: Iterable[str], limit: int = 4) -> str:
    """The first few keys and how many more there are."""
    listed = list(keys)
    more = len(listed) - limit
    return ", ".join(listed[:limit]) + (f" and {more} more" if more > 0 else "")


@dataclass(frozen=True)
class _Template:
    text: str
    number: str

    def fill(self, template: str) -> str:
        return template.replace("{i}", self.number)


def _template(key: str, known: Container[str]) -> _Template:
    """A key with its block number taken out, unless a row spells the number out (`projector.0`)."""
    found = _NUMBER.search(key)
    if found is None or key in known:
        return _Template(key, "")
    return _Template(key[: found.start()] + ".{i}." + key[found.end() :], found.group(1))


def _read_row(state: Mapping[str, Tensor], row: Pair, template: _Template, key: str, format_name: str) -> StateDict:
    sources = [template.fill(name) for name in row.theirs]
    absent = [name for name in sources if name not in state]
    if absent:
        raise WeightsError(f"'{key}' is there but '{absent[0]}' is not: the {format_name} file is incomplete")
    try:
        tensors = row.read([state[name] for name in sources])
    except (RuntimeError, ValueError, IndexError) as error:
        shapes = ", ".join(f"{name} {tuple(state[name].shape)}" for name in sources)
        raise WeightsError(f"tensors of unexpected shape for the {format_name} format: {shapes} ({error})") from error
    return dict(zip((template.fill(name) for name in row.ours), tensors, strict=True))


def _as_tuple(names: str | tuple[str, ...]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names
