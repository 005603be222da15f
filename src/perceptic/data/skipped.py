"""Samples that could not be used: counted by reason, with examples, up to a limit."""

from __future__ import annotations

from collections import Counter

from perceptic.data.samples import SampleError
from perceptic.errors import DataError

_EXAMPLES = 3


class SkippedSamples:
    """Samples that could not be used, counted by reason; one more than `limit` ends the run (None: no limit).

    Attributes:
        counts: samples by reason. examples: the first few errors of each reason, for people.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}

    def note(self, error: SampleError) -> None:
        """Count one. Raises DataError beyond the limit."""
        self.counts[error.reason] += 1
        examples = self.examples.setdefault(error.reason, [])
        if len(examples) < _EXAMPLES:
            examples.append(str(error))
        if self.limit is not None and self.counts.total() > self.limit:
            reasons = ", ".join(f"{reason} ({count})" for reason, count in self.counts.most_common())
            raise DataError(
                f"{self.counts.total()} samples could not be used, more than the limit of {self.limit}: {reasons}. "
                f"The last one: {error}"
            ) from error

    def merge(self, other: SkippedSamples) -> None:
        """Add what another counter has seen; its limit does not matter here."""
        self.counts.update(other.counts)
        for reason, errors in other.examples.items():
            examples = self.examples.setdefault(reason, [])
            examples += errors[: _EXAMPLES - len(examples)]
