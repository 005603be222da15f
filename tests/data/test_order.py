"""Batches cover every epoch once and depend on (seed, step) alone."""

import numpy as np
import pytest

from perceptic.data.order import batch_indices
from perceptic.errors import DataError


def test_an_epoch_visits_every_sample_of_its_full_batches_once():
    seen = np.concatenate([batch_indices(23, 5, seed=3, step=step) for step in range(4)])
    assert len(set(seen.tolist())) == 20


def test_epochs_and_seeds_differ_and_steps_repeat_themselves():
    first = batch_indices(100, 10, seed=0, step=0)
    assert np.array_equal(first, batch_indices(100, 10, seed=0, step=0))
    assert not np.array_equal(first, batch_indices(100, 10, seed=0, step=10))
    assert not np.array_equal(first, batch_indices(100, 10, seed=1, step=0))


def test_too_few_samples_are_an_error():
    with pytest.raises(DataError, match="7 samples do not fill one batch of 8"):
        batch_indices(7, 8, seed=0, step=0)
