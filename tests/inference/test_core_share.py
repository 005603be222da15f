"""The share of cores settles where a simulated machine is fastest."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perceptic.inference.core_share import CoreShare

BATCH = 32


def settle(share: CoreShare, decode_seconds: float, model_seconds: Callable[[int], float], batches: int = 30) -> int:
    """Feed batches of a machine where decoding and the model overlap; return the threads it ends with."""
    for _ in range(batches):
        computed = BATCH * model_seconds(share.threads)
        share.record(BATCH, max(0.0, BATCH * decode_seconds - computed), computed)
    return share.threads


def test_a_small_model_beside_slow_decoding_takes_one_core() -> None:
    assert settle(CoreShare(4), decode_seconds=0.010, model_seconds=lambda threads: 0.006 / threads) == 1


def test_a_large_model_takes_all_cores() -> None:
    assert settle(CoreShare(8), decode_seconds=0.010, model_seconds=lambda threads: 0.5 / threads) == 8


def test_threads_that_bring_nothing_are_given_back() -> None:
    """Scales to two threads and no further: the third doubling step is undone."""
    assert settle(CoreShare(8), decode_seconds=0.001, model_seconds=lambda threads: 0.1 / min(threads, 2)) == 2


def test_it_stops_where_the_model_keeps_up() -> None:
    assert settle(CoreShare(8), decode_seconds=0.010, model_seconds=lambda threads: 0.030 / threads) == 4


def test_a_start_with_all_cores_stays() -> None:
    assert settle(CoreShare(4, start=4), decode_seconds=1.0, model_seconds=lambda threads: 0.001) == 4


@given(
    cores=st.integers(1, 64),
    decode_seconds=st.floats(0, 1),
    model_seconds=st.floats(1e-6, 10),
    scaling=st.floats(0, 1.2),
)
def test_never_more_than_the_cores_never_none_and_it_comes_to_rest(
    cores: int, decode_seconds: float, model_seconds: float, scaling: float
) -> None:
    share = CoreShare(cores)
    first = settle(share, decode_seconds, lambda threads: model_seconds / threads**scaling)
    assert 1 <= first <= cores
    assert settle(share, decode_seconds, lambda threads: model_seconds / threads**scaling) == first


def test_one_core() -> None:
    assert settle(CoreShare(1), decode_seconds=0.0, model_seconds=lambda threads: 1.0) == 1
    assert CoreShare(2, start=8).threads == 2, "a start above the cores is cut"


@pytest.mark.parametrize("batches", [0, 1, 2])
def test_no_judgement_before_the_trial_is_over(batches: int) -> None:
    assert settle(CoreShare(8), 0.0, lambda threads: 1.0, batches) == 1
