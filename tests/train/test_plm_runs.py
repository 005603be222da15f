"""Whole runs of the language model: ten steps over two stages, exact resume, a model folder that answers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from perceptic.cli.main import run as perceptic
from perceptic.errors import ConfigError, DataError, TrainError
from perceptic.text.llama_tokenizer import LlamaTokenizer
from perceptic.train.checkpoint import CheckpointFolder
from perceptic.train.recipe import load_recipe
from perceptic.train.runs import RunCallbacks, train
from perceptic.weights.plm_pretrained import PerceptionLM

RECIPE = """
name: tiny-plm
objective: plm
model: PLM-Nano
model_overrides:
  decoder: {dim: 32, n_layers: 1}
  vision: {layers: 1}
vision_init: PE-Core-Nano
threads: 1
data: {world: {images: 24, videos: 2, seed: 3}}
optimizer: {name: adamw, betas: [0.9, 0.95], eps: 1.0e-8, weight_decay: 0.05, clip_norm: 1.0}
checkpoint: {every_steps: 3, keep: 2}
phases:
  - name: align
    stage: 1
    mix: "world_image:1"
    steps: 4
    learning_rate: 1.0e-2
    warmup_steps: 1
    max_tokens: 256
    window: 4
  - name: answers
    stage: 2
    stage_overrides: {vision_input_type: vanilla, max_num_tiles: 1, max_video_frames: 4, layer_scale_init: 0.5}
    mix: "world_image:2,world_video:1,world_text:1"
    steps: 6
    learning_rate: 3.0e-3
    warmup_steps: 1
    max_tokens: 256
    window: 4
    vision_rate: 0.1
"""
GOLDEN_LOSSES = [7.40642, 7.10957, 7.33531, 6.69721, 6.82236, 6.14342, 5.33385, 4.90852, 4.72581, 4.35069]


@pytest.fixture
def recipe_path(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data_cache):
    """A run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("plm")
    (folder / "tiny.yaml").write_text(RECIPE)
    threads = torch.get_num_threads()
    train(load_recipe(folder / "tiny.yaml"), folder / "whole", data_cache)
    torch.set_num_threads(threads)
    return folder / "whole"


def lines(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def losses(out):
    return [line["loss"] for line in lines(out)]


def assert_same_end(one, two):
    first, second = (CheckpointFolder(out / "checkpoints").newest().state for out in (one, two))
    assert first.step == second.step == 10
    assert all(torch.equal(first.model[name], second.model[name]) for name in first.model)
    torch.testing.assert_close(first.optimizer, second.optimizer, rtol=0, atol=0)
    assert torch.equal(first.random_state, second.random_state)
    assert (first.data, first.samples) == (second.data, second.samples)
    assert losses(one) == losses(two)


def test_ten_steps_have_their_losses(own_rows, recipe_path, tmp_path):
    train(load_recipe(recipe_path, own_rows), tmp_path / "run", tmp_path)
    assert losses(tmp_path / "run") == pytest.approx(GOLDEN_LOSSES, rel=2e-3)


@pytest.fixture
def own_rows(tmp_path, goldens):
    """Changes to the recipe that make it independent of the bundled world, vocabulary and weights."""
    rows = []
    for number in range(6):
        name = f"{number}.png"
        shade = [40 * number, 200 - 30 * number, 128]
        Image.fromarray(np.full((16, 16 + number, 3), shade, dtype=np.uint8)).save(tmp_path / name)
        rows.append({"image": name, "conversations": said("What shade is it?", f"Shade {number} of six.")})
        rows.append({"conversations": said(f"What comes after {number}?", f"After {number} comes {number + 1}.")})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "datasets.yaml").write_text("mine: {annotation: rows.jsonl}\n")
    tokenizer = goldens / "plm" / "tokenizer" / "tokenizer.model"
    return (
        f"data={{registry: {tmp_path}/datasets.yaml}}",
        f"tokenizer={tokenizer}",
        "vision_init=",
        f"model_overrides.decoder.vocab_size={LlamaTokenizer.from_file(tokenizer).vocab_size}",
        "phases.0.mix=mine:1",
        "phases.1.mix=mine:1",
    )


def said(question, answer):
    return [{"from": "human", "value": question}, {"from": "assistant", "value": answer}]


def test_every_line_says_what_was_learned_from(whole):
    line = lines(whole)[-1]
    assert line["phase"] == "answers"
    assert {"accuracy", "labels", "tokens", "skipped", "seconds", "data_seconds"} <= line.keys()
    assert 0 < line["labels"] < line["tokens"] <= 256
    assert line["samples"] > lines(whole)[-2]["samples"]  # counted over the run


