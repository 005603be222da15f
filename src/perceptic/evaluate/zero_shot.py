"""Zero-shot classification of pictures and videos by prompts (perception-encoder section 6.1 and 6.2).

A class is the normalised mean of its normalised prompt embeddings; a video the normalised mean of its raw frame
embeddings; a logit 100 times their cosine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from perceptic.errors import ConfigError
from perceptic.evaluate.benchmark import Benchmark, template_sets
from perceptic.evaluate.classification import Reporting, measure_classification, measure_multi_label
from perceptic.evaluate.data_types import EvalData
from perceptic.evaluate.datasets import open_data
from perceptic.evaluate.features import Features, FeatureSpec, extract
from perceptic.evaluate.published_size import FoundSize, SizeCheck, check_size
from perceptic.evaluate.request import Request
from perceptic.evaluate.result import Measured
from perceptic.tasks.zero_shot import Templates, label_vectors

_LOGIT_SCALE = 100.0


@dataclass(frozen=True)
class Options:
    """Settings of zero-shot classification.

    Attributes:
        templates: a set of `templates.yaml` by name, or one template with `{c}`; "" takes the data's own, then the
            benchmark's.
        num_frames: of a video. resize_mode: another way to the model's square ("squash" or "center_crop").
        split: of the data; "" for the benchmark's.
    """

    templates: str = ""
    num_frames: int = 8
    resize_mode: Literal["", "squash", "center_crop"] = ""
    split: str = ""


def run(request: Request[Options]) -> Measured:
    """Label every item with the nearest class.

    Raises:
        ConfigError: a model without a text tower, or an unknown template set.
        DataError: data without labels or class names, or not of the published size unless that is allowed.
    """
    data = open_data(request.benchmark, request.require_data(), request.options.split or None)
    return measure(request, data)


def measure(request: Request[Options], whole: EvalData) -> Measured:
    """The same on data that are read already."""
    options, common = request.options, request.common
    encoder = request.model.encoder
    encoder.require_text("zero-shot classification")
    size = request_size(request, whole.labelled(), options.split)
    data = whole.limited(common.limit, common.seed)
    templates = chosen_templates(options.templates, data, request.benchmark)
    request.on_progress("class names", 0, 1)
    classes = label_vectors(encoder, unique_names(data.class_names), templates)
    spec = FeatureSpec(num_frames=options.num_frames, resize_mode=options.resize_mode or None)
    features = request_features(request, data, spec)
    scores = (_LOGIT_SCALE * features.vectors() @ classes.T).numpy()
    report = Reporting(
        seed=common.seed,
        facts={
            **data_facts(data, features),
            **size.facts,
            "num_classes": len(data.class_names),
            "templates": dict(templates) if isinstance(templates, Mapping) else list(templates),
            "resize_mode": spec.preprocessing(encoder).resize_mode,
        },
        failures=features.failures,
        notes=(*data.notes, *size.notes),
    )
    kept = [data.items[number] for number in features.kept.tolist()]
    # The control: what is true of one item is said of another.
    order = np.random.default_rng(common.seed).permutation(len(kept)) if common.shuffle_labels else np.arange(len(kept))
    media = [item.medium for item in kept]
    if kept[0].positives is not None:
        positives = np.zeros(scores.shape, dtype=np.bool_)
        for row, item in enumerate(kept):
            positives[row, list(item.positives or ())] = True
        return measure_multi_label(scores, positives[order], media, report)
    targets = np.array([item.label for item in kept], dtype=np.int64)
    return measure_classification(scores, targets[order], data.class_names, media, report)


def request_features(request: Request[Any], data: EvalData, spec: FeatureSpec, label: str = "media") -> Features:
    """Features of a request's model, kept in its cache, with its progress."""
    return extract(
        request.model.encoder,
        data.media,
        spec,
        cache=request.common.cache,
        batch_size=request.common.batch_size,
        on_count=lambda done, total: request.on_progress(label, done, total),
    )


def chosen_templates(asked: str, data: EvalData, benchmark: Benchmark) -> Templates:
    """What the user asked for, else what the data bring, else the benchmark's.

    Raises:
        ConfigError: neither a set nor a template.
    """
    sets = template_sets()
    if "{c}" in asked or "{}" in asked:
        return (asked,)
    if asked and asked not in sets:
        raise ConfigError(f"templates '{asked}': expected a text with {{c}} in it, or one of {', '.join(sets)}")
    if asked:
        return sets[asked]
    return data.prompts or data.templates or sets[benchmark.templates or "general"]


def unique_names(names: Sequence[str]) -> list[str]:
    """Class names; a second class of the same name (ImageNet has two "maillot") becomes a text of its own by a space.

    Prompts ignore blanks at the end, so both get the same vector, as in the published evaluation.
    """
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name + " " * (seen[name] - 1))
    return found


def data_facts(data: EvalData, features: Features) -> dict[str, object]:
    """What a result says of its data."""
    return {
        "data": str(data.where),
        "layout": data.layout,
        "data_hash": features.digest,
        "num_items": len(features.kept),
        "num_failed": len(features.failures),
    }


def request_size(request: Request[Any], data: EvalData, split: str = "", notes: Sequence[str] = ()) -> SizeCheck:
    """How the size of a request's data, before any limit, stands to the published set's. Raises DataError."""
    found = FoundSize(data.where, len(data.items), len(data.class_names), split, (*data.notes, *notes))
    return check_size(request.benchmark, found, allow_subset=request.common.allow_subset)
