"""Embed images and videos: in memory (`embed`) or into a file that survives interruption (`embed_to_file`).

A video's vector is the mean of its normalised frame embeddings, normalised (spec section 6.2, the retrieval protocol).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from perceptic.inference.encode import DTypeName, Encoder, ResizeMethod, load_encoder, pool_frames
from perceptic.media.collection import MediaFile
from perceptic.media.prefetch import Failure
from perceptic.tasks.embeddings_file import Embedding, EmbeddingSettings
from perceptic.tasks.journal import open_journal
from perceptic.tasks.media_list import FileState, MediaList, Paths, absolute_list, file_state, list_media
from perceptic.tasks.media_stream import (
    DEFAULT_BATCH_SIZE,
    DEFAULT_NUM_FRAMES,
    OnProgress,
    encode_media,
    ignore_progress,
)

DEFAULT_MODEL = "PE-Core-Nano"
_ROWS_PER_PART = 4096


@dataclass(frozen=True)
class Embeddings:
    """What `embed` returns: one `Embedding` per file, in the order of the files found."""

    items: tuple[Embedding, ...]
    settings: EmbeddingSettings

    @property
    def vectors(self) -> np.ndarray:
        """(N, E) float32 unit vectors of the files that could be read."""
        rows = [item.vector for item in self.items if item.vector is not None]
        return np.stack(rows) if rows else np.zeros((0, self.settings.embedding_size), np.float32)

    @property
    def paths(self) -> list[str]:
        """The paths of `vectors`, row by row."""
        return [item.path for item in self.items if item.vector is not None]

    @property
    def failures(self) -> dict[str, str]:
        """Path -> reason of the files that could not be read."""
        return {item.path: item.error for item in self.items if item.error is not None}


@dataclass(frozen=True)
class EmbedSummary:
    """What `embed_to_file` did. `skipped` files had a vector already; `failures` maps path to reason."""

    output: str
    model: str
    embedding_size: int
    files: int
    embedded: int
    skipped: int
    failed: int
    seconds: float
    failures: dict[str, str]


def embed(
    paths: Paths,
    *,
    model: str | Path | Encoder = DEFAULT_MODEL,
    num_frames: int = DEFAULT_NUM_FRAMES,
    batch_size: int = DEFAULT_BATCH_SIZE,
    device: str = "auto",
    dtype: DTypeName = "auto",
    method: ResizeMethod | None = None,
    on_progress: OnProgress = ignore_progress,
) -> Embeddings:
    """Embed images and videos with one model.

    Args:
        paths: files, folders (searched deeply) and globs.
        model: a zoo name, hub repository, folder or file; or an `Encoder` to keep a model between calls.
        num_frames: frames taken evenly from each video.
        batch_size: frames that go through the model at once.
        device: "auto" or a torch device name.
        dtype: what the model computes in; vectors are float32 always. "auto": bfloat16 if the weights were saved in it
            and the device has units for it (cosine above 0.9999 to float32 with PE-Core-Nano), else float32.
        method: "exact" resizes as in training, "fast" is up to one grey level off and 1.6 to 3 times faster; None: as
            the model says (exact).
        on_progress: called after every file.

    Returns:
        One unit vector or one reason per file, in natural order; at the end one reason for each path that names
        nothing. A file that cannot be read does not stop the others.

    Raises:
        DataError, MediaError: no image or video was found at all.
        WeightsError: the model cannot be found or read.
    """
    encoder = load_encoder(model, device=device, dtype=dtype, method=method)
    media = list_media(paths)
    files = media.files
    embedded = embed_files(encoder, files, num_frames=num_frames, batch_size=batch_size, on_progress=on_progress)
    rows = {row.path: row for row in embedded}
    items = (*(rows[str(file.path)] for file in files), *_missing_rows(media))
    return Embeddings(items, embedding_settings(encoder, num_frames))


def embed_to_file(
    paths: Paths,
    output: str | Path,
    *,
    model: str | Path | Encoder = DEFAULT_MODEL,
    num_frames: int = DEFAULT_NUM_FRAMES,
    batch_size: int = DEFAULT_BATCH_SIZE,
    device: str = "auto",
    dtype: DTypeName = "auto",
    method: ResizeMethod | None = None,
    restart: bool = False,
    save_every_seconds: float = 5.0,
    on_progress: OnProgress = ignore_progress,
) -> EmbedSummary:
    """Embed images and videos into a parquet, npz or npy file (by suffix), resumably.

    Files that have a vector in the output already (same absolute path, size and modification time) are skipped, so
    running the same call again continues after any interruption, SIGKILL included, and adds what is new.
    Rows of files that are not in `paths` stay. The arguments of `embed` mean the same here.

    Args:
        output: where to write; `<output>.parts` beside it holds unfinished work.
        restart: begin anew instead of continuing.
        save_every_seconds: at most about this much work is lost when the process dies.

    Raises:
        ConfigError: an unknown suffix, or an existing output made with other settings.
        DataError, MediaError: nothing to embed, or the existing output is not one of ours.
        OutputError: no space, no permission, or another process writes the same output.
        KeyboardInterrupt: passed on after saving; its text says how to continue.
    """
    started = time.monotonic()
    encoder = load_encoder(model, device=device, dtype=dtype, method=method)
    media = absolute_list(list_media(paths))
    files = media.files
    with open_journal(Path(output), embedding_settings(encoder, num_frames), restart) as journal:
        todo = [file for file in files if not _is_done(file, journal.done)]
        saver = _Saver(journal.append, save_every_seconds)
        rows = embed_files(encoder, todo, num_frames=num_frames, batch_size=batch_size, on_progress=on_progress)
        with closing(rows):
            saver.add_all(chain(_missing_rows(media), rows), len(todo) + len(media.missing), len(files))
        journal.finish()
    return EmbedSummary(
        output=str(output),
        model=encoder.name,
        embedding_size=encoder.embedding_size,
        files=len(files) + len(media.missing),
        embedded=saver.num_rows - len(saver.failures),
        skipped=len(files) - len(todo),
        failed=len(saver.failures),
        seconds=round(time.monotonic() - started, 3),
        failures=saver.failures,
    )


def embed_files(
    encoder: Encoder,
    files: Sequence[MediaFile],
    *,
    num_frames: int,
    batch_size: int,
    on_progress: OnProgress = ignore_progress,
) -> Generator[Embedding, None, None]:
    """One row per file as they get ready; a bad file gives a row with its reason."""
    states = {file.path: file_state(file.path) for file in files}
    for result in encode_media(encoder, files, num_frames=num_frames, batch_size=batch_size, on_progress=on_progress):
        file = result.file
        size, modified = states[file.path]
        if isinstance(result, Failure):
            yield Embedding(str(file.path), file.kind, None, result.error.reason, size_bytes=size, modified_ns=modified)
            continue
        yield Embedding(
            path=str(file.path),
            kind=file.kind,
            vector=pool_frames(result.frame_vectors, normalize_frames=True).numpy(),
            width=result.media.width,
            height=result.media.height,
            frame_seconds=result.media.frame_seconds,
            size_bytes=size,
            modified_ns=modified,
        )


def embedding_settings(encoder: Encoder, num_frames: int) -> EmbeddingSettings:
    """What vectors of this encoder may be compared with."""
    return EmbeddingSettings(
        model=encoder.name,
        weights=encoder.vision_fingerprint,
        embedding_size=encoder.embedding_size,
        preprocessing=_json_values(asdict(encoder.preprocessing)),
        num_frames=num_frames,
        dtype=str(encoder.dtype).removeprefix("torch."),
    )


class _Saver:
    """Collects rows and hands them over every few seconds; counts them, and keeps the reasons of failures."""

    def __init__(self, save: Callable[[list[Embedding]], None], every_seconds: float) -> None:
        self._save = save
        self._every_seconds = every_seconds
        self.num_rows = 0
        self.failures: dict[str, str] = {}
        self._rows: list[Embedding] = []
        self._last = time.monotonic()

    def add_all(self, rows: Iterable[Embedding], num_rows: int, num_files: int) -> None:
        """Save rows, `num_rows` of a run over `num_files` files. Ctrl-C saves those that are there and is passed on."""
        try:
            for row in rows:
                self.add(row)
        except KeyboardInterrupt:
            self.flush()
            left = num_rows - self.num_rows
            message = f"All but {left} of {num_files} files are saved; run the same command again to continue."
            raise KeyboardInterrupt(message) from None
        self.flush()

    def add(self, row: Embedding) -> None:
        self._rows.append(row)
        self.num_rows += 1
        if row.error is not None:
            self.failures[row.path] = row.error
        if len(self._rows) >= _ROWS_PER_PART or time.monotonic() - self._last >= self._every_seconds:
            self.flush()

    def flush(self) -> None:
        self._save(self._rows)
        self._rows = []
        self._last = time.monotonic()


def _is_done(file: MediaFile, done: dict[str, FileState]) -> bool:
    known = done.get(str(file.path))
    return known is not None and known == file_state(file.path)


def _missing_rows(media: MediaList) -> list[Embedding]:
    return [Embedding(path, "unknown", None, reason) for path, reason in media.missing.items()]


def _json_values(fields: dict[str, Any]) -> dict[str, Any]:
    """Tuples as lists, as they come back from a file."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}
