"""Label images and videos with words of your own, without training (zero-shot)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from perceptic.errors import ConfigError
from perceptic.inference.encode import DTypeName, Encoder, ResizeMethod, load_encoder, pool_frames
from perceptic.media.prefetch import Failure
from perceptic.tasks.embed import DEFAULT_MODEL
from perceptic.tasks.media_list import Paths, list_media
from perceptic.tasks.media_stream import (
    DEFAULT_BATCH_SIZE,
    DEFAULT_NUM_FRAMES,
    OnProgress,
    encode_media,
    ignore_progress,
)
from perceptic.tasks.zero_shot import DEFAULT_TEMPLATES, Templates, label_vectors


@dataclass(frozen=True)
class LabelScore:
    """A label for a file. `probability` is over the given labels; `similarity` is the cosine, -1 to 1."""

    label: str
    probability: float
    similarity: float


@dataclass(frozen=True)
class Classification:
    """The likeliest labels of one file, best first; none, and `error` set, if it could not be read."""

    path: str
    kind: Literal["image", "video", "unknown"]
    labels: tuple[LabelScore, ...]
    error: str | None = None

    @property
    def best(self) -> LabelScore | None:
        return self.labels[0] if self.labels else None


def classify(
    paths: Paths,
    labels: Sequence[str],
    *,
    model: str | Path | Encoder = DEFAULT_MODEL,
    templates: Templates = DEFAULT_TEMPLATES,
    top_k: int = 5,
    num_frames: int = DEFAULT_NUM_FRAMES,
    batch_size: int = DEFAULT_BATCH_SIZE,
    device: str = "auto",
    dtype: DTypeName = "auto",
    method: ResizeMethod | None = None,
    on_progress: OnProgress = ignore_progress,
) -> list[Classification]:
    """Label files with the nearest of the given labels, by the published protocol (spec sections 6.1 and 6.2).

    A label's vector is the mean over its templates; a video's is the mean of its raw frame embeddings, normalised;
    probabilities are softmax(logit scale * cosine) over all labels.

    Args:
        paths: one file, or files, folders and globs.
        labels: what to choose from, for example ["dog", "cat"].
        templates: sentences with `{}` where the label goes, or label -> whole prompts.
        top_k: how many labels to return for each file.

    Returns:
        One `Classification` per file, in natural order; at the end one for each path that names nothing.

    Raises:
        ConfigError: no or doubled labels, bad templates, or a model without a text tower.
        DataError, MediaError: no image or video was found at all.
    """
    if top_k < 1:
        raise ConfigError(f"top_k must be at least 1, not {top_k}")
    encoder = load_encoder(model, needs_text=True, device=device, dtype=dtype, method=method)
    vectors = label_vectors(encoder, labels, templates)
    media = list_media(paths)
    results: dict[str, Classification] = {}
    for result in encode_media(
        encoder, media.files, num_frames=num_frames, batch_size=batch_size, on_progress=on_progress
    ):
        path, kind = str(result.file.path), result.file.kind
        if isinstance(result, Failure):
            results[path] = Classification(path, kind, (), result.error.reason)
        else:
            vector = pool_frames(result.frame_vectors, normalize_frames=False)
            best = score_labels(vector, vectors, labels, encoder.logit_scale, top_k)
            results[path] = Classification(path, kind, best)
    missing = [Classification(path, "unknown", (), reason) for path, reason in media.missing.items()]
    return [results[str(file.path)] for file in media.files] + missing


def score_labels(
    vector: torch.Tensor, label_vectors: torch.Tensor, labels: Sequence[str], logit_scale: float, top_k: int
) -> tuple[LabelScore, ...]:
    """The best labels of one unit vector (E,) among (labels, E) unit vectors."""
    similarities = label_vectors @ vector
    probabilities = (logit_scale * similarities).softmax(dim=0)
    order = similarities.argsort(descending=True, stable=True)[:top_k].tolist()
    return tuple(LabelScore(labels[i], float(probabilities[i]), float(similarities[i])) for i in order)
