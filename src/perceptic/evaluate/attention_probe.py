"""Attention probe: a small head with one query over the frozen tokens of a layer (training-recipes section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass

from perceptic.evaluate.classifiers import HeadSettings, head_scores, train_attention_head
from perceptic.evaluate.probe_data import ProbeOptions, Splits, probe_data, read_splits
from perceptic.evaluate.request import Request
from perceptic.evaluate.result import Measured


@dataclass(frozen=True)
class Options(ProbeOptions):
    """Settings of the attention probe. The papers' own are not published.

    Attributes:
        steps, head_batch_size, learning_rate, weight_decay, heads: see `HeadSettings`. `layer` "embedding" stands for
            the last block. All tokens are held in memory as float16: for a large set give `train_limit`.
    """

    steps: int = 500
    head_batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    heads: int = 4


def run(request: Request[Options]) -> Measured:
    """Train the head on the training split, measure it on the test split.

    Raises:
        DataError, ConfigError: as `probe_data` and `train_attention_head`.
    """
    return measure(request, read_splits(request, request.options))


def measure(request: Request[Options], splits: Splits) -> Measured:
    """The same on data that are read already."""
    options = request.options
    data = probe_data(request, options, splits, tokens=True)
    settings = HeadSettings(
        options.steps,
        options.head_batch_size,
        options.learning_rate,
        options.weight_decay,
        options.heads,
        request.common.seed,
    )
    head = train_attention_head(
        data.train,
        data.train_labels,
        len(data.class_names),
        settings,
        on_step=lambda done, total: request.on_progress("steps", done, total),
    )
    return data.measured(head_scores(head, data.test))
