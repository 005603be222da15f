"""What a recipe can ask of the loop besides: accumulation, averaged weights, validation, traces, signals."""

from __future__ import annotations

import json
import os
import signal

import pytest
import torch
from torch import nn

from perceptic.errors import ConfigError
from perceptic.train.checkpoint import CheckpointFolder
from perceptic.train.ema import MovingAverage
from perceptic.train.optimizers import decay_groups
from perceptic.train.recipe import load_recipe
from perceptic.train.runs import RunCallbacks, train
from perceptic.train.schedule import cosine_with_warmup
from perceptic.weights.plm_pretrained import PerceptionLM

PLM_RECIPE = """
name: tiny-plm
objective: plm
model: PLM-Nano
model_overrides: {decoder: {dim: 32, n_layers: 1}, vision: {layers: 1}}
threads: 1
data: {world: {images: 24, videos: 2, seed: 3}}
optimizer: {name: adamw, clip_norm: 1.0}
checkpoint: {every_steps: 2, keep: 2}
phases:
  - name: only
    stage: 2
    stage_overrides: {vision_input_type: vanilla, max_num_tiles: 1, max_video_frames: 4, drop_path: 0.0}
    mix: "world_image:2,world_text:1"
    steps: 4
    learning_rate: 3.0e-3
    max_tokens: 256
    window: 4
"""


@pytest.fixture
def plm_path(tmp_path):
    path = tmp_path / "plm.yaml"
    path.write_text(PLM_RECIPE)
    return path


def lines(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def stop_after(step, number=signal.SIGTERM):
    def stop(metrics):
        if metrics.step == step:
            os.kill(os.getpid(), number)

    return RunCallbacks(on_step=stop)


def test_accumulated_micro_batches_are_one_large_batch(plm_path, data_cache, tmp_path):
    large = load_recipe(plm_path, ("phases.0.num_sequences=2",))
    small = load_recipe(plm_path, ("accumulate=2",))
    train(large, tmp_path / "large", data_cache)
    train(small, tmp_path / "small", data_cache)
    for one, two in zip(lines(tmp_path / "large"), lines(tmp_path / "small"), strict=True):
        assert (one["labels"], one["tokens"], one["samples"]) == (two["labels"], two["tokens"], two["samples"])
        for name in ("loss", "gradient_norm", "accuracy"):
            assert one[name] == pytest.approx(two[name], rel=1e-4)


def test_pairs_cannot_be_accumulated(recipe_path):
    with pytest.raises(ConfigError, match="set chunk_size or use more processes"):
        load_recipe(recipe_path, ("accumulate=2",))


def test_everything_kept_survives_a_stop(plm_path, data_cache, tmp_path):
    changes = (
        "average.decay=0.9",
        "accumulate=2",
        "validation={data: 'world_video:1', every_steps: 2, batches: 2}",
        "export_weights=average",
    )
    recipe = load_recipe(plm_path, changes)
    train(recipe, tmp_path / "whole", data_cache)
    result = train(recipe, tmp_path / "parts", data_cache, callbacks=stop_after(2, signal.SIGUSR1))
    assert (result.outcome, result.next_step, result.stopped_by) == ("interrupted", 3, "SIGUSR1")
    train(recipe, tmp_path / "parts", data_cache)
    whole, parts = (CheckpointFolder(tmp_path / name / "checkpoints") for name in ("whole", "parts"))
    torch.testing.assert_close(whole.newest().state.average, parts.newest().state.average, rtol=0, atol=0)
    assert whole.newest().state.best == parts.newest().state.best == whole.best().best
    assert [line["loss"] for line in lines(tmp_path / "whole")] == [line["loss"] for line in lines(tmp_path / "parts")]
    exported = PerceptionLM.from_pretrained(tmp_path / "whole" / "model").state_dict()
    average = whole.newest().state.average
    assert torch.equal(exported["vision_projector.projector.0.weight"],
                       average["vision_projector.projector.0.weight"].to(torch.bfloat16))  # fmt: skip


def test_validation_sees_the_same_data_and_keeps_the_best(plm_path, data_cache, tmp_path):
    changes = (
        "validation={data: 'world_image:1', every_steps: 2, batches: 2}",
        "phases.0.learning_rate=0.0",
        "export_weights=best",
    )
    train(load_recipe(plm_path, changes), tmp_path / "run", data_cache)
    found = lines(tmp_path / "run")
    measured = [line["validation_loss"] for line in found if "validation_loss" in line]
    assert [line["step"] for line in found if "validation_loss" in line] == [1, 3]
    assert measured[0] == measured[1]  # nothing was learned
    assert all(0 <= line["validation_accuracy"] <= 1 for line in found if "validation_accuracy" in line)
    best = CheckpointFolder(tmp_path / "run" / "checkpoints").best()
    assert (best.step, best.best) == (2, measured[0])


def test_pairs_are_validated_without_augmentation(recipe_path, data_cache, tmp_path):
    changes = ("validation={data: images, every_steps: 5, batches: 2, metric: accuracy}", "phases.1.stages.0.steps=1")
    train(load_recipe(recipe_path, changes), tmp_path / "run", data_cache)
    measured = [line for line in lines(tmp_path / "run") if "validation_loss" in line]
    assert [line["step"] for line in measured] == [4, 7]
    best = CheckpointFolder(tmp_path / "run" / "checkpoints").best()
    assert best.best == max(line["validation_accuracy"] for line in measured)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("accumulate=0", "accumulate: must be at least 1"),
        ("export_weights=average", "there is no average to export"),
        ("export_weights=best", "nothing says which is the best"),
        ("average.decay=1.0", "between 0 and 1"),
        ("validation={data: 'a:1', every_steps: 0}", "must be positive"),
        ("sinks=[tensorbord]", "sinks.0: must be one of tensorboard, wandb, trackio"),
    ],
)
def test_mistakes_name_the_key(plm_path, change, message):
    with pytest.raises(ConfigError, match=message):
        load_recipe(plm_path, (change,))


