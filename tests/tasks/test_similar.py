"""Ranking by text and by media, against files and against stored embeddings."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from perceptic.errors import ConfigError, DataError, MediaError
from perceptic.inference.encode import load_encoder
from perceptic.tasks.embed import embed, embed_to_file
from perceptic.tasks.embeddings_file import FORMATS
from perceptic.tasks.similar import rank, similar


def test_text_query_ranks_by_cosine(tiny_clip: Path, media: Path) -> None:
    ranking = similar("a red circle", media, model=tiny_clip)
    assert ranking.query_kind == "text"
    found = embed(media, model=tiny_clip)
    query = F.normalize(load_encoder(tiny_clip, needs_text=True).encode_texts(["a red circle"]), dim=-1)[0].numpy()
    expected = sorted(zip(found.paths, (found.vectors @ query).tolist(), strict=True), key=lambda pair: -pair[1])
    assert [match.path for match in ranking.matches] == [path for path, _ in expected]
    assert [match.similarity for match in ranking.matches] == pytest.approx([value for _, value in expected], abs=1e-6)
    assert {Path(path).name for path in ranking.failures} == {"torn.png", "torn.mp4"}


def test_media_query_finds_its_copy_first(tiny_clip: Path, media: Path, tmp_path: Path) -> None:
    for name in ("b.jpg", "clip.mp4"):
        copy = shutil.copy(media / name, tmp_path / f"copy{Path(name).suffix}")
        ranking = similar(copy, media, model=tiny_clip, top_k=2)
        assert ranking.query_kind == "media"
        assert len(ranking.matches) == 2
        assert Path(ranking.matches[0].path).name == name
        assert ranking.matches[0].similarity == pytest.approx(1, abs=1e-5)


def test_a_tower_without_text_ranks_media(tiny_tower: Path, media: Path) -> None:
    assert Path(similar(media / "a.png", media, model=tiny_tower).matches[0].path).name == "a.png"
    with pytest.raises(ConfigError, match="without a text tower"):
        similar("a red circle", media, model=tiny_tower)


@pytest.mark.parametrize("suffix", FORMATS)
def test_stored_embeddings_give_the_same_ranking(tiny_clip: Path, media: Path, tmp_path: Path, suffix: str) -> None:
    stored = tmp_path / f"index{suffix}"
    embed_to_file(media, stored, model=tiny_clip)
    direct = similar("a red circle", media, model=tiny_clip)
    from_file = similar("a red circle", stored, model=tiny_clip)
    assert [match.path for match in from_file.matches] == [match.path for match in direct.matches]
    assert set(from_file.failures) == set(direct.failures)


def test_stored_embeddings_of_another_model_are_refused(
    tiny_clip: Path, tiny_tower: Path, media: Path, tmp_path: Path
) -> None:
    stored = tmp_path / "index.parquet"
    embed_to_file(media / "a.png", stored, model=tiny_tower)
    with pytest.raises(ConfigError, match=r"cannot be compared with this query.*--model"):
        similar("a red circle", stored, model=tiny_clip)
    with pytest.raises(ConfigError, match="give an embeddings file alone"):
        similar("a red circle", [stored, media], model=tiny_clip)
    with pytest.raises(DataError, match="absent"):
        similar("a red circle", tmp_path / "absent.parquet", model=tiny_clip)


def test_what_a_query_is(tiny_clip: Path, media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(media)
    assert similar("a.png", ["b.jpg"], model=tiny_clip).query_kind == "media"
    assert similar("a.png", ["b.jpg"], model=tiny_clip, query_kind="text").query_kind == "text"
    assert similar("x" * 5000, ["b.jpg"], model=tiny_clip).query_kind == "text"
    for query in ("absent.png", Path("absent")):
        with pytest.raises(MediaError, match="no such file"):
            similar(query, ["b.jpg"], model=tiny_clip)
    with pytest.raises(MediaError, match=r"torn\.png"):
        similar("torn.png", ["b.jpg"], model=tiny_clip)
    with pytest.raises(ConfigError, match="top_k"):
        similar("a", ["b.jpg"], model=tiny_clip, top_k=0)


@given(st.integers(1, 30), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_rank_is_the_head_of_the_sorted_similarities(num_rows: int, top_k: int, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(num_rows, 4)).astype(np.float32)
    query = vectors[0]
    found = rank(query, vectors, top_k)
    assert len(found) == min(top_k, num_rows)
    assert len({row for row, _ in found}) == len(found)
    scores = [score for _, score in found]
    assert scores == sorted(scores, reverse=True)
    left_out = set(range(num_rows)) - {row for row, _ in found}
    assert all(float(vectors[row] @ query) <= scores[-1] + 1e-6 for row in left_out)
