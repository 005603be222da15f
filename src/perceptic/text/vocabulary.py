"""From merges to ids, and where CLIP's own merges are found (spec 5).

A vocabulary of this design is its list of merges: 256 byte symbols, the same with the word-end mark, one id per merge
in rank order, then start and end of text. The end has the largest id, which is how the text tower finds it.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Sequence
from pathlib import Path

from perceptic import optional
from perceptic.errors import TextError
from perceptic.network import hub_is_known
from perceptic.text.pieces import SPECIAL_TOKENS, WORD_END, byte_symbols

Merge = tuple[str, str]

CLIP_NUM_MERGES = 48_894
CLIP_MERGES_SHA256 = "67603cfda2e032ad77b5f8808af37789d590db664b26df8705d2bf8b3c553fc8"
CLIP_MERGES_FILE = "bpe_simple_vocab_16e6.txt.gz"
# Of the used merges alone, one "left right" per line: the same list may come from a tokenizer.json.
CLIP_MERGES_LIST_SHA256 = "f61f2adf497e6f5357c347aeb4646fabe82f341e946de5bdec5d2858e41bef4a"

# PE repositories carry weights only. OpenAI's CLIP has the same merges under an MIT licence, in the usual file.
HUB_REPOSITORY = "openai/clip-vit-base-patch32"
HUB_FILE = "tokenizer.json"


def build_vocabulary(merges: Sequence[Merge]) -> dict[str, int]:
    """Symbol -> id, `512 + len(merges) + 2` entries.

    Raises:
        TextError: a merge uses a symbol that does not exist yet, or makes one that does.
    """
    symbols = list(byte_symbols().values())
    vocabulary = {symbol: token_id for token_id, symbol in enumerate(symbols + [s + WORD_END for s in symbols])}
    for rank, (left, right) in enumerate(merges):
        merged = left + right
        if left not in vocabulary or right not in vocabulary or merged in vocabulary:
            raise TextError(
                f"merge number {rank} ({left!r}, {right!r}) does not join two known symbols into a new one; "
                "the merges are damaged or not in rank order"
            )
        vocabulary[merged] = len(vocabulary)
    for token in SPECIAL_TOKENS:
        vocabulary[token] = len(vocabulary)
    return vocabulary


def read_clip_merges(path: str | Path) -> list[Merge]:
    """The merges of CLIP's file `bpe_simple_vocab_16e6.txt.gz` (or unpacked), in rank order.

    Raises:
        TextError: no such file, damaged, or not that file by its SHA-256.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        text = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    except (OSError, EOFError, zlib.error) as error:
        raise TextError(f"{path}: the merges cannot be read: {error}") from error
    found = hashlib.sha256(text).hexdigest()
    if found != CLIP_MERGES_SHA256:
        raise TextError(
            f"{path}: is not CLIP's merges file: SHA-256 {found[:12]}... where {CLIP_MERGES_SHA256[:12]}... was "
            f"expected (unpacked). Reinstall open_clip_torch, whose copy is the right one"
        )
    lines = text.decode("utf-8").split("\n")[1 : 1 + CLIP_NUM_MERGES]  # line 1 is a header, the tail is unused
    return [(left, right) for left, right in (line.split() for line in lines)]


def check_clip_merges(merges: Sequence[Merge], source: object) -> None:
    """Raises TextError unless these are exactly CLIP's merges; `source` names their file in the message."""
    if merges_sha256(merges) != CLIP_MERGES_LIST_SHA256:
        raise TextError(f"{source}: these are not CLIP's {CLIP_NUM_MERGES} merges; delete the file and fetch it again")


def merges_sha256(merges: Sequence[Merge]) -> str:
    """Hex digest that names a vocabulary: over its merges, one `left right` per line."""
    return hashlib.sha256("\n".join(f"{left} {right}" for left, right in merges).encode()).hexdigest()


def installed_clip_merges() -> Path | None:
    """The copy inside an installed `open_clip_torch`, or None. open_clip is not imported: that takes seconds."""
    folder = optional.package_folder("open_clip")
    path = folder / CLIP_MERGES_FILE if folder is not None else None
    return path if path is not None and path.is_file() else None


def download_clip_tokenizer() -> Path:
    """CLIP's `tokenizer.json` from the hub, or from its local cache.

    Raises:
        TextError: the hub cannot be reached, refuses, or is switched off.
    """
    import huggingface_hub

    try:
        return Path(huggingface_hub.hf_hub_download(HUB_REPOSITORY, HUB_FILE, local_files_only=not hub_is_known()))
    except Exception as error:  # the hub's errors share no base class, and those of its HTTP library leak through
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise TextError(f"{HUB_REPOSITORY} on the hub: {reason}") from error
