"""Embeddings on disk: parquet (any size), npz (self-contained numpy) or npy (vectors, with a JSON beside them).

A row is one media file: where it is, what it was when it was read, its unit vector, or the reason why there is none.
All formats hold the same rows and the same settings, so that a file says itself what its vectors may be compared with.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from perceptic.__about__ import __version__
from perceptic.errors import DataError
from perceptic.files import atomic_path, write_text

FORMATS = (".parquet", ".npz", ".npy")
_METADATA_KEY = b"perceptic"
_ROWS_PER_GROUP = 4096
# Not the dtype: it moves vectors by less than the fast resize does, and a run may go on another machine.
_DECISIVE = ("weights", "embedding_size", "preprocessing", "num_frames")


@dataclass(frozen=True)
class EmbeddingSettings:
    """What must be equal for vectors to be comparable, and what made them."""

    model: str
    weights: str  # fingerprint of the vision tower's weights, which alone decide vectors of media
    embedding_size: int
    preprocessing: dict[str, Any]
    num_frames: int
    dtype: str
    perceptic: str = __version__

    def differences(self, other: EmbeddingSettings, names: Sequence[str] = _DECISIVE) -> list[str]:
        """Readable differences in what decides a vector's values; the model's name and our version do not."""
        found = [name for name in names if getattr(self, name) != getattr(other, name)]
        return [f"{name}: {_short(getattr(self, name))} there, {_short(getattr(other, name))} now" for name in found]


@dataclass(frozen=True)
class Embedding:
    """One media file. Either `vector` (float32, (E,), length 1) or `error` is set."""

    path: str
    kind: Literal["image", "video", "unknown"]
    vector: np.ndarray | None
    error: str | None = None
    width: int | None = None
    height: int | None = None
    frame_seconds: tuple[float, ...] = ()
    size_bytes: int = -1  # as it was when it was listed; -1: could not be asked
    modified_ns: int = -1


@dataclass(frozen=True)
class StoredEmbeddings:
    """An embeddings file in memory. `vectors` (rows, E) float32; a row with an error holds zeros."""

    settings: EmbeddingSettings
    paths: list[str]
    kinds: list[str]
    errors: list[str | None]
    vectors: np.ndarray


def schema(settings: EmbeddingSettings) -> pa.Schema:
    """Column names and types; the settings travel as JSON under the key `perceptic` of the schema's metadata."""
    return pa.schema(
        [
            pa.field("path", pa.string(), nullable=False),
            pa.field("kind", pa.string(), nullable=False),
            pa.field("width", pa.int32()),
            pa.field("height", pa.int32()),
            pa.field("frame_seconds", pa.list_(pa.float64())),
            pa.field("size_bytes", pa.int64(), nullable=False),
            pa.field("modified_ns", pa.int64(), nullable=False),
            pa.field("embedding", pa.list_(pa.float32(), settings.embedding_size)),
            pa.field("error", pa.string()),
        ],
        metadata={_METADATA_KEY: json.dumps(asdict(settings))},
    )


def to_batch(rows: list[Embedding], settings: EmbeddingSettings) -> pa.RecordBatch:
    """Rows as one Arrow batch."""
    size = settings.embedding_size
    missing = np.array([row.vector is None for row in rows], dtype=bool)
    vectors = np.stack([np.zeros(size, np.float32) if row.vector is None else row.vector for row in rows])
    table = schema(settings)
    columns = [
        pa.array([getattr(row, name) for row in rows], table.field(name).type)
        for name in ("path", "kind", "width", "height", "frame_seconds", "size_bytes", "modified_ns")
    ]
    flat = pa.array(vectors.ravel(), pa.float32())
    columns.append(pa.FixedSizeListArray.from_arrays(flat, size, mask=pa.array(missing)))
    columns.append(pa.array([row.error for row in rows], pa.string()))
    return pa.RecordBatch.from_arrays(columns, schema=table)


def write_part(path: Path, batches: Iterable[pa.RecordBatch], settings: EmbeddingSettings) -> None:
    """Write batches as parquet, atomically. Raises OutputError."""
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema(settings)) as writer:
        for batch in batches:
            writer.write_batch(batch, row_group_size=_ROWS_PER_GROUP)


