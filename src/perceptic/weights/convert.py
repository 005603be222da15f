"""One checkpoint into another format: load strictly, write the released layout, read back and compare.

Layouts (perception-encoder spec sections 3.1 to 3.4): original is one `.pt` file with a flat float32 state dict;
timm and open_clip are folders with safetensors and their configuration; ours is `weights.folder`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from perceptic.configs import ClipConfig, VisionConfig
from perceptic.errors import ConfigError, OutputError, WeightsError
from perceptic.files import atomic_path
from perceptic.weights import folder as folders
from perceptic.weights.checkpoint import open_checkpoint
from perceptic.weights.dtypes import dtype_name, parse_dtype
from perceptic.weights.foreign_config import write_open_clip, write_timm
from perceptic.weights.formats import FORMATS, PREFIXES, Format, FormatName
from perceptic.weights.loading import identify
from perceptic.weights.model_card import write_model_card
from perceptic.weights.names import StateDict
from perceptic.weights.pretrained import CLIP, VisionTransformer, load_open_weights
from perceptic.weights.sources import ModelFiles, find_files
from perceptic.zoo import matching_card


@dataclass(frozen=True)
class Conversion:
    """What `convert` did. `architecture` is the zoo model of the same shapes, if any."""

    source: str
    source_format: FormatName
    destination: Path
    target_format: FormatName
    architecture: str | None
    towers: tuple[str, ...]
    num_tensors: int
    parameters: int
    dtype: str
    num_bytes: int
    notes: tuple[str, ...]


def convert(
    source: str | Path,
    destination: str | Path,
    to: FormatName,
    *,
    dtype: torch.dtype | str | None = None,
    config: folders.AnyConfig | Mapping[str, Any] | None = None,
    force: bool = False,
) -> Conversion:
    """Write a model in another format, whole or not at all. What was written is read back and compared bit by bit.

    Args:
        source: as `from_pretrained` takes it.
        destination: a file for `original`, a folder for the others.
        dtype: stored type; None keeps the source's, except that `original` is always float32 unless you say otherwise.
        config: the architecture, where name, folder and shapes do not say it.
        force: replace what is there.

    Raises:
        OutputError: the destination exists (without `force`) or cannot be written.
        WeightsError and its kinds, ConfigError: the source cannot be loaded, or `to` cannot hold it.
    """
    if to not in FORMATS:
        raise ConfigError(f"no format is named '{to}'; choose one of {', '.join(FORMATS)}")
    destination = Path(destination)
    if destination.exists() and not force:
        raise OutputError(f"{destination}: exists; choose another name or force")
    wanted = parse_dtype(dtype) or (torch.float32 if to == "original" else None)
    files = find_files(source)
    weights = identify(open_checkpoint(files.weights))
    is_clip = weights.towers == {"vision", "text"} and to != "timm"
    model: CLIP | VisionTransformer
    if is_clip:
        model = load_open_weights(CLIP, files, weights, config, wanted)
    else:
        model = load_open_weights(VisionTransformer, files, weights, config, wanted)
    state = _prefixed(model)
    target = FORMATS[to]
    _write(destination, target, target.from_perceptic(state), model, files, force)
    return Conversion(
        source=files.name,
        source_format=weights.form.name,
        destination=destination,
        target_format=to,
        architecture=card.name if (card := matching_card(model.config)) else None,
        towers=("vision", "text") if is_clip else ("vision",),
        num_tensors=len(state),
        parameters=sum(value.numel() for value in state.values()),
        dtype=dtype_name(next(model.parameters()).dtype),
        num_bytes=_size(destination),
        notes=tuple(_notes(to, weights.towers == {"vision", "text"}, model.config)),
    )


def _prefixed(model: CLIP | VisionTransformer) -> StateDict:
    prefix = "" if isinstance(model, CLIP) else PREFIXES["vision"]
    return {prefix + key: value for key, value in model.state_dict().items()}


def _write(
    destination: Path,
    target: Format,
    state: StateDict,
    model: CLIP | VisionTransformer,
    files: ModelFiles,
    force: bool,
) -> None:
    if target.name == "original":
        with atomic_path(destination) as temporary:
            torch.save(state, temporary)
            _verify(temporary, state)
        return
    weights_name = folders.OPEN_CLIP_WEIGHTS[0] if target.name == "open_clip" else folders.WEIGHTS_FILE
    with folders.atomic_folder(destination, force=force) as folder:
        folders.write_weights(folder / weights_name, state)
        _verify(folder / weights_name, state)
        _write_description(folder, destination.name, target, model)
        tokenizer = None if files.folder is None else files.folder / folders.TOKENIZER_FILE
        if isinstance(model, CLIP) and tokenizer is not None and tokenizer.is_file():
            shutil.copyfile(tokenizer, folder / folders.TOKENIZER_FILE)


def _write_description(folder: Path, name: str, target: Format, model: CLIP | VisionTransformer) -> None:
    config: ClipConfig | VisionConfig = model.config
    if target.name == "open_clip":
        assert isinstance(config, ClipConfig)
        folders.write_json(folder / folders.OPEN_CLIP_CONFIG_FILE, write_open_clip(config))
    elif target.name == "timm":
        assert isinstance(config, VisionConfig)
        folders.write_json(folder / folders.CONFIG_FILE, write_timm(config))
    else:
        folders.write_description(folder, config, model.preprocessing, write_model_card(name, config))


def _verify(path: Path, state: Mapping[str, Tensor]) -> None:
    checkpoint = open_checkpoint(path)
    written = checkpoint.read(checkpoint.shapes.keys())
    if written.keys() != state.keys() or not all(torch.equal(written[key], state[key]) for key in state):
        raise WeightsError(f"{path}: reads back other than it was written; the disk may be failing")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else sum(file.stat().st_size for file in path.iterdir())


def _notes(to: FormatName, has_text: bool, config: ClipConfig | VisionConfig) -> Iterator[str]:
    """What the user should know about the result."""
    vision = config.vision if isinstance(config, ClipConfig) else config
    is_released = matching_card(vision) is not None
    if to == "timm" and has_text:
        yield "timm holds the vision tower only: the text tower is not in the result"
    if to == "timm" and vision.pool_type == "none":
        yield "timm's default head averages the patch tokens of this tower; forward_features is the same as here"
    if to in ("timm", "open_clip"):
        yield "equal at the native image size; timm computes other sizes differently (docs/weights.md)"
    if to == "open_clip" and not is_released:
        yield "not a released size: open_clip needs a timm model registered with the arguments in trunk_args"