def test_an_unknown_metric_is_named(plm_path, data_cache, tmp_path):
    change = "validation={data: 'world_image:1', every_steps: 1, batches: 1, metric: bleu}"
    with pytest.raises(ConfigError, match="no 'bleu'; known: loss, accuracy"):
        train(load_recipe(plm_path, (change,)), tmp_path / "run", data_cache)


def test_a_trace_is_written(plm_path, data_cache, tmp_path):
    train(load_recipe(plm_path, ("profile={start: 1, steps: 1}",)), tmp_path / "run", data_cache)
    trace = json.loads((tmp_path / "run" / "trace.json").read_text())
    assert any("mm" in event.get("name", "") for event in trace["traceEvents"])


def test_the_average_follows_the_weights():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    average = MovingAverage(model, 0.5)
    nn.init.ones_(model.weight)
    average.update(model)  # decay is (1 + 1) / (10 + 1) so early
    assert average.averages["weight"].item() == pytest.approx(9 / 11)
    again = MovingAverage(model, 0.5)
    again.restore(average.state())
    for one in (average, again):
        one.update(model)
    assert average.averages["weight"].item() == again.averages["weight"].item()
    average.copy_to(model)
    assert model.weight.item() == pytest.approx(1 - 2 / 11 * 3 / 12)


def test_the_original_schedule_begins_at_nothing():
    # Warm-up of 120 in 21,000 steps to 1 %: perception-language-model 8.5.
    steps = {0: 0.0, 1: 0.008333, 60: 0.5, 120: 1.0, 5000: 0.872458, 10560: 0.505, 20999: 0.01}
    for step, factor in steps.items():
        assert cosine_with_warmup(step, 21000, 1.0, 120, 0.01, from_zero=True) == pytest.approx(factor, abs=1e-5)


def test_all_can_decay():
    model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    matrices, others = decay_groups(model, 0.1)
    assert (len(matrices["params"]), len(others["params"])) == (1, 3)
    everything, nothing = decay_groups(model, 0.1, decayed="all")
    assert (len(everything["params"]), len(nothing["params"])) == (4, 0)
