"""Which samples make up a batch, as a pure function of (seed, step).

Nothing is kept between steps, so a resumed run sees exactly what an uninterrupted one sees.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from perceptic.errors import DataError


def batch_indices(num_samples: int, batch_size: int, seed: int, step: int) -> NDArray[np.int64]:
    """The samples of batch `step` (from 0): every epoch a fresh permutation, its incomplete tail left out.

    Raises:
        DataError: fewer samples than one batch.
    """
    batches_per_epoch = num_samples // batch_size
    if batches_per_epoch == 0:
        raise DataError(
            f"{num_samples} samples do not fill one batch of {batch_size}; give more data or a smaller batch"
        )
    epoch, position = divmod(step, batches_per_epoch)
    return _permutation(num_samples, seed, epoch)[position * batch_size : (position + 1) * batch_size]


def generator(seed: int, *stream: int) -> np.random.Generator:
    """A random generator for one purpose at one step; different streams are independent."""
    return np.random.default_rng([seed, *stream])


@functools.lru_cache(maxsize=4)
def _permutation(num_samples: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return generator(seed, 0, epoch).permutation(num_samples)
