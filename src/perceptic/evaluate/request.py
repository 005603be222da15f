"""What a runner is asked: benchmark, model (loaded when first used), data, options, and where to keep features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from perceptic.errors import ConfigError, WeightsError
from perceptic.evaluate.benchmark import Benchmark
from perceptic.inference.encode import DTypeName, Encoder, load_encoder
from perceptic.tasks.assistant import Assistant
from perceptic.weights.plm_card import find_plm_card
from perceptic.weights.plm_folder import read_plm_folder
from perceptic.weights.plm_sources import is_nano

OptionsT = TypeVar("OptionsT")
OtherT = TypeVar("OtherT")
OnProgress = Callable[[str, int, int], None]
"""Called with what is being done, how many are done, of how many."""


def ignore_progress(label: str, done: int, total: int) -> None:
    """The default of `on_progress`."""


class ModelUnderTest:
    """A model by name that loads when first used: once for all benchmarks, and as what they need.

    Attributes:
        source: a zoo name, hub repository, folder or file. name: how results call it.
    """

    def __init__(self, source: str, *, device: str = "auto", dtype: DTypeName = "auto") -> None:
        self.source = source
        # A run's folder is often called "model": its whole path tells it from others.
        self.name = str(source)
        self.device = device
        self.dtype: DTypeName = dtype

    @cached_property
    def encoder(self) -> Encoder:
        """The vision tower, with its text tower where it has one. Raises WeightsError, ConfigError."""
        try:
            return load_encoder(self.source, needs_text=True, device=self.device, dtype=self.dtype)
        except ConfigError:
            return load_encoder(self.source, device=self.device, dtype=self.dtype)

    @cached_property
    def is_language_model(self) -> bool:
        """Whether it answers questions (a PerceptionLM), rather than gives embeddings."""
        if is_nano(self.source) or find_plm_card(self.source) is not None:
            return True
        folder = Path(self.source)
        return folder.is_dir() and _is_plm_folder(folder)

    @property
    def fingerprint(self) -> str:
        """Tells two models apart by all their weights: a text tower decides zero-shot results too."""
        return self.assistant.fingerprint if self.is_language_model else self.encoder.fingerprint

    @cached_property
    def assistant(self) -> Assistant:
        """The language model. Raises WeightsError."""
        return Assistant.load(self.source, device=self.device)


@dataclass(frozen=True)
class Common:
    """What every runner understands.

    Attributes:
        seed: of everything that is drawn. limit: measure only so many items, drawn by the seed; None for all.
        shuffle_labels: the control that must fall to chance: truths are permuted among the items.
        allow_subset: measure data of another size than the published set's, and mark the result.
        batch_size: pictures that go through the model at once.
        cache: folder of features; None keeps nothing.
    """

    seed: int = 0
    limit: int | None = None
    shuffle_labels: bool = False
    allow_subset: bool = False
    batch_size: int = 32
    cache: Path | None = None

    def settings(self) -> dict[str, Any]:
        """What of this decides numbers."""
        names = ("seed", "limit", "shuffle_labels", "allow_subset")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Request(Generic[OptionsT]):
    """One benchmark to run. `data` is None only where a benchmark makes its own (the world's)."""

    benchmark: Benchmark
    model: ModelUnderTest
    options: OptionsT
    data: Path | None = None
    common: Common = field(default_factory=Common)
    on_progress: OnProgress = ignore_progress

    def with_options(self, options: OtherT) -> Request[OtherT]:
        """The same request of another runner."""
        return Request(self.benchmark, self.model, options, self.data, self.common, self.on_progress)

    def require_data(self) -> Path:
        """The data folder or file. Raises ConfigError that says what to fetch and how it must lie."""
        if self.data is None:
            note = self.benchmark.data
            raise ConfigError(
                f"{self.benchmark.name} needs --data DIR. Get it from {note.source or 'its publisher'}"
                + (f" ({note.licence})" if note.licence else "")
                + (f". Layout: {note.layout}" if note.layout else "")
            )
        return self.data


def _is_plm_folder(folder: Path) -> bool:
    try:
        read_plm_folder(folder)
    except WeightsError:
        return False
    return True
