"""Which data sets there are and how they are mixed: `datasets.yaml` and `name:weight,...` (spec 8.2).

An entry has `annotation` (rows of the language model) as in the original, or, which is ours, `folder` (captioned
pictures and videos, for both models) or `shards` (webdataset tar files, for contrastive training).
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from perceptic.data.folder_rows import FolderRows
from perceptic.data.row_files import RowFile, RowSet
from perceptic.errors import ConfigError, DataError

_CHUNK_FILE = re.compile(r".*chunk\.\d+.*\.jsonl")
_KEYS = ("annotation", "root_dir", "folder", "shards")
_SOURCES = ("annotation", "folder", "shards")


@dataclass(frozen=True)
class RegistryEntry:
    """Where a data set is; one of `annotation`, `folder` and `shards` is given.

    Attributes:
        annotation: JSONL rows, a file or a folder of `*chunk.N*.jsonl`; `root` is where their media paths start.
        folder: pictures and videos with captions (`folder_units`).
        shards: paths or globs of tar files (`tar_units`).
    """

    name: str
    annotation: Path | None = None
    root: Path = Path()
    folder: Path | None = None
    shards: tuple[str, ...] = ()


@dataclass(frozen=True)
class MixPart:
    """A data set and its share of the draws, relative to the other parts' weights."""

    name: str
    weight: float


@dataclass(frozen=True)
class Mix:
    """Data sets opened, and the share of each in the draws (they sum to 1)."""

    row_sets: tuple[RowSet, ...]
    shares: tuple[float, ...]

    @property
    def lengths(self) -> tuple[int, ...]:
        """Rows of each set."""
        return tuple(map(len, self.row_sets))


def read_registry(path: Path) -> dict[str, RegistryEntry]:
    """The entries of a `datasets.yaml` by name. Relative paths in it start at its own folder.

    Raises:
        DataError: the file cannot be read. ConfigError: it is not of this form, or has an unknown key.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected names of data sets, each with the keys annotation and root_dir")
    return {str(name): _entry(path, str(name), value) for name, value in content.items()}


def parse_mix(text: str) -> tuple[MixPart, ...]:
    """`name:weight,name:weight`; blanks mean nothing.

    Raises:
        ConfigError: a part of another form, a name that comes twice, or a weight that is not positive.
    """
    parts: list[MixPart] = []
    for item in "".join(text.split()).split(","):
        name, separator, weight = item.rpartition(":")
        try:
            parts.append(MixPart(name, float(weight)))
        except ValueError:
            separator = ""
        if not name or not separator:
            raise ConfigError(f"mix '{text}': '{item}' should be name:weight, for example captions:2")
        if not (math.isfinite(parts[-1].weight) and parts[-1].weight > 0):
            raise ConfigError(f"mix '{text}': the weight of '{name}' must be positive, not {weight}")
    names = [part.name for part in parts]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"mix '{text}': '{twice}' comes twice")
    return tuple(parts)


def open_mix(parts: tuple[MixPart, ...], registry: Mapping[str, RegistryEntry]) -> Mix:
    """Open the data sets of a mix.

    Raises:
        ConfigError: a name that the registry does not have, naming the nearest.
        DataError: rows that cannot be found, or a data set without any.
    """
    total = sum(part.weight for part in parts)
    row_sets = tuple(_open(known_entry(part.name, registry)) for part in parts)
    return Mix(row_sets, tuple(part.weight / total for part in parts))


def _entry(path: Path, name: str, value: object) -> RegistryEntry:
    sources = [key for key in _SOURCES if isinstance(value, dict) and value.get(key)]
    if not isinstance(value, dict) or len(sources) != 1:
        raise ConfigError(f"{path}: {name}: needs one of the keys {', '.join(_SOURCES)}; it has {sources or 'none'}")
    unknown = set(map(str, value)) - set(_KEYS)
    if unknown:
        raise ConfigError(f"{path}: {name}: unknown key '{min(unknown)}'; known: {', '.join(_KEYS)}")
    if sources == ["shards"]:
        patterns = value["shards"] if isinstance(value["shards"], list) else [value["shards"]]
        return RegistryEntry(name, shards=tuple(str(path.parent / str(pattern)) for pattern in patterns))
    for key in (sources[0], "root_dir"):
        if not isinstance(value.get(key) or "", str):
            raise ConfigError(f"{path}: {name}: {key} must be a path, not {value[key]!r}")
    if sources == ["folder"]:
        return RegistryEntry(name, folder=path.parent / value["folder"])
    return RegistryEntry(name, path.parent / value["annotation"], path.parent / (value.get("root_dir") or ""))


def known_entry(name: str, registry: Mapping[str, RegistryEntry]) -> RegistryEntry:
    """The entry of a name. Raises ConfigError naming the nearest."""
    if name not in registry:
        near = difflib.get_close_matches(name, registry, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(registry)}"
        raise ConfigError(f"mix: no data set is named '{name}'; {hint}")
    return registry[name]


def _open(entry: RegistryEntry) -> RowSet:
    if entry.folder is not None:
        return RowSet(entry.name, (FolderRows.find(entry.folder),), entry.folder)
    if entry.annotation is None:
        raise ConfigError(
            f"{entry.name}: is of tar shards, which contrastive training reads; the language model needs rows "
            "('annotation') or a 'folder' with captions"
        )
    paths = [entry.annotation]
    if entry.annotation.is_dir():
        paths = sorted(path for path in entry.annotation.iterdir() if _CHUNK_FILE.fullmatch(path.name))
        if not paths:
            raise DataError(
                f"{entry.name}: {entry.annotation} holds no file named *chunk.N*.jsonl "
                "(for pictures with captions write 'folder' instead of 'annotation')"
            )
    if entry.annotation.suffix == ".parquet":
        raise DataError(
            f"{entry.name}: {entry.annotation} is a parquet table; make rows of it: "
            f"perceptic data convert {entry.annotation} {entry.annotation.with_suffix('.jsonl')}"
        )
    row_set = RowSet(entry.name, tuple(map(RowFile, paths)), entry.root)
    if not len(row_set):
        raise DataError(f"{entry.name}: {entry.annotation} has no rows")
    return row_set