@pytest.mark.parametrize("step", [1, 3, 6], ids=["in the first stage", "at the border", "in the second stage"])
def test_a_stopped_run_goes_on_to_the_same_bits(whole, recipe_path, data_cache, tmp_path, step):
    def stop(metrics):
        if metrics.step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    recipe, out = load_recipe(recipe_path), tmp_path / "parts"
    stopped = train(recipe, out, data_cache, callbacks=RunCallbacks(on_step=stop))
    assert (stopped.outcome, stopped.next_step, stopped.model_folder) == ("interrupted", step + 1, None)
    torch.rand(7)  # whatever happened in between must not matter
    assert train(recipe, out, data_cache).outcome == "finished"
    assert_same_end(whole, out)


def run_and_kill(program, out, num_lines):
    """Start a run and kill it once its metrics have so many lines."""
    process = subprocess.Popen(program, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (out / "metrics.jsonl").exists() or len((out / "metrics.jsonl").read_text().splitlines()) < num_lines:
        if process.poll() is not None:
            return
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.kill()
    process.wait()


def program(recipe_path, out, data_cache):
    arguments = ["train", str(recipe_path), "--out", str(out), "--cache", str(data_cache), "--workers", "1"]
    return [sys.executable, "-m", "perceptic.cli.main", *arguments]


def test_a_killed_process_resumes_to_the_same_bits(whole, recipe_path, data_cache, tmp_path):
    out = tmp_path / "killed"
    run_and_kill(program(recipe_path, out, data_cache), out, 5)
    subprocess.run(program(recipe_path, out, data_cache), check=True, capture_output=True)
    assert_same_end(whole, out)


@pytest.mark.slow
def test_twenty_kills_change_nothing(whole, recipe_path, data_cache, tmp_path):
    out = tmp_path / "killed"
    for kill in range(20):
        run_and_kill(program(recipe_path, out, data_cache), out, 1 + kill % 10)
    subprocess.run(program(recipe_path, out, data_cache), check=True, capture_output=True)
    assert_same_end(whole, out)


def test_the_model_folder_loads_and_answers(whole, world_picture, capsys):
    model = PerceptionLM.from_pretrained(whole / "model")
    trained = CheckpointFolder(whole / "checkpoints").newest().state.model
    for name, value in model.state_dict().items():
        assert torch.equal(value, trained[name].to(torch.bfloat16)), name
    assert model.preprocessing.max_video_frames == 4
    arguments = ["ask", str(world_picture), "What is it?", "--model", str(whole / "model"), "--max-tokens", "4"]
    assert perceptic(arguments) == 0
    assert capsys.readouterr().out


@pytest.fixture
def world_picture(tmp_path):

    from perceptic.world.rendering import render_pixels
    from perceptic.world.sampling import sample_scene

    path = tmp_path / "scene.png"
    Image.fromarray(render_pixels(sample_scene(1), 64)).save(path)
    return path


def test_a_frozen_stage_leaves_its_parts_alone(recipe_path, data_cache, tmp_path):
    recipe = load_recipe(recipe_path, ("phases.1.steps=1",))
    folder = tmp_path / "run"

    def stop(metrics):
        os.kill(os.getpid(), signal.SIGTERM)

    train(recipe, folder, data_cache, callbacks=RunCallbacks(on_step=stop))
    first = CheckpointFolder(folder / "checkpoints").newest().state
    train(recipe, folder, data_cache, callbacks=RunCallbacks(on_step=lambda m: m.step == 3 and stop(m)))
    fourth = CheckpointFolder(folder / "checkpoints").newest().state
    changed = {name.split(".")[0] for name in first.model if not torch.equal(first.model[name], fourth.model[name])}
    assert changed == {"vision_projector"}


def test_the_tower_begins_as_the_encoder(recipe_path, data_cache, tmp_path):
    from perceptic.weights.pretrained import VisionTransformer

    train(load_recipe(recipe_path, ("phases.1.learning_rate=0.0",)), tmp_path / "run", data_cache)
    model = CheckpointFolder(tmp_path / "run" / "checkpoints").newest().state.model
    encoder = VisionTransformer.from_pretrained("PE-Core-Nano", dtype="fp32").state_dict()
    for name in ("conv1.weight", "transformer.resblocks.0.mlp.c_fc.weight"):
        assert torch.equal(model[f"vision_model.{name}"], encoder[name])


def test_positions_are_made_louder_once(recipe_path, data_cache, tmp_path):
    from perceptic.weights.pretrained import VisionTransformer

    still = ("phases.0.learning_rate=0.0", "phases.1.learning_rate=0.0", "phases.1.position_scale=3.0")
    recipe, out = load_recipe(recipe_path, still), tmp_path / "run"

    def stop_at(step):
        return RunCallbacks(on_step=lambda metrics: metrics.step == step and os.kill(os.getpid(), signal.SIGTERM))

    for callbacks in (stop_at(3), stop_at(6), None):  # at the border of the phases and within the second
        train(recipe, out, data_cache, callbacks=callbacks)
    model = CheckpointFolder(out / "checkpoints").newest().state.model
    encoder = VisionTransformer.from_pretrained("PE-Core-Nano", dtype="fp32").state_dict()
    torch.testing.assert_close(
        model["vision_model.positional_embedding"], 3 * encoder["positional_embedding"], rtol=1e-6, atol=0
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("phases.0.stage_overrides.drop_pat=1.0", "phases.0.stage_overrides.drop_pat: no such key; did you mean"),
        ("phases.0.stage=4", "phases.0.stage: must be one of 1, 2, 3"),
        ("phases.1.name=align", "'align' comes twice"),
        ("data.registry=a.yaml", "not registry and world"),
        ("model_overrides.tower.layers=1", "model_overrides.tower: no such part"),
        ("init=PLM-Nano", "brings the whole model already"),
        ("phases.0.balance=0.5", "phases.0.balance: is for words of patches"),
        ("objective=plmm", "objective: must be one of contrastive, "),
    ],
)
def test_mistakes_name_the_key(recipe_path, change, message):
    with pytest.raises(ConfigError) as error:
        load_recipe(recipe_path, (change,))
    assert message in str(error.value)


