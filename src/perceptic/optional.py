"""The only place that tests for optional packages.

Import names are mapped to the extra that installs them, so that every message says `pip install 'perceptic[...]'`.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

from perceptic.errors import MissingDependencyError

_EXTRAS = {
    "open_clip": "clip-vocabulary",
    "torchcodec": "torchcodec",
    "timm": "parity",
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "trackio": "trackio",
    "lmms_eval": "lmms-eval",
    "mteb": "mteb",
}


def is_installed(module: str) -> bool:
    """Whether `module` can be found, without importing it (finding is cheap, importing torchcodec is not)."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def package_folder(module: str) -> Path | None:
    """Where a package's files lie, without importing it; None if it is not installed."""
    spec = importlib.util.find_spec(module) if is_installed(module) else None
    folders = spec.submodule_search_locations if spec is not None else None
    return Path(folders[0]) if folders else None


def require(module: str, purpose: str) -> ModuleType:
    """Import an optional module.

    Raises:
        MissingDependencyError: it is not installed; the message says what it is for and how to get it.
    """
    if not is_installed(module):
        extra = _EXTRAS.get(module)
        command = f"pip install 'perceptic[{extra}]'" if extra else f"pip install {module}"
        raise MissingDependencyError(f"{purpose} needs the package '{module}'. Install it: {command}")
    return importlib.import_module(module)
