"""What a user writes for a PerceptionLM -> a folder on this disk.

A source is a folder, a file inside one, a zoo name in any usual spelling, or an `organisation/repository` on the hub.
"""

from __future__ import annotations

import difflib
import logging
import re
from pathlib import Path

from perceptic.errors import WeightsNotFoundError
from perceptic.text.llama_tokenizer import RANK_FILE, TOKENIZER_JSON
from perceptic.weights.folder import CONFIG_FILE, PREPROCESSING_FILE, WEIGHTS_FILE
from perceptic.weights.hub import HubOptions, download, download_if_there, is_cached
from perceptic.weights.plm_card import PLM_CARDS, find_plm_card
from perceptic.weights.plm_folder import IMAGE_PROCESSOR_FILE, PROCESSOR_FILE
from perceptic.weights.shards import INDEX_FILE, shard_names
from perceptic.zoo import HubFile

logger = logging.getLogger(__name__)

_REPO = re.compile(r"[\w.-]+/[\w.-]+")
_SIDE_FILES = (PREPROCESSING_FILE, PROCESSOR_FILE, IMAGE_PROCESSOR_FILE, RANK_FILE, TOKENIZER_JSON)


def find_plm_folder(source: str | Path, options: HubOptions | None = None) -> Path:
    """Resolve a source, downloading if needed. A path that exists comes before a name.

    Raises:
        WeightsNotFoundError: no such folder, model name or repository; a near name is suggested.
        HubError, OutputError: the download failed; for a gated repository the message says how to get access.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if path.is_file():
        return path.parent
    card = find_plm_card(str(source)) if isinstance(source, str) else None
    if card is not None:
        return _from_repository(card.repo_id, card.licence, options or HubOptions())
    if isinstance(source, str) and _REPO.fullmatch(source):
        return _from_repository(source, f"see https://huggingface.co/{source}", options or HubOptions())
    near = difflib.get_close_matches(str(source), PLM_CARDS, n=1, cutoff=0.4)
    hint = f"did you mean '{near[0]}'?" if near else f"known names: {', '.join(PLM_CARDS)}"
    raise WeightsNotFoundError(f"'{source}': no such folder, PerceptionLM name or repository; {hint}")


def _from_repository(repo_id: str, licence: str, options: HubOptions) -> Path:
    config = HubFile(repo_id, CONFIG_FILE)
    if not is_cached(config, options):
        logger.warning("downloading %s; its licence: %s", repo_id, licence)
    folder = download(config, options).parent
    for name in _SIDE_FILES:
        download_if_there(HubFile(repo_id, name), options)
    index = download_if_there(HubFile(repo_id, INDEX_FILE), options)
    for name in [WEIGHTS_FILE] if index is None else shard_names(index):
        download(HubFile(repo_id, name), options)
    return folder
