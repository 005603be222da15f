from __future__ import annotations

import random

import pytest

from perceptic.errors import TextError
from perceptic.text.reduction import shorten

IDS = list(range(100, 120))


def test_cut_keeps_the_first_ids() -> None:
    assert shorten(IDS, 4) == [100, 101, 102, 103]
    assert shorten(IDS, 0) == []


@pytest.mark.parametrize("reduction", ["cut", "block", "subset", "shuffle"])
@pytest.mark.parametrize("limit", [20, 21])
def test_ids_that_fit_stay_as_they_are(reduction: str, limit: int) -> None:
    assert shorten(IDS, limit, reduction, random.Random(0)) == IDS


def test_block_is_a_run_of_neighbours_that_reaches_both_ends() -> None:
    rng = random.Random(0)
    blocks = [shorten(IDS, 5, "block", rng) for _ in range(300)]
    assert all(block == list(range(block[0], block[0] + 5)) for block in blocks)
    assert {block[0] for block in blocks} == set(range(100, 116))


def test_subset_keeps_the_order_and_shuffle_does_not() -> None:
    rng = random.Random(0)
    subsets = [shorten(IDS, 6, "subset", rng) for _ in range(50)]
    shuffled = [shorten(IDS, 6, "shuffle", rng) for _ in range(50)]
    assert all(len(set(chosen)) == 6 and set(chosen) <= set(IDS) for chosen in subsets + shuffled)
    assert all(chosen == sorted(chosen) for chosen in subsets)
    assert any(chosen != sorted(chosen) for chosen in shuffled)


@pytest.mark.parametrize("reduction", ["block", "subset", "shuffle"])
def test_same_seed_same_choice(reduction: str) -> None:
    first, second = (shorten(IDS, 7, reduction, random.Random(5)) for _ in range(2))
    assert first == second


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(TextError, match="cut, block, subset, shuffle"):
        shorten(IDS, 3, "syntax")  # type: ignore[arg-type]
    with pytest.raises(TextError, match="rng"):
        shorten(IDS, 3, "block")
