"""Linear probe: logistic regression on frozen features, its penalty chosen on held-out training items."""

from __future__ import annotations

from dataclasses import dataclass

from perceptic.evaluate.classifiers import DEFAULT_PENALTIES, sweep_logistic
from perceptic.evaluate.probe_data import ProbeOptions, Splits, probe_data, read_splits
from perceptic.evaluate.request import Request
from perceptic.evaluate.result import Measured


@dataclass(frozen=True)
class Options(ProbeOptions):
    """Settings of the linear probe: the `penalties` that are tried and the share of training items that judges them."""

    penalties: tuple[float, ...] = DEFAULT_PENALTIES
    held_out: float = 0.2
    max_steps: int = 200


def run(request: Request[Options]) -> Measured:
    """Fit on the training split, measure on the test split; the result says which penalty was taken and why.

    Raises:
        DataError, ConfigError: as `probe_data` and `sweep_logistic`.
    """
    return measure(request, read_splits(request, request.options))


def measure(request: Request[Options], splits: Splits) -> Measured:
    """The same on data that are read already."""
    options = request.options
    data = probe_data(request, options, splits)
    fit = sweep_logistic(
        data.train,
        data.train_labels,
        len(data.class_names),
        penalties=options.penalties,
        held_out=options.held_out,
        seed=request.common.seed,
        max_steps=options.max_steps,
        on_step=lambda done, total: request.on_progress("fits", done, total),
    )
    sweep = {f"{penalty:g}": round(100 * value, 2) for penalty, value in sorted(fit.sweep.items())}
    return data.measured(fit.classifier(data.test), {"penalty": fit.penalty, "held_out_accuracy": sweep})
