"""What a user writes for a model -> files on this disk.

A source is a path (file or folder), `hf://organisation/repository:file`, a zoo name in any spelling that `zoo.locate`
knows, or any other `organisation/repository` on the hub.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path

from perceptic import zoo
from perceptic.configs import Preprocessing
from perceptic.errors import WeightsNotFoundError
from perceptic.weights import folder as folders
from perceptic.weights.hub import HubOptions, download, download_if_there, is_cached, parse_uri
from perceptic.zoo import HubFile, ModelCard

logger = logging.getLogger(__name__)

_REPO = re.compile(r"(?:hf-hub:)?([\w.-]+/[\w.-]+)")
_WEIGHT_SUFFIXES = (".pt", ".pth", ".bin", ".safetensors")
_SIDE_FILES = (
    folders.CONFIG_FILE,
    folders.OPEN_CLIP_CONFIG_FILE,
    folders.PREPROCESSING_FILE,
    folders.TOKENIZER_FILE,
)


@dataclass(frozen=True)
class ModelFiles:
    """A model's files on this disk, and what is known about them without opening the weights."""

    name: str
    weights: Path
    config: folders.AnyConfig | None
    preprocessing: Preprocessing | None
    folder: Path | None  # where tokenizer.json may lie
    card: ModelCard | None  # only where the source is a model of the zoo


def find_files(source: str | Path, options: HubOptions | None = None) -> ModelFiles:
    """Resolve a source, downloading if needed. A path that exists comes before a name.

    Raises:
        WeightsNotFoundError: no such file, folder, model name or repository; near names are listed.
        HubError, OutputError: the download failed (`perceptic.weights.hub`).
        WeightsError: a damaged configuration file in a folder.
    """
    options = options or HubOptions()
    text = str(source)
    path = Path(source).expanduser()
    if path.exists():
        found = folders.read_folder(path) if path.is_dir() else folders.describe_file(path)
        return _from_folder(text, found)
    if isinstance(source, Path):
        raise WeightsNotFoundError(f"{path}: no such file or folder")
    if text.startswith("hf://"):
        file = parse_uri(text)
        location = zoo.locate(file.repo_id)
        return _from_hub(text, file, location.card if location else None, options)
    location = zoo.locate(text)
    if location is not None:
        if location.file is None:
            return _from_bundle(location.card)
        return _from_hub(location.card.name, location.file, location.card, options)
    return _from_repository(text, options)


def _from_folder(name: str, found: folders.ModelFolder, card: ModelCard | None = None) -> ModelFiles:
    return ModelFiles(
        name=name,
        weights=found.weights,
        config=found.config,
        preprocessing=found.preprocessing,
        folder=found.path,
        card=card,
    )


def _from_bundle(card: ModelCard) -> ModelFiles:
    folder = card.folder
    if folder is None or not (folder / folders.WEIGHTS_FILE).is_file():
        raise WeightsNotFoundError(
            f"{card.name}: its files are missing from this installation ({folder}); reinstall perceptic, or in a "
            "source checkout train it first (perceptic train --help)"
        )
    return _from_folder(card.name, folders.read_folder(folder), card)


def _from_hub(name: str, file: HubFile, card: ModelCard | None, options: HubOptions) -> ModelFiles:
    _announce(file, card, options)
    weights = download(file, options)
    # A released model is described by its card: its repository needs no other file.
    return ModelFiles(name=name, weights=weights, config=None, preprocessing=None, folder=None, card=card)


def _from_repository(text: str, options: HubOptions) -> ModelFiles:
    found = _REPO.fullmatch(text)
    if found is None or text.endswith(_WEIGHT_SUFFIXES):
        what = "no such file" if text.endswith(_WEIGHT_SUFFIXES) else "no such file, folder, model or repository"
        raise WeightsNotFoundError(f"'{text}': {what}; {zoo.suggest(text)}")
    repo_id = found.group(1)
    try:
        for name in _SIDE_FILES:
            download_if_there(HubFile(repo_id, name), options)
    except WeightsNotFoundError as error:
        raise WeightsNotFoundError(f"{error}; {zoo.suggest(text)}") from error
    candidates = (*folders.MODEL_WEIGHTS, *folders.OPEN_CLIP_WEIGHTS, repo_id.rpartition("/")[2] + ".pt")
    for name in candidates:
        file = HubFile(repo_id, name)
        _announce(file, None, options)
        weights = download_if_there(file, options)
        if weights is not None:
            return _from_folder(text, folders.describe_file(weights))
    # Nothing came: let the download of the first say why (offline), or say what was looked for.
    try:
        download(HubFile(repo_id, candidates[0]), options)
    except WeightsNotFoundError as error:
        raise WeightsNotFoundError(f"{repo_id}: has none of {', '.join(candidates)}; {zoo.suggest(text)}") from error
    raise WeightsNotFoundError(f"{repo_id}: its files changed while they were read; try again")


def _announce(file: HubFile, card: ModelCard | None, options: HubOptions) -> None:
    if not is_cached(file, options):
        licence = card.licence if card else f"see https://huggingface.co/{file.repo_id}"
        logger.info("downloading %s (licence: %s)", file, licence)