def test_a_mix_of_a_later_stage_that_does_not_exist_fails_at_once(recipe_path, data_cache, tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'world_image'"):
        train(load_recipe(recipe_path, ("phases.1.mix=world_imag:1",)), tmp_path / "run", data_cache)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_tower_that_is_no_part_of_the_encoder_is_named(recipe_path, data_cache, tmp_path):
    with pytest.raises(TrainError, match=r"vision_init: the tower needs .*resblocks.6.* lacks it"):
        train(load_recipe(recipe_path, ("model_overrides.vision.layers=7",)), tmp_path / "run", data_cache)


def test_too_many_unusable_rows_end_the_run(recipe_path, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"no": "conversation"}\n' * 5)
    (tmp_path / "datasets.yaml").write_text("mine: {annotation: rows.jsonl}\n")
    changes = (f"data={{registry: {tmp_path}/datasets.yaml}}", "phases.0.mix=mine:1", "phases.0.skip_limit=2")
    with pytest.raises(DataError, match="more than the limit of 2"):
        train(load_recipe(recipe_path, (*changes, "phases.1.mix=mine:1")), tmp_path / "run", tmp_path)


def test_dry_run_counts_without_allocating_or_exporting(recipe_path, tmp_path, capsys):
    cache = tmp_path / "cache"
    assert perceptic(["train", str(recipe_path), "--dry-run", "--json", "--cache", str(cache)]) == 0
    first, second = json.loads(capsys.readouterr().out)["phases"]
    assert first["trainable"] < 0.05 * first["parameters"]
    assert second["trainable"] == second["parameters"]
    assert second["tokens_per_step"] == 256
    assert not cache.exists()
    assert perceptic(["train", str(recipe_path), "--dry-run"]) == 0
    assert f"{second['parameters']:,}" in capsys.readouterr().out


@pytest.mark.slow  # compiling takes a minute
@pytest.mark.timeout(1200)
@pytest.mark.filterwarnings("ignore:::torch")  # its compiler warns of its own doings, which its own filters would hide
def test_compiled_blocks_learn_the_same(own_rows, recipe_path, tmp_path):
    """The projector alone first, then everything. No paths are dropped: compiled code draws other random numbers."""
    few = [f"phases.{phase}.{change}" for phase in (0, 1) for change in ("steps=2", "warmup_steps=0")]
    changes = (*own_rows, *few, "phases.1.stage_overrides.drop_path=0.0")
    for compiled in ("false", "true"):
        train(load_recipe(recipe_path, (*changes, f"compile={compiled}")), tmp_path / compiled, tmp_path)
    assert len(losses(tmp_path / "true")) == 4
    assert losses(tmp_path / "true") == pytest.approx(losses(tmp_path / "false"), rel=1e-3)
