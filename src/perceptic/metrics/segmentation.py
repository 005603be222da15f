"""Mean intersection over union of semantic segmentation (datasets-and-benchmarks section 4.1).

Counts are summed over the whole set before anything is divided, as the ADE20K figures are:

    counts = sum(confusion_counts(mask, truth, 150, ignore_label=255) for mask, truth in pairs)
    mean_iou(counts)
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from perceptic.metrics.checks import FloatArray, share
from perceptic.metrics.confusion import class_ious, mean_of_defined, square_counts


def mean_iou(confusion: npt.ArrayLike) -> FloatArray:
    """Mean over classes of intersection over union, (...) of counts (..., C, C), in [0, 1].

    Classes that are neither there nor predicted are left out; NaN where no class is left.

    Raises:
        DataError: counts that are negative, not finite or not square.
    """
    return mean_of_defined(class_ious(confusion))


def pixel_accuracy(confusion: npt.ArrayLike) -> FloatArray:
    """Share of labelled pixels predicted right, (...) of counts (..., C, C); NaN where no pixel is labelled."""
    counts = square_counts(confusion)
    return share(np.trace(counts, axis1=-2, axis2=-1), counts.sum(axis=(-2, -1)))
