"""Weights in one safetensors file or, where they are large, in several with an index (Hugging Face's layout)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from perceptic.errors import WeightsError, WeightsNotFoundError
from perceptic.weights.folder import WEIGHTS_FILE, read_json, write_json, write_weights

INDEX_FILE = f"{WEIGHTS_FILE}.index.json"
_MAX_SHARD_BYTES = 5 * 10**9


def find_shards(folder: Path) -> tuple[Path, ...]:
    """The weights files of a folder: those its index names, else `model.safetensors`.

    Raises:
        WeightsNotFoundError: none, or one that the index names is missing.
        WeightsError: a damaged index.
    """
    if not (folder / INDEX_FILE).is_file():
        if (folder / WEIGHTS_FILE).is_file():
            return (folder / WEIGHTS_FILE,)
        raise WeightsNotFoundError(f"{folder}: has a configuration but no weights; expected {WEIGHTS_FILE}")
    files = tuple(folder / name for name in shard_names(folder / INDEX_FILE))
    for file in files:
        if not file.is_file():
            raise WeightsNotFoundError(f"{file}: is missing, but {INDEX_FILE} names it; download or copy it again")
    return files


def shard_names(index: Path) -> list[str]:
    """The file names in an index, in order. Raises WeightsError if it is damaged."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise WeightsError(f"{index}: has no 'weight_map'; download it again")
    names = sorted({str(name) for name in weight_map.values()})
    for name in names:
        if Path(name).name != name:  # a path could point outside the folder
            raise WeightsError(f"{index}: '{name}' is not a plain file name")
    return names


def write_shards(folder: Path, state: Mapping[str, Tensor], max_shard_bytes: int = _MAX_SHARD_BYTES) -> None:
    """Write one file, or several of at most `max_shard_bytes` and their index."""
    groups: list[dict[str, Tensor]] = [{}]
    size = 0
    for key, tensor in state.items():
        if groups[-1] and size + tensor.nbytes > max_shard_bytes:
            groups.append({})
            size = 0
        groups[-1][key] = tensor
        size += tensor.nbytes
    if len(groups) == 1:
        write_weights(folder / WEIGHTS_FILE, state)
        return
    weight_map: dict[str, str] = {}
    for number, group in enumerate(groups, start=1):
        name = f"model-{number:05d}-of-{len(groups):05d}.safetensors"
        write_weights(folder / name, group)
        weight_map |= dict.fromkeys(group, name)
    total = sum(tensor.nbytes for tensor in state.values())
    write_json(folder / INDEX_FILE, {"metadata": {"total_size": total}, "weight_map": weight_map})