def read_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """Rows of an embeddings file of any format, in batches. Raises DataError if it cannot be read or is not one."""
    if path.suffix == ".parquet":
        with _parquet(path) as file:
            _settings(file.schema_arrow.metadata, path)
            yield from file.iter_batches(_ROWS_PER_GROUP)
        return
    vectors, columns, metadata = _read_numpy(path)
    settings = _settings({_METADATA_KEY: metadata}, path)
    rows = [
        Embedding(vector=None if columns["error"][i] else vectors[i], **{name: columns[name][i] for name in columns})
        for i in range(len(vectors))
    ]
    for start in range(0, len(rows), _ROWS_PER_GROUP):
        yield to_batch(rows[start : start + _ROWS_PER_GROUP], settings)


def read_settings(path: Path) -> EmbeddingSettings:
    """What made an embeddings file. Raises DataError if it cannot be read or is not one."""
    if path.suffix == ".parquet":
        with _parquet(path) as file:
            return _settings(file.schema_arrow.metadata, path)
    return _settings({_METADATA_KEY: _read_numpy(path)[2]}, path)


def read_embeddings(path: str | Path) -> StoredEmbeddings:
    """A whole embeddings file. Raises DataError if it cannot be read or is not one."""
    path = Path(path)
    settings = read_settings(path)
    batches = list(read_batches(path))
    vectors = [_vectors(batch, settings.embedding_size) for batch in batches]
    return StoredEmbeddings(
        settings=settings,
        paths=[value for batch in batches for value in batch.column("path").to_pylist()],
        kinds=[value for batch in batches for value in batch.column("kind").to_pylist()],
        errors=[value for batch in batches for value in batch.column("error").to_pylist()],
        vectors=np.concatenate(vectors) if vectors else np.zeros((0, settings.embedding_size), np.float32),
    )


def write_embeddings(path: Path, batches: Iterable[pa.RecordBatch], settings: EmbeddingSettings) -> None:
    """Write the format that the suffix names. Parquet streams; npz and npy gather all rows in memory first.

    Raises:
        OutputError: the file cannot be written.
    """
    if path.suffix == ".parquet":
        write_part(path, batches, settings)
        return
    held = list(batches)
    size = settings.embedding_size
    vectors = np.concatenate([_vectors(batch, size) for batch in held]) if held else np.zeros((0, size), np.float32)
    names = [name for name in schema(settings).names if name != "embedding"]
    columns = {name: [value for batch in held for value in batch.column(name).to_pylist()] for name in names}
    content = json.dumps({"perceptic": asdict(settings), **columns})
    with atomic_path(path) as temporary:
        if path.suffix == ".npz":
            np.savez(temporary, embeddings=vectors, paths=np.array(columns["path"], np.str_), rows=np.array(content))
        else:
            np.save(temporary, vectors)
    if path.suffix == ".npy":
        write_text(sidecar(path), content)


def sidecar(path: Path) -> Path:
    """The JSON that belongs to an npy file: `out.npy.json`."""
    return path.with_name(path.name + ".json")


def _vectors(batch: pa.RecordBatch, size: int) -> np.ndarray:
    column = batch.column("embedding")
    vectors = np.zeros((len(column), size), np.float32)
    # `flatten` leaves rows without a vector out.
    vectors[np.asarray(column.is_valid())] = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, size)
    return vectors


def _parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: is not a readable parquet file: {str(error).splitlines()[0]}") from error


def _read_numpy(path: Path) -> tuple[np.ndarray, dict[str, list[Any]], bytes]:
    try:
        if path.suffix == ".npz":
            with np.load(path) as archive:
                vectors, content = archive["embeddings"], str(archive["rows"])
        else:
            vectors, content = np.load(path), sidecar(path).read_text(encoding="utf-8")
        columns = json.loads(content)
        metadata = json.dumps(columns.pop("perceptic")).encode()
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: is not an embeddings file of `perceptic embed`: {error}") from error
    if len(columns["path"]) != len(vectors):
        raise DataError(f"{path}: {len(vectors)} vectors but {len(columns['path'])} rows beside them; embed again")
    return vectors, columns, metadata


def _settings(metadata: dict[bytes, bytes] | None, path: Path) -> EmbeddingSettings:
    content = (metadata or {}).get(_METADATA_KEY)
    if content is None:
        raise DataError(f"{path}: was not written by `perceptic embed` (its metadata does not say what made it)")
    return EmbeddingSettings(**json.loads(content))


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
