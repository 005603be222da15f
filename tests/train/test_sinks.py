"""Where metrics go besides the run folder."""

from __future__ import annotations

import json
import types

import pytest

from perceptic import optional
from perceptic.errors import MissingDependencyError
from perceptic.train.metrics import StepMetrics
from perceptic.train.sinks import make_sink


def step(number, loss=1.0):
    return StepMetrics(number, "images", loss, 0.1, 2.0, 0.5, 0.1, 8 * number, {"accuracy": 0.5, "samples": 3})


class FakeService(types.ModuleType):
    """Weights & Biases' and trackio's interface, as far as it is used."""

    def __init__(self, name):
        super().__init__(name)
        self.calls = []

    def init(self, **arguments):
        self.calls.append(("init", arguments))
        return self

    def log(self, values, step):
        self.calls.append(("log", step, values))

    def finish(self):
        self.calls.append(("finish",))


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_services_get_every_number_and_the_recipe(name, tmp_path, monkeypatch):
    service = FakeService(name)
    monkeypatch.setattr(optional, "require", lambda module, purpose: service)
    sink = make_sink([name], "my-run", tmp_path, {"seed": 3})
    sink.resume_at(2)
    sink.write(step(2))
    sink.close()
    (_, arguments), (_, number, values), (end,) = service.calls
    assert arguments["name"] == "my-run"
    assert arguments["config"] == {"seed": 3}
    assert arguments["resume"] == "allow"
    assert ("id" in arguments) == (name == "wandb")
    assert number == 2
    assert values == {
        "loss": 1.0, "learning_rate": 0.1, "gradient_norm": 2.0, "seconds": 0.5, "data_seconds": 0.1, "samples": 16,
        "accuracy": 0.5,
    }  # fmt: skip
    assert end == "finish"
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["step"] == 2


def test_a_package_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(optional, "is_installed", lambda module: False)
    for name in ("tensorboard", "wandb", "trackio"):
        with pytest.raises(MissingDependencyError, match=rf"perceptic\[{name}\]"):
            make_sink([name], "run", tmp_path, {})


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
def test_tensorboard_reads_what_was_written(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for start, steps in ((0, (0, 1, 2)), (1, (1, 2, 3))):  # the second run goes on after step 0
        sink = make_sink(["tensorboard"], "run", tmp_path, {})
        sink.resume_at(start)
        for number in steps:
            sink.write(step(number, loss=10.0 * start + number))
        sink.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("loss")
    assert [(event.step, event.value) for event in events] == [(0, 0.0), (1, 11.0), (2, 12.0), (3, 13.0)]
