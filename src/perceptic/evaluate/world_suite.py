"""Benchmarks of encoders on the synthetic world: the protocols of the papers on data that are made on the spot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from perceptic.evaluate import attention_probe, knn, linear_probe, retrieval, zero_shot
from perceptic.evaluate.probe_data import Splits
from perceptic.evaluate.request import Request
from perceptic.evaluate.result import Measured
from perceptic.evaluate.world_data import (
    CaptionLength,
    captioned_clips,
    captioned_scenes,
    labelled_clips,
    labelled_scenes,
)

Protocol = Literal["labels", "events", "clip_labels", "pictures", "clips", "knn", "linear_probe", "attention_probe"]
_TRAINING_SEEDS = 500  # added to the seed: training and test scenes of a probe are never the same


@dataclass(frozen=True)
class Options:
    """Settings of a world benchmark.

    Attributes:
        protocol: what is measured. attribute: the label of pictures: shape, colour, colour_shape, texture, size.
        split: "validation" (colour-shape pairs that training saw) or "heldout_pairs".
        count: items; train_count: for probes. length: of captions. seed: which scenes, besides the run's seed.
        layer, steps: of the probes.
    """

    protocol: Protocol = "labels"
    attribute: str = "shape"
    split: str = "validation"
    count: int = 500
    train_count: int = 1000
    length: CaptionLength = "long"
    seed: int = 11
    reweight: float = 0.0
    layer: Any = "embedding"
    steps: int = 200


def run(request: Request[Options]) -> Measured:
    """Make the data and measure them by the protocol.

    Raises:
        ConfigError: unknown attribute or split, or a model that the protocol does not suit.
    """
    options = request.options
    seed = options.seed + request.common.seed
    request.on_progress("drawing the world", 0, 1)
    match options.protocol:
        case "labels":
            data = labelled_scenes(options.attribute, options.split, options.count, seed)
            return zero_shot.measure(request.with_options(zero_shot.Options()), data)
        case "events" | "clip_labels":
            label: Literal["event", "shape"] = "event" if options.protocol == "events" else "shape"
            data = labelled_clips(label, options.split, options.count, seed)
            return zero_shot.measure(request.with_options(zero_shot.Options()), data)
        case "pictures":
            data = captioned_scenes(options.split, options.count, seed, options.length)
            return retrieval.measure(request.with_options(retrieval.Options(reweight=options.reweight)), data)
        case "clips":
            data = captioned_clips(options.split, options.count, seed, options.length)
            return retrieval.measure(request.with_options(retrieval.Options(reweight=options.reweight)), data)
        case _:
            return _probe(request, seed)


def _probe(request: Request[Options], seed: int) -> Measured:
    options = request.options
    train = labelled_scenes(options.attribute, "validation", options.train_count, seed + _TRAINING_SEEDS)
    splits = Splits(train, labelled_scenes(options.attribute, options.split, options.count, seed))
    match options.protocol:
        case "knn":
            return knn.measure(request.with_options(knn.Options(layer=options.layer)), splits)
        case "linear_probe":
            return linear_probe.measure(request.with_options(linear_probe.Options(layer=options.layer)), splits)
        case _:
            head = attention_probe.Options(layer=options.layer, steps=options.steps)
            return attention_probe.measure(request.with_options(head), splits)
