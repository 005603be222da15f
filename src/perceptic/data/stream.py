"""Contrastive batches straight from shards and folders of any size: nothing is decoded twice or kept on disk.

Threads decode the next batch while one trains. The position is exact: every sample that was drawn and not trained on
yet is written down by its place, a few thousand numbers.

Shapes: B batch, F frames, S image side, L text tokens.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from perceptic.data.batches import Batch
from perceptic.data.mixing import Reader, ShareOrder
from perceptic.data.order import generator
from perceptic.data.pair_decoder import Pair, PairDecoder
from perceptic.data.samples import SampleError
from perceptic.data.shuffled_units import Reference, ShuffledUnits
from perceptic.data.skipped import SkippedSamples
from perceptic.data.threads import decoding_threads
from perceptic.data.units import Units
from perceptic.errors import ConfigError, DataError
from perceptic.text.clip_tokenizer import ClipTokenizer

KIND = "pairs"
_SAMPLE_STREAM = 2
"""Which of a seed's independent random sequences varies the samples; see `order.generator`."""


class SizedStep(Protocol):
    """What a stream must know of a planned step."""

    @property
    def image_size(self) -> int: ...


@dataclass(frozen=True)
class StreamPart:
    """A data set and its share of the samples, relative to the other parts' weights."""

    name: str
    units: Units
    weight: float = 1.0


@dataclass(frozen=True)
class StreamSettings:
    """How a stream reads.

    Attributes:
        batch_size: of this process.
        buffer_size: places to draw the next sample from, of each part.
        workers: threads that decode ahead; 0 decodes when asked.
        skip_limit: bad samples that are passed over; one more ends the run. None: no limit.
    """

    batch_size: int
    seed: int
    buffer_size: int = 5000
    workers: int = 4
    skip_limit: int | None = 1000

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("buffer_size", 1), ("workers", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, not {getattr(self, name)}")


@dataclass(frozen=True)
class _Drawn:
    """A sample of part `part`."""

    part: int
    reference: Reference


@dataclass(frozen=True, eq=False)
class _Ahead:
    """A sample that is being decoded at a resolution."""

    drawn: _Drawn
    image_size: int
    future: Future[Pair]


class StreamBatches:
    """Batches for ever; a batch source of the training loop.

    Args:
        parts: what is read, and how often.
        reader: rank and number of processes that share the data; each takes its own samples.
    """

    def __init__(
        self,
        parts: Sequence[StreamPart],
        decoder: PairDecoder,
        tokenizer: ClipTokenizer,
        settings: StreamSettings,
        reader: Reader | None = None,
    ) -> None:
        self._parts = tuple(parts)
        self._decoder = decoder
        self._tokenizer = tokenizer
        self._settings = settings
        total = sum(part.weight for part in parts)
        self._shares = ShareOrder.of([part.weight / total for part in parts], settings.seed)
        self.skipped = SkippedSamples(settings.skip_limit)
        self._units = [
            ShuffledUnits(part.units, reader or Reader(), settings.seed, settings.buffer_size, self.skipped.note)
            for part in parts
        ]
        self._num_drawn = 0
        self._owed: deque[_Drawn] = deque()
        self._ahead: deque[_Ahead] = deque()
        self._executor = decoding_threads(settings.workers, "pair-reader") if settings.workers else None

    def batch(self, planned: SizedStep) -> Batch:
        """The next batch at the step's resolution: pixels (B, 3, S, S), or (B, F, 3, S, S) of clips; ids (B, L).

        Raises:
            DataError: more bad samples than the limit, or nothing left to read.
        """
        pairs: list[Pair] = []
        while len(pairs) < self._settings.batch_size:
            try:
                pairs.append(self._next_pair(planned.image_size))
            except SampleError as error:
                self.skipped.note(error)
        self._decode_ahead(planned.image_size)
        pixels = torch.stack([pair.pixels for pair in pairs])
        is_video = self._decoder.num_frames > 1
        ids = self._tokenizer([pair.text for pair in pairs])
        return Batch(pixels if is_video else pixels[:, 0], ids)

    def figures(self, planned: SizedStep) -> dict[str, float]:
        """For a step's report: nothing but what `skipped` says."""
        return {}

    def state(self) -> dict[str, Any]:
        """Plain JSON values from which `restore` goes on exactly."""
        owed = [*(item.drawn for item in self._ahead), *self._owed]
        return {
            "kind": KIND,
            "counts": self._shares.counts,
            "drawn": self._num_drawn,
            "owed": [[item.part, item.reference.draw, item.reference.offset] for item in owed],
            "parts": {part.name: units.state() for part, units in zip(self._parts, self._units, strict=True)},
            "skipped": dict(self.skipped.counts),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state. Raises DataError if it is of other data."""
        names = [part.name for part in self._parts]
        if state.get("kind") != KIND or list(state["parts"]) != names or state["counts"] != self._shares.counts:
            raise DataError(f"data position: it was not saved with the mix of {', '.join(names)} and these weights")
        for name, units in zip(names, self._units, strict=True):
            units.restore(state["parts"][name])
        self._cancel()
        self._num_drawn = state["drawn"]
        self._owed = deque(_Drawn(part, Reference(draw, offset)) for part, draw, offset in state["owed"])
        self.skipped.counts = Counter(state["skipped"])

    def close(self) -> None:
        """Stop the threads."""
        self._cancel()
        if self._executor is not None:
            self._executor.shutdown(wait=True)

    def _next_pair(self, image_size: int) -> Pair:
        if self._executor is None:
            return self._decode(self._next_drawn(), image_size)
        self._decode_ahead(image_size)
        return self._ahead.popleft().future.result()

    def _decode_ahead(self, image_size: int) -> None:
        """Keep a whole batch in work, so that it is ready when the step that trains on the last one ends."""
        if self._ahead and self._ahead[0].image_size != image_size:
            # A new stage: what was decoded for the last one is decoded again.
            self._owed.extendleft(item.drawn for item in reversed(self._ahead))
            self._cancel()
        room = max(self._settings.batch_size, 2 * self._settings.workers)
        while self._executor is not None and len(self._ahead) < room:
            drawn = self._next_drawn()
            self._ahead.append(_Ahead(drawn, image_size, self._executor.submit(self._decode, drawn, image_size)))

    def _next_drawn(self) -> _Drawn:
        if self._owed:
            return self._owed.popleft()
        part = self._shares.share(self._num_drawn).part
        self._num_drawn += 1
        return _Drawn(part, self._units[part].next())

    def _decode(self, drawn: _Drawn, image_size: int) -> Pair:
        reference = drawn.reference
        raw = self._parts[drawn.part].units.read(self._units[drawn.part].unit(reference.draw), reference.offset)
        rng = generator(self._settings.seed, _SAMPLE_STREAM, drawn.part, reference.draw, reference.offset)
        return self._decoder(raw, image_size, rng)

    def _cancel(self) -> None:
        for item in self._ahead:
            item.future.cancel()
        self._ahead.clear()
