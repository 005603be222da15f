"""Retrieval recall in both directions, shared captions, the dual softmax."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perceptic.errors import ConfigError, DataError
from perceptic.metrics import dual_softmax, retrieval_ranks

FEW = settings(max_examples=60, deadline=None)
SIMILARITIES = np.array([[0.9, 0.8, 0.1], [0.95, 0.7, 0.2], [0.3, 0.2, 0.25]])


def filler(rows: int, columns: int, seed: int) -> np.ndarray:
    """u_k(s) - 0.5, the specification's deterministic numbers (perception-encoder section 10)."""
    k = np.arange(rows * columns)
    value = np.sin(12.9898 * k + 78.233 * seed) * 43758.5453
    return (value - np.floor(value) - 0.5).reshape(rows, columns)


def unit_rows(table: np.ndarray) -> np.ndarray:
    return table / np.linalg.norm(table, axis=1, keepdims=True)


def test_the_spec_s_example() -> None:
    raw = retrieval_ranks(SIMILARITIES)
    assert raw.text_to_media.values.tolist() == [0, 1, 1]
    assert raw.text_to_media.recall(1) == pytest.approx(1 / 3)
    assert raw.media_to_text.recall(1) == pytest.approx(1 / 3)
    reweighted = retrieval_ranks(SIMILARITIES, reweight_factor=1.0)
    assert reweighted.text_to_media.recall(1) == pytest.approx(2 / 3)
    assert reweighted.media_to_text.recall(1) == pytest.approx(1 / 3)


def test_the_dual_softmax_of_the_spec_s_example() -> None:
    wanted = [[0.3461, 0.3260, 0.0306], [0.3841, 0.2581, 0.0677], [0.0633, 0.0447, 0.0889]]
    np.testing.assert_allclose(dual_softmax(SIMILARITIES), wanted, atol=5.1e-5)
    assert dual_softmax(SIMILARITIES).argmax(axis=1).tolist() == [0, 0, 2]
    assert dual_softmax(SIMILARITIES.T).argmax(axis=1).tolist() == [1, 0, 2]


@pytest.mark.parametrize(
    ("factor", "wanted"),
    [
        (None, (0.600, 0.800, 0.600, 0.800)),
        (1.0, (0.550, 0.775, 0.650, 0.800)),
        (10.0, (0.525, 0.775, 0.650, 0.850)),
    ],
)
def test_the_golden_check_of_two_texts_a_medium(factor: float | None, wanted: tuple[float, ...]) -> None:
    media = filler(20, 8, 1)
    described = np.arange(40) // 2
    texts = media[described] + 1.3 * filler(40, 8, 2)
    ranks = retrieval_ranks(unit_rows(texts) @ unit_rows(media).T, described, reweight_factor=factor)
    found = [side.recall(k) for side in (ranks.text_to_media, ranks.media_to_text) for k in (1, 3)]
    assert found == pytest.approx(wanted)


def test_equal_captions_share_their_media() -> None:
    table = [[0.1, 0.9, 0.0], [0.9, 0.1, 0.0], [0.0, 0.0, 1.0]]
    assert retrieval_ranks(table).text_to_media.values.tolist() == [1, 1, 0]
    shared = retrieval_ranks(table, texts=["a dog", "a dog", "a cat"])
    assert shared.text_to_media.values.tolist() == [0, 0, 0]
    assert shared.media_to_text.values.tolist() == [0, 0, 0]


def test_a_collapsed_encoder_is_at_chance() -> None:
    ranks = retrieval_ranks(np.ones((30, 10)), np.arange(30) // 3)
    assert [ranks.text_to_media.recall(k) for k in (1, 5, 10)] == [0.1, 0.5, 1.0]
    assert ranks.media_to_text.recall(1) == 0.1


def test_a_medium_without_a_text_is_never_found_and_asks_in_vain() -> None:
    ranks = retrieval_ranks([[0.9, 0.1], [0.8, 0.2]], [0, 0])
    assert ranks.media_to_text.values.tolist() == [0, -1]
    assert ranks.media_to_text.recall(2) == 0.5


def test_fewer_candidates_than_k_have_no_recall() -> None:
    assert math.isnan(retrieval_ranks([[1.0]]).text_to_media.recall(5))
    assert retrieval_ranks([[1.0]]).text_to_media.recall(1) == 1.0


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, list[str]]:
    num_texts, num_media = draw(st.integers(1, 9)), draw(st.integers(1, 7))
    scores = draw(st.lists(st.integers(-2, 2), min_size=num_texts * num_media, max_size=num_texts * num_media))
    described = draw(st.lists(st.integers(0, num_media - 1), min_size=num_texts, max_size=num_texts))
    texts = draw(st.lists(st.sampled_from("abc"), min_size=num_texts, max_size=num_texts))
    return np.array(scores, dtype=float).reshape(num_texts, num_media), np.array(described), texts


