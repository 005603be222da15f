"""Which units a contrastive stream reads, from paths or from a registry."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from perceptic.data.folder_units import FolderUnits
from perceptic.data.registry import MixPart, RegistryEntry, known_entry
from perceptic.data.stream import StreamPart
from perceptic.data.tar_units import TarUnits
from perceptic.data.units import Units
from perceptic.errors import ConfigError


def find_units(*, shards: tuple[str, ...] = (), folder: str | Path | None = None) -> Units:
    """Tar shards by paths and globs, or a folder of captioned files.

    Raises:
        ConfigError: both or neither. DataError: nothing there.
    """
    if bool(shards) == (folder is not None):
        raise ConfigError("give either shards or a folder")
    return TarUnits.find(shards) if folder is None else FolderUnits.find(Path(folder))


def open_stream_parts(parts: tuple[MixPart, ...], registry: Mapping[str, RegistryEntry]) -> tuple[StreamPart, ...]:
    """The data sets of a mix.

    Raises:
        ConfigError: a name that the registry does not have, or an entry of rows. DataError: nothing there.
    """
    found = []
    for part in parts:
        entry = known_entry(part.name, registry)
        if entry.annotation is not None:
            raise ConfigError(
                f"{part.name}: is of rows of the language model ('annotation'); contrastive training needs 'shards' "
                "or a 'folder' with captions"
            )
        found.append(StreamPart(part.name, find_units(shards=entry.shards, folder=entry.folder), part.weight))
    return tuple(found)
