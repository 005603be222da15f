"""The model hub: one function that downloads a file, and the translation of everything that can go wrong.

Tests replace `_hf_hub_download`; beside the search for CLIP's vocabulary nothing else in perceptic touches the network.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perceptic.errors import ConfigError, HubError, OutputError, PercepticError, WeightsNotFoundError
from perceptic.network import hub_is_known
from perceptic.zoo import HubFile


@dataclass(frozen=True)
class HubOptions:
    """How to download: a git revision, a cache folder other than the usual one, cached files only."""

    revision: str | None = None
    cache_dir: str | Path | None = None
    local_files_only: bool = False


def download(file: HubFile, options: HubOptions) -> Path:
    """A hub file in the local cache, downloaded if it is not there.

    Raises:
        WeightsNotFoundError: no such repository, revision or file.
        HubError: the repository is gated or private, the network is down, or the file is not cached while offline.
        OutputError: the cache cannot be written (no space, no permission).
    """
    try:
        return Path(_hf_hub_download(file, options))
    except Exception as error:
        raise _translate(error, file, options) from error


def download_if_there(file: HubFile, options: HubOptions) -> Path | None:
    """As `download`, but None where the repository has no such file, or offline where it is not cached."""
    from huggingface_hub import errors as hub

    try:
        return download(file, options)
    except (HubError, WeightsNotFoundError) as error:
        if isinstance(error.__cause__, hub.EntryNotFoundError | hub.OfflineModeIsEnabled):
            return None
        raise


def is_cached(file: HubFile, options: HubOptions | None = None) -> bool:
    """Whether the file is in the local cache of the hub; never touches the network."""
    from huggingface_hub import try_to_load_from_cache

    options = options or HubOptions()
    found = try_to_load_from_cache(file.repo_id, file.filename, cache_dir=options.cache_dir, revision=options.revision)
    return isinstance(found, str)


def parse_uri(uri: str) -> HubFile:
    """`hf://org/repo:file` as a hub file.

    Raises:
        ConfigError: another shape.
    """
    repo_id, colon, filename = uri.removeprefix("hf://").partition(":")
    if not colon or not filename or repo_id.count("/") != 1:
        raise ConfigError(f"'{uri}' is not a hub file; expected hf://organisation/repository:file")
    return HubFile(repo_id, filename)


def _hf_hub_download(file: HubFile, options: HubOptions) -> str:
    from huggingface_hub import hf_hub_download

    path: str = hf_hub_download(
        repo_id=file.repo_id,
        filename=file.filename,
        revision=options.revision,
        cache_dir=options.cache_dir,
        local_files_only=options.local_files_only or not hub_is_known(),
    )
    return path


def _translate(error: Exception, file: HubFile, options: HubOptions) -> PercepticError:
    """The error to raise instead of the hub's. The order matters: their classes derive from each other."""
    from huggingface_hub import errors as hub

    at = f" at revision '{options.revision}'" if options.revision else ""
    page = f"https://huggingface.co/{file.repo_id}"
    if isinstance(error, hub.GatedRepoError):
        return HubError(
            f"{file.repo_id}: is gated: accept its licence at {page}, then log in with 'hf auth login' or set HF_TOKEN"
        )
    if isinstance(error, hub.RepositoryNotFoundError):
        return WeightsNotFoundError(
            f"{file.repo_id}: no such repository on the hub, or it is private; check the name, "
            "or log in with 'hf auth login' if it is yours"
        )
    if isinstance(error, hub.RevisionNotFoundError):
        return WeightsNotFoundError(f"{file.repo_id}: has no revision '{options.revision}'; see {page}")
    if isinstance(error, hub.LocalEntryNotFoundError | hub.OfflineModeIsEnabled):
        return HubError(
            f"{file}{at}: is not in the local cache and the hub cannot be reached (no network, HF_HUB_OFFLINE or "
            "local_files_only). Connect once, or give the path of a downloaded file. The bundled model "
            "PE-Core-Nano needs no network"
        )
    if isinstance(error, hub.EntryNotFoundError):
        return WeightsNotFoundError(f"{file.repo_id}: has no file '{file.filename}'{at}; see {page}/tree/main")
    if isinstance(error, hub.HFValidationError):
        return WeightsNotFoundError(f"'{file.repo_id}' cannot be a repository: {error}")
    if isinstance(error, hub.HfHubHTTPError):
        return _translate_status(error, file, page)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(f"no space left for {file}; free some, or choose another disk with cache_dir= or HF_HOME")
    if isinstance(error, PermissionError):
        return OutputError(
            f"{error.filename or 'the cache'}: no permission to store {file}; choose another folder with cache_dir= "
            "or HF_HOME"
        )
    return HubError(f"{file}: download failed: {str(error) or type(error).__name__}; check the network and try again")


def _translate_status(error: Any, file: HubFile, page: str) -> HubError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return HubError(
            f"{file}: the hub refused access ({status}): accept the licence at {page} if it asks for one, and log in "
            "with 'hf auth login' or set HF_TOKEN"
        )
    if status == 429:
        return HubError(f"{file}: the hub asks to slow down (429); wait a minute, or log in for a higher limit")
    return HubError(f"{file}: the hub answered with an error ({status or error}); try again later")
