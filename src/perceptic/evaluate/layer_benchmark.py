"""Dense benchmarks on frozen features, as the papers report them: the best layer and the last one.

DAVIS 2017 by label propagation, ADE20K and NYUv2 by linear heads; `perceptic layers` shows every layer.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from perceptic.evaluate.layers import SweepOptions, sweep_layers
from perceptic.evaluate.layers_folders import count_items
from perceptic.evaluate.published_size import FoundSize, check_size
from perceptic.evaluate.request import Request
from perceptic.evaluate.result import Details, Measured


@dataclass(frozen=True)
class Options:
    """`layers`: block numbers from 0 (negative ones from the end) among which the best is looked for; () for all."""

    layers: tuple[int, ...] = ()


def run(request: Request[Options]) -> Measured:
    """Measure every layer; the benchmark's first metric is the best layer's score, its second the last layer's.

    The best layer is chosen on the test data, as in the papers, and so flatters a little. With shuffled labels both are
    those of the control.

    Raises:
        ConfigError: no data. DataError: data that lie otherwise, or not of the published size unless that is allowed.
        WeightsError: the model cannot be loaded.
    """
    common, task, data = request.common, request.benchmark.task, request.require_data()
    found = FoundSize(data, count_items(data, task))
    size = check_size(request.benchmark, found, allow_subset=common.allow_subset)
    options = SweepOptions(
        request.model.source,
        (task,),
        request.options.layers or None,
        data=str(data),
        limit=common.limit,
        seed=common.seed,
        untrained=False,
    )
    # Features of all layers are large: they last as long as the run. `perceptic layers` keeps them.
    if common.cache is not None:
        common.cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="layers-", dir=common.cache) as out:
        sweep = sweep_layers(options, Path(out), request.on_progress)
    report = sweep.tasks[task]
    scores = report.control if common.shuffle_labels else report.scores
    best, last = request.benchmark.metrics
    return Measured(
        metrics={best: scores[report.best_place], last: scores[-1]},
        items=[{"id": f"layer {layer}", **asdict(score)} for layer, score in zip(report.layers, scores, strict=True)],
        facts={"best_layer": report.best, "num_layers": sweep.num_layers, "sweep": sweep.settings, **size.facts},
        details=Details(
            notes=(
                f"Best layer {report.best + 1} of {sweep.num_layers}, counted from 1, chosen on the test data.",
                *size.notes,
            )
        ),
    )
