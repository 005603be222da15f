"""A model as a folder: ours, and reading those of timm and open_clip.

Ours holds `config.json` ("format": "perceptic"), `model.safetensors`, `preprocessing.json`, `tokenizer.json` where
the model has its own vocabulary, and `README.md`, the model card. It is written whole or not at all.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from safetensors.torch import save_file
from torch import Tensor

from perceptic import zoo
from perceptic.configs import ClipConfig, Preprocessing, TextConfig, VisionConfig
from perceptic.errors import ConfigError, OutputError, WeightsError, WeightsNotFoundError
from perceptic.weights import foreign_config
from perceptic.weights.model_card import write_model_card

ModelType = Literal["clip", "vision", "text"]
AnyConfig = ClipConfig | VisionConfig | TextConfig

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
PREPROCESSING_FILE = "preprocessing.json"
TOKENIZER_FILE = "tokenizer.json"
CARD_FILE = "README.md"
OPEN_CLIP_CONFIG_FILE = "open_clip_config.json"
OUR_FILES = (CONFIG_FILE, WEIGHTS_FILE, PREPROCESSING_FILE, TOKENIZER_FILE, CARD_FILE)

# In order of preference: safetensors before pickles.
MODEL_WEIGHTS = (WEIGHTS_FILE, "pytorch_model.bin")
OPEN_CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")

_FORMAT_VERSION = 1
_CONFIG_CLASSES: dict[ModelType, type[ClipConfig] | type[VisionConfig] | type[TextConfig]] = {
    "clip": ClipConfig,
    "vision": VisionConfig,
    "text": TextConfig,
}


@dataclass(frozen=True)
class ModelFolder:
    """What a model folder says. `config` None: the shapes of the weights decide."""

    path: Path
    weights: Path
    config: AnyConfig | None = None
    preprocessing: Preprocessing | None = None


def read_folder(path: Path) -> ModelFolder:
    """Find weights and configuration in a folder of ours, timm's, open_clip's or with one weights file.

    Raises:
        WeightsNotFoundError: no weights in it, or several and nothing says which.
        WeightsError: a configuration file that is damaged.
    """
    described = _read_ours(path) or _read_open_clip(path) or _read_timm(path)
    return described or ModelFolder(path=path, weights=_only_weights(path))


def describe_file(path: Path) -> ModelFolder:
    """A weights file with the configuration beside it, if the file is the one that configuration belongs to."""
    if path.name in (*MODEL_WEIGHTS, *OPEN_CLIP_WEIGHTS):
        found = read_folder(path.parent)
        if found.weights == path:
            return found
    return ModelFolder(path=path.parent, weights=path)


def write_folder(
    destination: Path,
    state: Mapping[str, Tensor],
    config: AnyConfig,
    preprocessing: Preprocessing | None,
    *,
    readme: str | None = None,
    tokenizer: Any = None,
) -> None:
    """Write a folder in our own format, whole or not at all; an older model folder of ours is replaced.

    Args:
        state: names of the model itself (`visual.` and `text.` for CLIP, bare for a tower).
        readme: the model card; None writes a short one.
        tokenizer: an object with `save(path)`.

    Raises:
        OutputError: no space, no permission, or the folder holds other files than a model's.
    """
    with atomic_folder(destination, replaceable=OUR_FILES) as folder:
        write_weights(folder / WEIGHTS_FILE, state)
        write_description(folder, config, preprocessing, readme or write_model_card(destination.name, config))
        if tokenizer is not None:
            tokenizer.save(folder / TOKENIZER_FILE)


def write_description(folder: Path, config: AnyConfig, preprocessing: Preprocessing | None, readme: str) -> None:
    """Everything of our folder format but weights and vocabulary."""
    match = zoo.matching_card(config)
    content = {
        "format": "perceptic",
        "format_version": _FORMAT_VERSION,
        "model_type": model_type_of(config),
        "architecture": match.name if match else None,
        "config": config.to_dict(),
    }
    write_json(folder / CONFIG_FILE, content)
    if preprocessing is not None:
        write_json(folder / PREPROCESSING_FILE, preprocessing.to_dict())
    (folder / CARD_FILE).write_text(readme, encoding="utf-8")


def model_type_of(config: AnyConfig) -> ModelType:
    return next(name for name, kind in _CONFIG_CLASSES.items() if isinstance(config, kind))


def write_weights(path: Path, state: Mapping[str, Tensor]) -> None:
    """A safetensors file with the metadata that other libraries expect."""
    path.touch()
    mode = path.stat().st_mode  # safetensors makes a new file that only its owner can read
    save_file({key: value.detach().contiguous() for key, value in state.items()}, path, metadata={"format": "pt"})
    path.chmod(mode)


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


@contextlib.contextmanager
def atomic_folder(destination: Path, replaceable: tuple[str, ...] = (), force: bool = False) -> Iterator[Path]:
    """Yield an empty temporary folder beside `destination`; on success it becomes `destination`.

    Args:
        replaceable: an existing folder with only these files is replaced; any other is an error.
        force: replace an existing folder whatever is in it.

    Raises:
        OutputError: no space, no permission, a file in the way, or an existing folder that must not be replaced.
    """
    try:
        _check_replaceable(destination, replaceable, force)
        destination.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{destination.name}.part-", dir=destination.parent) as scratch:
            folder = Path(scratch) / "new"
            folder.mkdir()
            yield folder
            _flush(folder)
            if destination.exists():
                destination.rename(Path(scratch) / "old")
            folder.rename(destination)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"{destination}: cannot be written: {error.strerror or error}") from error


def _check_replaceable(destination: Path, replaceable: tuple[str, ...], force: bool) -> None:
    if destination.is_file():
        raise OutputError(f"{destination}: is a file; give a folder")
    if not destination.is_dir() or force:
        return
    others = sorted(entry.name for entry in destination.iterdir() if entry.name not in replaceable)
    if others:
        raise OutputError(f"{destination}: holds other files ({', '.join(others[:3])}); choose a new folder")


def _flush(folder: Path) -> None:
    for file in folder.iterdir():
        with file.open("rb") as stream:
            os.fsync(stream.fileno())


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises WeightsError naming the file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: expected a JSON object, not a {type(content).__name__}")
    return content


def _read_ours(path: Path) -> ModelFolder | None:
    fields = read_json(path / CONFIG_FILE) if (path / CONFIG_FILE).is_file() else {}
    if fields.get("format") != "perceptic":
        return None
    kind = _CONFIG_CLASSES.get(fields.get("model_type"))  # type: ignore[arg-type]  # checked on the next line
    if kind is None or not isinstance(fields.get("config"), dict):
        raise WeightsError(
            f'{path / CONFIG_FILE}: expected "model_type" of {", ".join(_CONFIG_CLASSES)} and a "config" object'
        )
    if fields.get("format_version", 0) > _FORMAT_VERSION:
        raise WeightsError(f"{path / CONFIG_FILE}: was written by a newer perceptic; update: pip install -U perceptic")
    preprocessing = None
    try:
        config = kind.from_dict(fields["config"])
        if (path / PREPROCESSING_FILE).is_file():
            preprocessing = Preprocessing.from_dict(read_json(path / PREPROCESSING_FILE))
    except ConfigError as error:
        raise WeightsError(f"{path}: {error}") from error
    return ModelFolder(
        path=path,
        weights=_first_file(path, MODEL_WEIGHTS),
        config=config,
        preprocessing=preprocessing,
    )


def _read_open_clip(path: Path) -> ModelFolder | None:
    if not (path / OPEN_CLIP_CONFIG_FILE).is_file():
        return None
    fields = read_json(path / OPEN_CLIP_CONFIG_FILE)
    try:
        config = foreign_config.read_open_clip(fields)
        preprocessing = None
        if config is not None:
            preprocessing = foreign_config.read_open_clip_preprocessing(fields, config.vision.image_size)
    except (ConfigError, TypeError) as error:
        raise WeightsError(f"{path / OPEN_CLIP_CONFIG_FILE}: {error}") from error
    weights = _first_file(path, OPEN_CLIP_WEIGHTS + MODEL_WEIGHTS)
    return ModelFolder(path=path, weights=weights, config=config, preprocessing=preprocessing)


def _read_timm(path: Path) -> ModelFolder | None:
    fields = read_json(path / CONFIG_FILE) if (path / CONFIG_FILE).is_file() else {}
    if "architecture" not in fields:
        return None
    try:
        config = foreign_config.read_timm(fields)
    except (ConfigError, TypeError) as error:
        raise WeightsError(f"{path / CONFIG_FILE}: {error}") from error
    return ModelFolder(path=path, weights=_first_file(path, MODEL_WEIGHTS), config=config)


def _first_file(folder: Path, candidates: tuple[str, ...]) -> Path:
    found = [folder / name for name in candidates if (folder / name).is_file()]
    if not found:
        raise WeightsNotFoundError(f"{folder}: has a configuration but no weights; expected {' or '.join(candidates)}")
    return found[0]


def _only_weights(folder: Path) -> Path:
    named = [folder / name for name in (*MODEL_WEIGHTS, *OPEN_CLIP_WEIGHTS) if (folder / name).is_file()]
    files = named[:1] or sorted(f for f in folder.iterdir() if f.suffix in (".safetensors", ".pt", ".bin", ".pth"))
    if len(files) == 1:
        return files[0]
    if not files:
        raise WeightsNotFoundError(f"{folder}: no weights in this folder; expected {WEIGHTS_FILE} or one .pt file")
    some = ", ".join(file.name for file in files[:4])
    raise WeightsNotFoundError(f"{folder}: several weights files ({some}); give the path of one")
