"""Where an encoder's batches come from: pools decoded once, or streams that decode as it trains."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from perceptic.data.batches import Batch, BatchMaker
from perceptic.data.mixing import ALONE, Reader
from perceptic.data.pair_decoder import PairDecoder
from perceptic.data.pool import Pool, open_pool
from perceptic.data.registry import parse_mix, read_registry
from perceptic.data.samples import SampleSource
from perceptic.data.shards import ShardSource
from perceptic.data.skipped import SkippedSamples
from perceptic.data.stream import StreamBatches, StreamPart, StreamSettings
from perceptic.data.stream_parts import find_units, open_stream_parts
from perceptic.data.world_source import WorldClips, WorldCloseups, WorldImages
from perceptic.errors import ConfigError
from perceptic.text.clip_tokenizer import ClipTokenizer
from perceptic.train.parts import DataProgress
from perceptic.train.plan import PlannedStep
from perceptic.train.recipe import CaptionShares, DataRecipe, PhaseRecipe, Recipe
from perceptic.train.sources import BatchSource
from perceptic.world import CaptionNoise, flip_caption


def open_pools(recipe: Recipe, cache: Path, workers: int, progress: DataProgress) -> dict[str, Pool]:
    """Every pool of the recipe by name, built where missing; streams have none. Raises DataError."""

    def report(name: str) -> Callable[[int, int], None]:
        return lambda done, total: progress(name, done, total)

    return {
        name: open_pool(make_source(data, f"data.{name}"), cache, workers, report(name))
        for name, data in recipe.data.items()
        if not data.is_stream
    }


def make_source(data: DataRecipe, key: str) -> SampleSource:
    """What a pool is made of. `key` names the entry in errors.

    Raises:
        DataError: shards that cannot be found. ConfigError: a stream, which is no pool.
    """
    noise = CaptionNoise(data.noise.missing, data.noise.wrong)
    match data.source:
        case "world-images":
            return WorldImages(data.count, data.seed, data.image_size, noise, data.single_share)
        case "world-closeups":
            return WorldCloseups(data.count, data.seed, data.image_size, data.scene_size, noise)
        case "world-clips":
            return WorldClips(data.count, data.num_frames, data.seed, data.image_size, noise)
        case "shards":
            return ShardSource.find(data.shards, image_size=data.image_size, num_frames=data.num_frames)
        case "stream":
            raise ConfigError(f"{key}: a stream is read while training, it has no pool")


def phase_source(
    recipe: Recipe,
    phase: PhaseRecipe,
    pools: Mapping[str, Pool],
    tokenizer: ClipTokenizer,
    device: torch.device,
    reader: Reader = ALONE,
) -> BatchSource[Batch]:
    """The batches of a phase; of each, the part that `reader` (one of the processes that train) makes.

    Raises:
        ConfigError: a stream without data, or a batch that the processes cannot share evenly.
        DataError: shards or folders that cannot be found.
    """
    data = recipe.data[phase.data]
    if data.is_stream:
        return OnDevice(_open_stream(recipe, phase, data, tokenizer, reader), device)
    maker = BatchMaker(
        pool=pools[phase.data],
        tokenizer=tokenizer,
        batch_size=phase.batch_size,
        seed=recipe.seed,
        caption_shares=_weights(phase.captions),
        augmentation=phase.augmentation,
        rewrite_flipped=flip_caption,
        is_video=data.num_frames > 1,
        reader=reader,
    )
    return OnDevice(PoolBatches(maker), device)


@dataclass(frozen=True)
class PoolBatches:
    """A phase's image-text or video-text pairs from a pool: batches are functions of the step."""

    maker: BatchMaker

    def batch(self, planned: PlannedStep) -> Batch:
        return self.maker.batch(planned.step_in_phase, planned.image_size)

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """There is nothing to restore."""

    @property
    def skipped(self) -> None:
        """A pool holds only what can be used."""

    def figures(self, planned: PlannedStep) -> dict[str, float]:
        return {}

    def close(self) -> None:
        """Nothing runs in the background."""


@dataclass(frozen=True)
class OnDevice:
    """A source whose batches are moved to where the model is, and which reports their resolution."""

    source: BatchSource[Batch]
    device: torch.device

    def batch(self, planned: PlannedStep) -> Batch:
        batch = self.source.batch(planned)
        return dataclasses.replace(batch, pixels=batch.pixels.to(self.device), ids=batch.ids.to(self.device))

    def state(self) -> dict[str, Any]:
        return self.source.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        self.source.restore(state)

    @property
    def skipped(self) -> SkippedSamples | None:
        return self.source.skipped

    def figures(self, planned: PlannedStep) -> dict[str, float]:
        return {"image_size": planned.image_size, **self.source.figures(planned)}

    def close(self) -> None:
        self.source.close()


def _open_stream(
    recipe: Recipe, phase: PhaseRecipe, data: DataRecipe, tokenizer: ClipTokenizer, reader: Reader
) -> StreamBatches:
    batch_size = reader.share_of(phase.batch_size, f"phase {phase.name}: a batch")
    return StreamBatches(
        _stream_parts(data, phase.data),
        PairDecoder(data.num_frames, _weights(phase.captions), phase.augmentation),
        tokenizer,
        StreamSettings(batch_size, recipe.seed, data.buffer, data.workers, data.skip_limit),
        reader,
    )


def check_streams(recipe: Recipe) -> None:
    """Raises ConfigError unless every stream says what it reads; nothing is opened."""
    for name, data in recipe.data.items():
        if not data.is_stream:
            continue
        given = [key for key in ("shards", "folder", "mix") if getattr(data, key)]
        if len(given) != 1:
            raise ConfigError(
                f"data.{name}: a stream reads one of shards, folder and mix, not {' and '.join(given) or 'nothing'}; "
                f"for example --set 'data.{name}.shards=[photos/*.tar]'"
            )
        if data.mix is not None and data.registry is None:
            raise ConfigError(f"data.{name}.registry: is missing; name the datasets.yaml that the mix is of")


def _stream_parts(data: DataRecipe, name: str) -> tuple[StreamPart, ...]:
    if data.mix is None or data.registry is None:
        return (StreamPart(name, find_units(shards=data.shards, folder=data.folder)),)
    return open_stream_parts(parse_mix(data.mix), read_registry(Path(data.registry)))


def _weights(shares: CaptionShares) -> dict[str, float]:
    return dataclasses.asdict(shares)
