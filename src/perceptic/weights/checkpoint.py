"""One weights file <-> a plain dictionary of tensors, without a second copy in memory.

safetensors files and PyTorch's zip files are mapped: a tensor's bytes are read from disk when they are first used, and
pages can be given back by dropping the mapping. What a file is, is decided by its first bytes, never by its name.
Pickles are opened with `weights_only=True`: code in a file is refused, not run.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from perceptic.errors import WeightsError
from perceptic.weights.names import StateDict, name_some
from perceptic.weights.zip_layout import check_zip

# A cast goes through the source in this many steps and unmaps it after each: 1/24 of a float32 source is 1/12 of a
# bfloat16 result. Reopening costs 50 ms for a CLIP model in a PyTorch file, so that more steps would be felt.
_CAST_STEPS = 24
_MIN_STEP_BYTES = 2 * 2**20
_WRAPPERS = ("state_dict", "weights", "model")
# DistributedDataParallel and torch.compile put these in front of every name.
_NAME_PREFIXES = ("module.", "_orig_mod.")
_MAX_SAFETENSORS_HEADER = 100_000_000  # the format's own limit

# Reads a file: everything, or (where the format allows it) only these keys.
_Reader = Callable[[Path, Collection[str] | None], Any]


@dataclass(frozen=True)
class Checkpoint:
    """An opened weights file with plain names. `shapes` has tensors on the meta device: types and shapes, no values.

    Nothing of the file stays mapped between calls: even looking at a mapped tensor makes its first pages count.
    """

    path: Path
    shapes: StateDict
    _read: _Reader
    _prefix: str  # in front of every name in the file

    def read(self, keys: Collection[str]) -> StateDict:
        """The tensors of `keys`, mapped: they take memory as they are used, and are private to this process."""
        stored = _tensors(self._read(self.path, {self._prefix + key for key in keys}), self.path)
        return {key: stored[self._prefix + key] for key in keys}

    def cast(self, keys: Collection[str], dtype: torch.dtype) -> StateDict:
        """The tensors of `keys` in `dtype`, in new memory, while only a small part of the file is mapped at a time."""
        result = {key: torch.empty(self.shapes[key].shape, dtype=dtype) for key in keys}
        for step in _steps({key: self.shapes[key] for key in keys}):
            source = self.read([part.key for part in step])
            for part in step:
                values = source[part.key].reshape(-1)[part.start : part.stop]
                result[part.key].view(-1)[part.start : part.stop].copy_(values)
            # Dropping the last reference unmaps the file, so that its pages no longer count as ours.
            del source, values
        return result


@dataclass(frozen=True)
class _Part:
    """A run of elements of one flattened tensor."""

    key: str
    start: int
    stop: int


def open_checkpoint(path: Path) -> Checkpoint:
    """Look into a weights file: safetensors, or PyTorch's `.pt`/`.bin`, by content.

    The wrappers `state_dict`, `weights` and `model` and the name prefixes `module.` and `_orig_mod.` are removed.

    Raises:
        WeightsError: the file is unreadable, empty, cut short, damaged, no checkpoint at all, or holds code.
    """
    read = _reader(path)
    tensors = _tensors(read(path, None), path)
    prefix = _common_prefix(tensors)
    shapes = {key.removeprefix(prefix): value.to("meta") for key, value in tensors.items()}
    return Checkpoint(path=path, shapes=shapes, _read=read, _prefix=prefix)


def _reader(path: Path) -> _Reader:
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            head = stream.read(256)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not head:
        raise WeightsError(f"{path}: is empty (0 bytes); download or copy it again")
    if head.startswith(b"version https://git-lfs"):
        raise WeightsError(
            f"{path}: is a Git LFS pointer, not the weights; run 'git lfs pull' in its repository or download the file"
        )
    header_size = int.from_bytes(head[:8], "little")
    # Before the pickles: the size of a header can begin with their first byte.
    if head[8:9] == b"{" and header_size <= _MAX_SAFETENSORS_HEADER:
        if header_size + 8 > size:
            raise WeightsError(f"{path}: is cut short: {size} bytes, less than its own header; download it again")
        return _read_safetensors
    if head.startswith(b"PK\x03\x04"):
        check_zip(path)
        return _read_torch_zip
    if head.startswith(b"\x80"):
        return _read_torch_legacy
    raise WeightsError(f"{path}: is not a checkpoint ({_describe(head)}); expected safetensors or PyTorch weights")


def _describe(head: bytes) -> str:
    kinds = {
        b"\xff\xd8\xff": "a JPEG image",
        b"\x89PNG": "a PNG image",
        b"GIF8": "a GIF image",
        b"%PDF": "a PDF document",
        b"\x1f\x8b": "a gzip archive",
        b"GGUF": "a GGUF file",
        b"\x89HDF": "an HDF5 file",
        b"<": "a web page or XML, perhaps an error page saved by a download",
        b"{": "JSON text",
    }
    start = head.lstrip()
    found = [kind for magic, kind in kinds.items() if start.startswith(magic)]
    return found[0] if found else f"it begins with {head[:8]!r}"


def _read_safetensors(path: Path, keys: Collection[str] | None) -> StateDict:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {key: file.get_tensor(key) for key in keys or file.keys()}
    except SafetensorError as error:
        cut_short = "cut short" if "incomplete" in str(error).lower() or "buffer" in str(error).lower() else "damaged"
        raise WeightsError(f"{path}: is {cut_short}: {error}; download it again") from error
    except (OSError, RuntimeError, ValueError, TypeError, AttributeError, KeyError, OverflowError) as error:
        raise WeightsError(f"{path}: is damaged: {error}; download it again") from error


def _read_torch_zip(path: Path, _keys: Collection[str] | None) -> Any:
    if path.suffix != ".safetensors":
        return _read_torch(path, lambda: _load(path, mmap=True))
    # PyTorch takes the name for the format: under this one it must be given a stream, which it cannot map.
    with path.open("rb") as stream:
        return _read_torch(path, lambda: _load(stream))


def _read_torch_legacy(path: Path, _keys: Collection[str] | None) -> Any:
    """The format of PyTorch before 1.6, which cannot be mapped."""
    with path.open("rb") as stream:
        content = _read_torch(path, lambda: _load(stream))
        if stream.read(1):
            # Inserted bytes shift the last tensor, which nothing else in this format would show.
            raise WeightsError(f"{path}: is damaged: it goes on behind its end; download it again")
    return content


def _load(source: Path | BinaryIO, mmap: bool = False) -> Any:
    return torch.load(source, map_location="cpu", weights_only=True, mmap=mmap)


def _read_torch(path: Path, load: Callable[[], Any]) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles that are then refused
            return load()
    except pickle.UnpicklingError as error:
        raise WeightsError(f"{path}: {_describe_refusal(str(error))}") from error
    except Exception as error:
        # A damaged pickle can make its reader raise anything at all.
        reason = (str(error) or type(error).__name__).splitlines()[0]
        is_cut = "central directory" in str(error) or isinstance(error, EOFError)
        what = "cut short" if is_cut else "damaged or no PyTorch checkpoint"
        raise WeightsError(f"{path}: is {what}: {reason}; download it again") from error


def _describe_refusal(message: str) -> str:
    """Tell code in a pickle from a damaged pickle, by what the safe reader of PyTorch says."""
    found = re.search(r"GLOBAL (\S+)", message)
    # PyTorch's own helpers are all known: an unknown one is a damaged name.
    if found and not found.group(1).startswith("torch._"):
        return (
            f"holds Python code or objects ({found.group(1)}), not only tensors; such a file can run anything when "
            "opened and is refused. Ask its author for safetensors or a plain state dict"
        )
    return "is damaged, or a pickle of something other than tensors; download it again, or ask for safetensors"


def _tensors(content: Any, path: Path) -> StateDict:
    """Unwrap, and check that all values are tensors."""
    state = _unwrap(content, path)
    tensors = {key: value.detach() for key, value in state.items() if isinstance(value, Tensor)}
    foreign = [str(key) for key, value in state.items() if not isinstance(value, Tensor) or not isinstance(key, str)]
    if foreign or not tensors:
        what = f"values that are not tensors: {name_some(foreign)}" if foreign else "no tensors"
        raise WeightsError(f"{path}: is not a state dict: it has {what}")
    return tensors


def _unwrap(content: Any, path: Path) -> Mapping[Any, Any]:
    for _ in range(len(_WRAPPERS)):
        if not isinstance(content, Mapping):
            raise WeightsError(f"{path}: holds a {type(content).__name__}; expected a dictionary of tensors")
        inner = [content[name] for name in _WRAPPERS if isinstance(content.get(name), Mapping)]
        if not inner:
            return content
        content = inner[0]
    return content if isinstance(content, Mapping) else {}


def _common_prefix(keys: Iterable[str]) -> str:
    """What wrappers have put in front of every key: `module.`, `_orig_mod.`, both or nothing."""
    names, prefix = list(keys), ""
    while found := [extra for extra in _NAME_PREFIXES if all(name.startswith(prefix + extra) for name in names)]:
        prefix += found[0]
    return prefix


def _steps(state: StateDict) -> Iterator[list[_Part]]:
    """All elements of all tensors, in order, in lists of about equal bytes; a large tensor is cut."""
    budget = max(_MIN_STEP_BYTES, sum(tensor.nbytes for tensor in state.values()) // _CAST_STEPS)
    step: list[_Part] = []
    left = budget
    for key, tensor in state.items():
        start = 0
        while start < tensor.numel():
            stop = min(tensor.numel(), start + max(1, left // tensor.itemsize))
            step.append(_Part(key, start, stop))
            left -= (stop - start) * tensor.itemsize
            start = stop
            if left <= 0:
                yield step
                step, left = [], budget
    if step:
        yield step
