"""What a user writes for a PerceptionLM -> a folder on this disk.

A source is a folder, a file inside one, a zoo name in any usual spelling, or an `organisation/repository` on the hub.
PLM-Nano lies in this package.
"""

from __future__ import annotations

import difflib
import logging
import re
from pathlib import Path

from perceptic.configs_plm import PLM_CONFIGS
from perceptic.errors import WeightsNotFoundError
from perceptic.text.llama_tokenizer import RANK_FILE, TOKENIZER_JSON
from perceptic.weights.folder import CONFIG_FILE, PREPROCESSING_FILE, WEIGHTS_FILE
from perceptic.weights.hub import HubOptions, download, download_if_there, is_cached
from perceptic.weights.plm_card import NANO_FOLDER, NANO_NAME, PLM_CARDS, find_plm_card, has_nano_weights
from perceptic.weights.plm_folder import IMAGE_PROCESSOR_FILE, PROCESSOR_FILE
from perceptic.weights.shards import INDEX_FILE, shard_names
from perceptic.zoo import HubFile

logger = logging.getLogger(__name__)

NANO_TOKENIZER = NANO_FOLDER / RANK_FILE

_REPO = re.compile(r"[\w.-]+/[\w.-]+")
_SIDE_FILES = (PREPROCESSING_FILE, PROCESSOR_FILE, IMAGE_PROCESSOR_FILE, RANK_FILE, TOKENIZER_JSON)


def find_plm_folder(source: str | Path, options: HubOptions | None = None) -> Path:
    """Resolve a source, downloading if needed. A path that exists comes before a name.

    Raises:
        WeightsNotFoundError: no such folder, model name or repository; a near name is suggested. For PLM-Nano: the
            package has no trained weights of it; what to do instead is said.
        HubError, OutputError: the download failed; for a gated repository the message says how to get access.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if path.is_file():
        return path.parent
    if is_nano(source):
        return _nano_folder()
    card = find_plm_card(str(source)) if isinstance(source, str) else None
    if card is not None:
        return _from_repository(card.repo_id, card.licence, options or HubOptions())
    if isinstance(source, str) and _REPO.fullmatch(source):
        return _from_repository(source, f"see https://huggingface.co/{source}", options or HubOptions())
    near = difflib.get_close_matches(str(source), PLM_CONFIGS, n=1, cutoff=0.4)
    hint = f"did you mean '{near[0]}'?" if near else f"known names: {', '.join(PLM_CONFIGS)}"
    raise WeightsNotFoundError(f"'{source}': no such folder, PerceptionLM name or repository; {hint}")


def is_nano(source: str | Path) -> bool:
    """Whether this is a spelling of PLM-Nano."""
    return isinstance(source, str) and source.strip().lower().replace("_", "-") == NANO_NAME.lower()


def _nano_folder() -> Path:
    if has_nano_weights():
        return NANO_FOLDER
    first = next(iter(PLM_CARDS.values()))
    raise WeightsNotFoundError(
        f"{NANO_NAME}: this version of perceptic brings no trained weights for it. For real answers name a released "
        f"model: --model {first.name} (downloads it; licence: {first.licence}). To try every command offline with "
        f"random weights, whose answers are noise: perceptic init {NANO_NAME} my-plm, then --model my-plm"
    )


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
