"""Webdataset tar shards as the real data sets are laid out: contrastive, zero-shot, retrieval and video.

Layouts: datasets-and-benchmarks sections 1.1 and 3.1.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perceptic.files import atomic_path, write_text


@dataclass(frozen=True, slots=True)
class ShardSample:
    """One sample: its members' contents by extension, without a dot ("png", "txt", "json", "cls", "mp4")."""

    key: str
    members: dict[str, bytes]


def write_shard(path: Path, samples: Iterable[ShardSample]) -> None:
    """Write one tar whole or not at all; equal samples give equal bytes.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic_path(path) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as archive:
        for sample in samples:
            for extension, content in sample.members.items():
                member = tarfile.TarInfo(f"{sample.key}.{extension}")
                member.size, member.mtime, member.mode = len(content), 0, 0o644
                archive.addfile(member, io.BytesIO(content))


def sample_key(index: int) -> str:
    """Key of a sample: "s" and seven digits."""
    return f"s{index:07d}"


def captions_member(captions: Sequence[str]) -> bytes:
    """Captions one per line, newlines within them escaped."""
    return "\n".join(caption.replace("\\", "\\\\").replace("\n", "\\n") for caption in captions).encode()


def json_member(value: dict[str, Any]) -> bytes:
    """A JSON sidecar."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def write_split_files(root: Path, split: str, num_shards: int) -> None:
    """`<root>/<split>/nshards.txt`, which completes a split once its shards are there."""
    write_text(root / split / "nshards.txt", f"{num_shards}\n")


def write_retrieval_files(root: Path) -> None:
    """Mark a data set as image-text retrieval."""
    write_text(root / "dataset_type.txt", "retrieval\n")


def write_classification_files(root: Path, class_names: Sequence[str], templates: Sequence[str]) -> None:
    """Class names (line number = label) and prompt templates with `{c}`."""
    write_text(root / "classnames.txt", "".join(f"{name}\n" for name in class_names))
    write_text(root / "zeroshot_classification_templates.txt", "".join(f"{template}\n" for template in templates))
