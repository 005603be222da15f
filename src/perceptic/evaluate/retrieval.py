"""Retrieval between texts and pictures or videos, both directions (perception-encoder section 6.3).

Both sides are unit vectors, a video the mean of its unit frame vectors. Texts have no templates; equal texts share
their media; a medium may have several texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perceptic import metrics
from perceptic.evaluate.classification import NUM_MISTAKES, Reporting, thumbnail
from perceptic.evaluate.data_types import EvalData
from perceptic.evaluate.datasets import open_data
from perceptic.evaluate.features import FeatureSpec, Medium
from perceptic.evaluate.request import Request
from perceptic.evaluate.result import Details, Measured, Mistake, Score
from perceptic.evaluate.zero_shot import data_facts, request_features, request_size
from perceptic.inference.encode import unit_vectors

_TEXTS_AT_ONCE = 256


@dataclass(frozen=True)
class Options:
    """Settings of retrieval.

    Attributes:
        ks: recall among so many first ones. reweight: factor of the dual softmax over the whole test set, 0 for none
            (the released command line has 1 on by default for pictures and videos, 10 for sound).
        max_captions: of a medium, the first ones; 0 for all.
        num_frames: of a video. mirror: left becomes right. split: of the data; "" for the benchmark's.
    """

    ks: tuple[int, ...] = (1, 5, 10)
    reweight: float = 0.0
    max_captions: int = 0
    num_frames: int = 8
    mirror: bool = False
    split: str = ""


def run(request: Request[Options]) -> Measured:
    """Rank media for every text and texts for every medium.

    Raises:
        ConfigError: a model without a text tower.
        DataError: data without captions, or not of the published size unless that is allowed.
    """
    data = open_data(request.benchmark, request.require_data(), request.options.split or None)
    return measure(request, data)


def measure(request: Request[Options], whole: EvalData) -> Measured:
    """The same on data that are read already."""
    options, common = request.options, request.common
    encoder = request.model.encoder
    encoder.require_text("retrieval")
    size = request_size(request, whole.captioned(), options.split)
    data = whole.limited(common.limit, common.seed)
    features = request_features(request, data, FeatureSpec(num_frames=options.num_frames, mirror=options.mirror))
    kept = [data.items[number] for number in features.kept.tolist()]
    captions = [item.captions[: options.max_captions or None] for item in kept]
    texts = [text for of_medium in captions for text in of_medium]
    owners = np.repeat(np.arange(len(kept)), [len(of_medium) for of_medium in captions])
    vectors = []
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        vectors.append(unit_vectors(encoder.encode_texts(texts[start : start + _TEXTS_AT_ONCE])).numpy())
        request.on_progress("texts", min(start + _TEXTS_AT_ONCE, len(texts)), len(texts))
    similarities = np.concatenate(vectors) @ features.vectors(normalize_frames=True).numpy().T
    if common.shuffle_labels:
        owners = np.random.default_rng(common.seed).permutation(owners)
    report = Reporting(
        seed=common.seed,
        facts={**data_facts(data, features), **size.facts, "num_texts": len(texts)},
        failures=features.failures,
        notes=(*data.notes, *size.notes),
    )
    return measure_retrieval(similarities, owners, texts, [item.medium for item in kept], options, report)


def measure_retrieval(
    similarities: NDArray[np.floating[Any]],
    owners: NDArray[np.int64],
    texts: list[str],
    media: list[Medium],
    options: Options,
    report: Reporting,
) -> Measured:
    """Recalls with intervals; captions of one medium are drawn together.

    Args:
        similarities: (T, M). owners: (T,) the medium of each text.
    """
    ranks = metrics.retrieval_ranks(similarities, owners, texts=texts, reweight_factor=options.reweight or None)
    kind = "video" if media[0].kind == "video" else "image"
    found: dict[str, Score] = {}
    for k in options.ks:
        for name, direction, groups, count in (
            (f"{kind}_retrieval_recall@{k}", ranks.text_to_media, owners, len(media)),
            (f"text_retrieval_recall@{k}", ranks.media_to_text, None, len(texts)),
        ):
            if k <= direction.num_candidates:
                chance = 100.0 * min(1.0, k / count * (1 if groups is not None else len(texts) / len(media)))
                found[name] = Score.mean(direction.hits(k), groups=groups, seed=report.seed, chance=chance)
    best = similarities.argmax(axis=1)
    items = [
        {"id": f"text {row}", "text": text, "truth": media[owner].name, "nearest": media[near].name, "rank": int(rank)}
        for row, (text, owner, near, rank) in enumerate(
            zip(texts, owners.tolist(), best.tolist(), ranks.text_to_media.values.tolist(), strict=True)
        )
    ]
    details = Details(
        mistakes=_mistakes(similarities, owners, ranks.text_to_media.values, texts, media), notes=report.all_notes()
    )
    return Measured(found, items, report.facts, details, len(report.failures))


def _mistakes(
    similarities: NDArray[np.floating[Any]],
    owners: NDArray[np.int64],
    ranks: NDArray[np.int64],
    texts: list[str],
    media: list[Medium],
) -> tuple[Mistake, ...]:
    """Texts whose medium came nearest to being first without being it, with the medium that was."""
    rows = np.arange(len(texts))
    best = similarities.argmax(axis=1)
    gap = similarities[rows, best] - similarities[rows, owners]
    wrong = np.flatnonzero((ranks > 0) & (gap > 0))
    chosen = wrong[np.argsort(gap[wrong], kind="stable")][:NUM_MISTAKES].tolist()
    return tuple(
        Mistake(
            texts[row],
            media[owners[row]].name,
            media[best[row]].name,
            f"{similarities[row, best[row]]:.3f} against {similarities[row, owners[row]]:.3f}",
            thumbnail(media[best[row]]),
        )
        for row in chosen
    )
