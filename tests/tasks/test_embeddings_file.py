"""Rows survive every format, and nothing that is not ours is taken for ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from perceptic.errors import DataError
from perceptic.tasks.embeddings_file import (
    FORMATS,
    Embedding,
    EmbeddingSettings,
    read_batches,
    read_embeddings,
    read_settings,
    sidecar,
    to_batch,
    write_embeddings,
)

SETTINGS = EmbeddingSettings(
    model="tiny",
    weights="00ff",
    embedding_size=3,
    preprocessing={"image_size": 8, "mean": [0.5, 0.5, 0.5]},
    num_frames=8,
    dtype="float32",
)
ROWS = [
    Embedding("/a.png", "image", np.array([1, 0, 0], np.float32), None, 10, 20, (), 5, 6),
    Embedding("/ä b.mp4", "video", None, "truncated", size_bytes=7, modified_ns=8),
    Embedding("/c.mp4", "video", np.array([0, 0.6, 0.8], np.float32), None, 30, 40, (0.0, 1.5), 9, 2**60 + 1),
]


@pytest.mark.parametrize("suffix", FORMATS)
def test_round_trip(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    write_embeddings(path, [to_batch(ROWS[:1], SETTINGS), to_batch(ROWS[1:], SETTINGS)], SETTINGS)
    stored = read_embeddings(path)
    assert stored.settings == SETTINGS
    assert stored.paths == ["/a.png", "/ä b.mp4", "/c.mp4"]
    assert stored.kinds == ["image", "video", "video"]
    assert stored.errors == [None, "truncated", None]
    np.testing.assert_array_equal(stored.vectors, [[1, 0, 0], [0, 0, 0], np.float32([0, 0.6, 0.8])])
    assert read_settings(path) == SETTINGS


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_column_survives(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    write_embeddings(path, [to_batch(ROWS, SETTINGS)], SETTINGS)
    found = pa.Table.from_batches(list(read_batches(path)))
    assert found.column("frame_seconds").to_pylist() == [[], [], [0.0, 1.5]]
    assert found.column("width").to_pylist() == [10, None, 30]
    assert found.column("modified_ns").to_pylist() == [6, 8, 2**60 + 1]
    assert found.column("embedding").to_pylist()[1] is None


@pytest.mark.parametrize("suffix", FORMATS)
def test_no_rows(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    write_embeddings(path, [], SETTINGS)
    assert read_embeddings(path).vectors.shape == (0, 3)


def test_numpy_files_are_plain_numpy(tmp_path: Path) -> None:
    write_embeddings(tmp_path / "out.npz", [to_batch(ROWS, SETTINGS)], SETTINGS)
    write_embeddings(tmp_path / "out.npy", [to_batch(ROWS, SETTINGS)], SETTINGS)
    archive = np.load(tmp_path / "out.npz")
    assert archive["embeddings"].dtype == np.float32
    assert list(archive["paths"]) == ["/a.png", "/ä b.mp4", "/c.mp4"]
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), archive["embeddings"])


def test_parquet_type_is_a_fixed_size_list(tmp_path: Path) -> None:
    write_embeddings(tmp_path / "out.parquet", [to_batch(ROWS, SETTINGS)], SETTINGS)
    assert pq.read_schema(tmp_path / "out.parquet").field("embedding").type == pa.list_(pa.float32(), 3)


def test_foreign_and_damaged_files_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "foreign.parquet")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 torn")
    np.savez(tmp_path / "foreign.npz", a=np.zeros(3))
    (tmp_path / "torn.npz").write_bytes(b"PK torn")
    np.save(tmp_path / "alone.npy", np.zeros((2, 3)))
    for name in ("foreign.parquet", "torn.parquet", "foreign.npz", "torn.npz", "alone.npy", "absent.parquet"):
        with pytest.raises(DataError, match=name):
            read_embeddings(tmp_path / name)


def test_a_sidecar_of_another_run_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "out.npy"
    write_embeddings(path, [to_batch(ROWS, SETTINGS)], SETTINGS)
    kept = sidecar(path).read_text()
    write_embeddings(path, [to_batch(ROWS[:1], SETTINGS)], SETTINGS)
    sidecar(path).write_text(kept)
    with pytest.raises(DataError, match="1 vectors but 3 rows"):
        read_embeddings(path)
