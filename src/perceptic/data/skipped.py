"""Samples that could not be used: counted by reason, with examples, up to a limit."""

from __future__ import annotations

from collections import Counter

from perceptic.data.samples import SampleError
from perceptic.errors import DataError

_EXAMPLES = 3


class SkippedSamples:
    """Samples that could not be used, counted by reason; one more than `limit` ends the run (None: no limit).

    The limit holds for all processes that train together: each counts its own, and the loop adds them up.

    Attributes:
        counts: samples by reason. examples: the first few errors of each reason, for people.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}

    @property
    def total(self) -> int:
        return self.counts.total()

    def note(self, error: SampleError) -> None:
        """Count one. Raises DataError beyond the limit."""
        self.counts[error.reason] += 1
        examples = self.examples.setdefault(error.reason, [])
        if len(examples) < _EXAMPLES:
            examples.append(str(error))
        if self.is_over(self.total):
            raise DataError(f"{self.describe()}. The last one: {error}") from error

    def is_over(self, total: int) -> bool:
        """Whether so many are more than the limit."""
        return self.limit is not None and total > self.limit

    def describe(self) -> str:
        """How many, against which limit, and why."""
        reasons = ", ".join(f"{reason} ({count})" for reason, count in self.counts.most_common())
        return f"{self.total} samples could not be used, more than the limit of {self.limit}: {reasons}"

    def merge(self, other: SkippedSamples) -> None:
        """Add what another counter has seen; its limit does not matter here."""
        self.counts.update(other.counts)
        for reason, errors in other.examples.items():
            examples = self.examples.setdefault(reason, [])
            examples += errors[: _EXAMPLES - len(examples)]
