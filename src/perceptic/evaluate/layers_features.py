"""Patch features of every layer in one pass, kept on disk so that a sweep computes them once.

A store is a folder with one array per layer: `patches-05.npy` (N, R, C, D) and `pooled-05.npy` (N, D), the mean over
patches, both float16; `done.json` is written last. Arrays are mapped, not read: fifty layers of a large model exceed
any memory. Layers are numbered from 0 as everywhere in the package; pages print them from 1 as the papers do.

Shapes: N pictures, R, C rows and columns of patches, D width, S side in pixels.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from perceptic.errors import OutputError
from perceptic.evaluate.request import OnProgress, ignore_progress
from perceptic.files import atomic_path, write_text
from perceptic.models.vision import VisionTransformer

_BATCH = 32
Half = NDArray[np.float16]


@dataclass(frozen=True)
class Pictures:
    """Pictures that are made when they are asked for.

    Attributes:
        identity: says everything that decides the pixels. count: how many.
        read: pixels (3, S, S) of picture i, float in [-1, 1].
    """

    identity: str
    count: int
    read: Callable[[int], Tensor]


@dataclass(frozen=True)
class LayerStore:
    """The features of a set of pictures, layer by layer."""

    folder: Path

    def pooled(self, layer: int) -> Tensor:
        """(N, D) float32: the mean over patches."""
        return torch.from_numpy(np.load(self.folder / f"pooled-{layer:02d}.npy")).float()

    def patches(self, layer: int) -> Tensor:
        """(N, R, C, D) float16."""
        mapped: Half = np.load(self.folder / f"patches-{layer:02d}.npy", mmap_mode="r")
        return torch.from_numpy(np.array(mapped))


@torch.inference_mode()
def intermediate_maps(tower: VisionTransformer, pixels: Tensor, layers: Sequence[int]) -> list[Tensor]:
    """Raw patch features (no final norm) of `layers`, in their order, each (B, R, C, D), from one pass."""
    wanted = sorted(set(layers))
    found = tower.forward_intermediates(pixels, indices=wanted, stop_early=True, intermediates_only=True)
    by_layer = dict(zip(wanted, found, strict=True))
    maps: list[Tensor] = []
    for layer in layers:
        map_BDRC = by_layer[layer]
        assert isinstance(map_BDRC, Tensor)
        maps.append(map_BDRC.permute(0, 2, 3, 1))
    return maps


def layer_store(
    tower: VisionTransformer,
    fingerprint: str,
    pictures: Pictures,
    layers: Sequence[int],
    root: Path,
    *,
    keep_patches: bool,
    on_progress: OnProgress = ignore_progress,
) -> LayerStore:
    """The features of `pictures` at `layers`, computed below `root` unless they are there already.

    Args:
        fingerprint: of the tower's weights. keep_patches: False keeps the pooled features alone.

    Raises:
        OutputError: the features do not fit on the disk, or cannot be written.
    """
    facts = {"model": fingerprint, "pictures": pictures.identity, "layers": list(layers), "patches": keep_patches}
    text = json.dumps(facts, sort_keys=True)
    folder = root / hashlib.sha256(text.encode()).hexdigest()[:16]
    if not (folder / "done.json").exists():
        _compute(tower, pictures, layers, folder, keep_patches, on_progress)
        write_text(folder / "done.json", text)
    return LayerStore(folder)


def _compute(
    tower: VisionTransformer,
    pictures: Pictures,
    layers: Sequence[int],
    folder: Path,
    keep_patches: bool,
    on_progress: OnProgress,
) -> None:
    rows, columns = tower.grid(pictures.read(0)[None])
    shapes: dict[str, tuple[int, ...]] = {"pooled": (pictures.count, tower.config.width)}
    if keep_patches:
        shapes["patches"] = (pictures.count, rows, columns, tower.config.width)
    _require_space(folder, sum(int(np.prod(shape)) for shape in shapes.values()) * 2 * len(layers), len(layers))
    with ExitStack() as files:
        arrays: dict[tuple[str, int], Half] = {}
        for kind, shape in shapes.items():
            for layer in layers:
                path = files.enter_context(atomic_path(folder / f"{kind}-{layer:02d}.npy"))
                arrays[kind, layer] = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
        for start in range(0, pictures.count, _BATCH):
            stop = min(start + _BATCH, pictures.count)
            pixels = torch.stack([pictures.read(index) for index in range(start, stop)])
            for layer, maps in zip(layers, intermediate_maps(tower, pixels, layers), strict=True):
                arrays["pooled", layer][start:stop] = maps.mean(dim=(1, 2)).half().numpy()
                if keep_patches:
                    arrays["patches", layer][start:stop] = maps.half().numpy()
            on_progress("features", stop, pictures.count)


def _require_space(folder: Path, needed: int, num_layers: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed > 0.95 * free:
        raise OutputError(
            f"{folder}: features of {num_layers} layers take {needed / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are "
            "free; name fewer --layers, a smaller --limit, or an --out on a larger disk"
        )
