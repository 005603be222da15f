"""Training and test features for k-NN and probes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from perceptic.errors import DataError
from perceptic.evaluate.classification import Reporting, measure_classification
from perceptic.evaluate.data_types import EvalData
from perceptic.evaluate.datasets import has_split, locate, open_split
from perceptic.evaluate.features import Features, FeatureSpec, Medium
from perceptic.evaluate.request import Request
from perceptic.evaluate.result import Measured
from perceptic.evaluate.zero_shot import data_facts, request_features, request_size


@dataclass(frozen=True)
class ProbeOptions:
    """What all probes share.

    Attributes:
        layer: a block (0 the first, -1 the last), or "embedding" for what the model gives.
        pooling: of a block: mean of the patch tokens, or the class token.
        train_limit: so many training items, drawn by the seed; 0 for all. num_frames: of a video.
        train_share: of the items, where the data have no training split of their own.
    """

    layer: Any = "embedding"
    pooling: Literal["mean", "class"] = "mean"
    train_limit: int = 0
    num_frames: int = 8
    train_share: float = 0.5


@dataclass(frozen=True)
class ProbeData:
    """Features (N, ...) and labels of both parts. With shuffled labels those of the training part are permuted."""

    train: Tensor
    train_labels: Tensor
    test: Tensor
    targets: NDArray[np.int64]
    class_names: tuple[str, ...]
    media: list[Medium]
    report: Reporting

    def measured(self, scores: Tensor, facts: Mapping[str, Any] | None = None) -> Measured:
        """What scores (N, C) of the test part are worth; `facts` join the report's."""
        report = replace(self.report, facts={**self.report.facts, **(facts or {})})
        return measure_classification(scores.numpy(), self.targets, self.class_names, self.media, report)


@dataclass(frozen=True)
class Splits:
    """Labelled data to train on and to measure on, of the same classes."""

    train: EvalData
    test: EvalData
    notes: tuple[str, ...] = ()


def read_splits(request: Request[Any], options: ProbeOptions) -> Splits:
    """Both splits of a request's data; data without a training split are parted at random, which a note says.

    Raises:
        DataError: nothing there, no labels, or too few items to part.
    """
    root = locate(request.benchmark, request.require_data())
    # Both, so that a class of trains is not taken for a training split.
    if has_split(root, "train") and has_split(root, request.benchmark.split):
        return Splits(open_split(root, "train").labelled(), open_split(root, request.benchmark.split).labelled())
    data = open_split(root, request.benchmark.split).labelled()
    order = np.random.default_rng(request.common.seed).permutation(len(data.items))
    cut = round(options.train_share * len(order))
    if not 0 < cut < len(order):
        raise DataError(f"{root}: has no training split, and {len(order)} items cannot be parted")
    first, second = np.sort(order[:cut]).tolist(), np.sort(order[cut:]).tolist()
    note = f"No training split: {len(first)} items were drawn for training, the others measured."
    return Splits(_part(data, first), _part(data, second), (note,))


def probe_data(request: Request[Any], options: ProbeOptions, splits: Splits, *, tokens: bool = False) -> ProbeData:
    """Encode both splits.

    Raises:
        DataError: classes that differ between the splits, or a test part that is not of the published size unless
            that is allowed.
        ConfigError: no such layer.
    """
    common, train, test = request.common, splits.train, splits.test
    if train.class_names != test.class_names:
        raise DataError(f"{train.where} and {test.where} have different classes")
    size = request_size(request, test, notes=splits.notes)
    test_part = test.limited(common.limit, common.seed)
    train_part = train.limited(options.train_limit or None, common.seed)
    spec = _spec(options, tokens)
    known = request_features(request, train_part, spec, "training media")
    unknown = request_features(request, test_part, spec, "test media")
    labels = _labels(train_part, known)
    if common.shuffle_labels:  # the control: what is learned has nothing to do with the pictures
        labels = np.random.default_rng(common.seed).permutation(labels)
    report = Reporting(
        seed=common.seed,
        facts={
            **data_facts(test_part, unknown),
            **size.facts,
            "train_hash": known.digest,
            "num_train": len(known.kept),
            "num_classes": len(test.class_names),
        },
        failures={**known.failures, **unknown.failures},
        notes=(*splits.notes, *size.notes),
    )
    return ProbeData(
        _features(known, tokens),
        torch.from_numpy(labels),
        _features(unknown, tokens),
        _labels(test_part, unknown),
        test.class_names,
        [test_part.items[number].medium for number in unknown.kept.tolist()],
        report,
    )


def _part(data: EvalData, numbers: list[int]) -> EvalData:
    return EvalData(
        data.where, data.layout, tuple(data.items[number] for number in numbers), data.class_names, data.templates
    )


def _spec(options: ProbeOptions, tokens: bool) -> FeatureSpec:
    if options.layer == "embedding":
        return FeatureSpec(layer=-1, pooling="tokens") if tokens else FeatureSpec(num_frames=options.num_frames)
    layer = int(options.layer)
    return FeatureSpec(layer=layer, pooling="tokens" if tokens else options.pooling, num_frames=options.num_frames)


def _features(features: Features, tokens: bool) -> Tensor:
    """(N, D) unit vectors, or tokens (N, F * L, D)."""
    if not tokens:
        return features.vectors()
    if len({value.shape for value in features.frames}) > 1:
        raise DataError("an attention probe takes pictures or videos, not both at once")
    return torch.stack([torch.from_numpy(value).flatten(0, 1) for value in features.frames])


def _labels(data: EvalData, features: Features) -> NDArray[np.int64]:
    labels = [data.items[number].label for number in features.kept.tolist()]
    if None in labels:
        raise DataError(f"{data.where}: probes take one label for each item; these have several (.npy)")
    return np.array(labels, dtype=np.int64)
