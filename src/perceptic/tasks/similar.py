"""Rank images and videos by likeness to a text, an image or a video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from perceptic.errors import ConfigError, MediaError
from perceptic.inference.encode import DTypeName, Encoder, ResizeMethod, load_encoder, unit_vectors
from perceptic.tasks.embed import DEFAULT_MODEL, embed, embedding_settings
from perceptic.tasks.embeddings_file import FORMATS, EmbeddingSettings, read_embeddings
from perceptic.tasks.media_list import Paths, is_media_name
from perceptic.tasks.media_stream import DEFAULT_BATCH_SIZE, DEFAULT_NUM_FRAMES, OnProgress, ignore_progress

QueryKind = Literal["auto", "text", "media"]


@dataclass(frozen=True)
class Match:
    """One file of the ranking; `similarity` is the cosine to the query, -1 to 1."""

    path: str
    kind: str
    similarity: float


@dataclass(frozen=True)
class Ranking:
    """The nearest files, best first, and the files that could not be read (path -> reason)."""

    query: str
    query_kind: Literal["text", "media"]
    matches: tuple[Match, ...]
    failures: dict[str, str]


@dataclass(frozen=True)
class _Candidates:
    paths: list[str]
    kinds: list[str]
    vectors: np.ndarray  # (N, E) unit vectors
    failures: dict[str, str]


def similar(
    query: str | Path,
    paths: Paths,
    *,
    model: str | Path | Encoder = DEFAULT_MODEL,
    query_kind: QueryKind = "auto",
    top_k: int = 10,
    num_frames: int = DEFAULT_NUM_FRAMES,
    batch_size: int = DEFAULT_BATCH_SIZE,
    device: str = "auto",
    dtype: DTypeName = "auto",
    method: ResizeMethod | None = None,
    on_progress: OnProgress = ignore_progress,
) -> Ranking:
    """Rank files by the cosine of their vectors with the query's.

    Args:
        query: a text, or the path of an image or video. With `query_kind` "auto" a `Path`, an existing file and
            anything that ends like a media file is media; all else is text.
        paths: files, folders and globs; or one file written by `perceptic embed`, which must come from the same model.
        top_k: how many matches to return.

    Raises:
        ConfigError: a text query to a model without a text tower, or an embeddings file of another model.
        DataError, MediaError: nothing to search, or the query cannot be read.
    """
    if top_k < 1:
        raise ConfigError(f"top_k must be at least 1, not {top_k}")
    kind = _query_kind(query, query_kind)
    encoder = load_encoder(model, needs_text=kind == "text", device=device, dtype=dtype, method=method)
    vector = _query_vector(encoder, query, kind, num_frames)
    stored = _stored_file(paths)
    if stored is None:
        found = embed(paths, model=encoder, num_frames=num_frames, batch_size=batch_size, on_progress=on_progress)
        kinds = [item.kind for item in found.items if item.vector is not None]
        candidates = _Candidates(found.paths, list(kinds), found.vectors, found.failures)
    else:
        candidates = _read_candidates(stored, embedding_settings(encoder, num_frames))
    matches = rank(vector, candidates.vectors, top_k)
    return Ranking(
        query=str(query),
        query_kind=kind,
        matches=tuple(Match(candidates.paths[i], candidates.kinds[i], score) for i, score in matches),
        failures=candidates.failures,
    )


def rank(query: np.ndarray, vectors: np.ndarray, top_k: int) -> list[tuple[int, float]]:
    """(row, cosine) of the `top_k` unit vectors (N, E) nearest to a unit vector (E,); ties keep the row order."""
    similarities = vectors @ query
    order = np.argsort(-similarities, kind="stable")[:top_k]
    return [(int(row), float(similarities[row])) for row in order]


def _query_kind(query: str | Path, wanted: QueryKind) -> Literal["text", "media"]:
    if wanted != "auto":
        return wanted
    if isinstance(query, Path) or is_media_name(query):
        return "media"
    return "media" if _exists(query) else "text"


def _exists(query: str) -> bool:
    try:
        return Path(query).is_file()
    except (OSError, ValueError):  # a long or odd text is no path
        return False


def _query_vector(encoder: Encoder, query: str | Path, kind: Literal["text", "media"], num_frames: int) -> np.ndarray:
    if kind == "text":
        vector: np.ndarray = unit_vectors(encoder.encode_texts([str(query)]))[0].numpy()
        return vector
    if not Path(query).is_file():
        raise MediaError(query, "no such file", "for a text that looks like a file name use query_kind='text'")
    item = embed([query], model=encoder, num_frames=num_frames).items[0]
    if item.vector is None:
        raise MediaError(query, item.error or "cannot be read")
    return item.vector


def _stored_file(paths: Paths) -> Path | None:
    wanted: Sequence[str | Path] = [paths] if isinstance(paths, str | Path) else list(paths)
    stored = [path for path in wanted if Path(path).suffix in FORMATS]
    if stored and len(wanted) > 1:
        raise ConfigError(f"{stored[0]}: give an embeddings file alone, without other paths")
    return Path(stored[0]) if stored else None


def _read_candidates(path: Path, settings: EmbeddingSettings) -> _Candidates:
    stored = read_embeddings(path)
    differences = stored.settings.differences(settings, ("weights", "embedding_size", "preprocessing"))
    if differences:
        raise ConfigError(
            f"{path}: its vectors come from {stored.settings.model} and cannot be compared with this query "
            f"({'; '.join(differences)}). Give the same --model"
        )
    good = [row for row, error in enumerate(stored.errors) if error is None]
    return _Candidates(
        paths=[stored.paths[row] for row in good],
        kinds=[stored.kinds[row] for row in good],
        vectors=stored.vectors[good],
        failures={stored.paths[row]: error for row, error in enumerate(stored.errors) if error is not None},
    )
