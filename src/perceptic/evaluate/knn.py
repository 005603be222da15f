"""k nearest neighbours on frozen features: nothing is trained."""

from __future__ import annotations

from dataclasses import dataclass

from perceptic.evaluate.classifiers import nearest_neighbour_scores
from perceptic.evaluate.probe_data import ProbeOptions, Splits, probe_data, read_splits
from perceptic.evaluate.request import Request
from perceptic.evaluate.result import Measured, Score


@dataclass(frozen=True)
class Options(ProbeOptions):
    """Settings of k-NN: `ks`, the first of which is the headline; `temperature` of the votes' weights."""

    ks: tuple[int, ...] = (20, 10, 100, 200)
    temperature: float = 0.07


def run(request: Request[Options]) -> Measured:
    """Every item gets the class that its nearest training items vote for; `acc1@k` for every k.

    Raises:
        DataError, ConfigError: as `probe_data`.
    """
    return measure(request, read_splits(request, request.options))


def measure(request: Request[Options], splits: Splits) -> Measured:
    """The same on data that are read already."""
    options = request.options
    data = probe_data(request, options, splits)
    scores = {
        k: nearest_neighbour_scores(
            data.train, data.train_labels, data.test, len(data.class_names), k=k, temperature=options.temperature
        )
        for k in options.ks
    }
    first = data.measured(scores[options.ks[0]])
    others = {
        f"acc1@{k}": Score.mean(table.argmax(dim=1).numpy() == data.targets, seed=request.common.seed)
        for k, table in scores.items()
    }
    return Measured({**first.metrics, **others}, first.items, first.facts, first.details, first.num_failed)