def naive_rank(row: np.ndarray, right: set[int]) -> int:
    order = sorted(range(len(row)), key=lambda candidate: (-row[candidate], candidate))
    return min((order.index(candidate) for candidate in right), default=-1)


@FEW
@given(cases())
def test_ranks_agree_with_sorting(case: tuple[np.ndarray, np.ndarray, list[str]]) -> None:
    table, described, texts = case
    right_media = [
        {int(medium) for medium, other in zip(described, texts, strict=True) if other == text} for text in texts
    ]
    right_texts = [{t for t, media in enumerate(right_media) if m in media} for m in range(table.shape[1])]
    ranks = retrieval_ranks(table, described, texts=texts)
    to_media = [naive_rank(row, right) for row, right in zip(table, right_media, strict=True)]
    to_text = [naive_rank(row, right) for row, right in zip(table.T, right_texts, strict=True)]
    assert ranks.text_to_media.values.tolist() == to_media
    assert ranks.media_to_text.values.tolist() == to_text


def test_blocks_of_rows_change_nothing() -> None:
    rng = np.random.default_rng(3)
    table, described = rng.normal(size=(700, 130)).astype(np.float32), rng.integers(0, 130, 700)
    ranks = retrieval_ranks(table, described)
    wanted = [naive_rank(row, {int(medium)}) for row, medium in zip(table, described, strict=True)]
    assert ranks.text_to_media.values.tolist() == wanted


def test_renaming_the_media_changes_nothing_without_ties() -> None:
    rng = np.random.default_rng(4)
    table, described, order = rng.normal(size=(20, 9)), rng.integers(0, 9, 20), rng.permutation(9)
    renamed = retrieval_ranks(table[:, order], np.argsort(order)[described])
    assert retrieval_ranks(table, described).text_to_media.values.tolist() == renamed.text_to_media.values.tolist()


def test_shuffled_media_are_at_chance() -> None:
    rng = np.random.default_rng(5)
    vectors = unit_rows(rng.normal(size=(600, 16)))
    assert retrieval_ranks(vectors @ vectors.T).text_to_media.recall(1) == 1.0
    shuffled = retrieval_ranks(vectors @ rng.permutation(vectors).T)
    assert shuffled.text_to_media.recall(10) == pytest.approx(10 / 600, abs=0.02)
    assert shuffled.media_to_text.recall(10) == pytest.approx(10 / 600, abs=0.02)


@pytest.mark.parametrize(
    ("table", "described", "said"),
    [
        (np.zeros((0, 2)), [], "at least one of texts"),
        (np.zeros((3, 2)), None, "pass media_of_texts"),
        (np.zeros((2, 2)), [0, 2], "media_of_texts: expected numbers from 0 to 1"),
        (np.zeros((2, 2)), [0], "2 similarities, 1 media_of_texts"),
        ([[math.nan, 0.0], [0.0, 0.0]], None, "found nan"),
    ],
)
def test_what_cannot_be_ranked(table: object, described: object, said: str) -> None:
    with pytest.raises(DataError, match=said):
        retrieval_ranks(table, described)  # type: ignore[arg-type]


def test_settings_that_cannot_work() -> None:
    with pytest.raises(ConfigError, match="factor must be a positive number"):
        dual_softmax([[1.0]], 0.0)
    with pytest.raises(ConfigError, match="k must be at least 1"):
        retrieval_ranks([[1.0]]).text_to_media.recall(0)
    with pytest.raises(DataError, match="2 texts, 1 media_of_texts"):
        retrieval_ranks([[1.0]], texts=["a", "b"])
