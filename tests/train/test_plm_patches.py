"""Patches that learn the words for what they show: data, loss, whole runs."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from perceptic.configs_plm import PerceptionLMPreprocessing, plm_config
from perceptic.data.packing import PackedBatch
from perceptic.data.patch_words import PatchMaker, PatchStream, patch_batch
from perceptic.data.plm_rows import RowError, parse_row
from perceptic.data.plm_samples import SampleMaker, TrainingSample
from perceptic.errors import ConfigError, DataError
from perceptic.files import write_bytes
from perceptic.media.chunks import ChunkTransform
from perceptic.models.perception_lm import PerceptionLM
from perceptic.text.conversations import TrainingTokens
from perceptic.text.llama_tokenizer import LlamaTokenizer
from perceptic.text.templates import TemplateName
from perceptic.train.checkpoint import CheckpointFolder
from perceptic.train.plm_estimate import estimate_plm
from perceptic.train.plm_objective import AccompaniedLoss, PatchLoss
from perceptic.train.recipe import load_recipe
from perceptic.train.runs import RunCallbacks, train
from perceptic.world.encoding import mp4_bytes

TOKENIZER = LlamaTokenizer.from_file(Path(__file__).parents[1] / "goldens" / "plm" / "tokenizer" / "tokenizer.model")
PREPROCESSING = PerceptionLMPreprocessing(tile_size=64, vision_input_type="vanilla", max_num_tiles=1)
RECIPE = """
name: tiny-patches
objective: plm
model: PLM-Nano
model_overrides: {decoder: {dim: 32, n_layers: 1}, vision: {layers: 1}}
threads: 1
data: {world: {images: 24, videos: 0, seed: 3}}
optimizer: {name: muon, betas: [0.9, 0.95], eps: 1.0e-8, weight_decay: 0.0, clip_norm: 1.0}
checkpoint: {every_steps: 3, keep: 2}
phases:
  - name: patches
    stage: 1
    stage_overrides: {freeze_vision: false, freeze_decoder: true, pooling_ratio: 1, vision_input_type: vanilla,
                      max_num_tiles: 1, layer_scale_init: null}
    learn: patches
    mix: "world_image_patches:1"
    steps: 8
    learning_rate: 1.0e-2
    num_sequences: 6
    max_tokens: 64
"""

BESIDE = """
name: tiny-beside
objective: plm
model: PLM-Nano
model_overrides: {decoder: {dim: 32, n_layers: 1}, vision: {layers: 1}}
threads: 1
data: {world: {images: 24, videos: 12, seed: 3}}
optimizer: {name: muon, betas: [0.9, 0.95], eps: 1.0e-8, weight_decay: 0.0, clip_norm: 1.0}
checkpoint: {every_steps: 2, keep: 2}
phases:
  - name: frames
    stage: 3
    stage_overrides: {freeze_vision: false, freeze_decoder: false, pooling_ratio: 1, vision_input_type: vanilla,
                      max_num_tiles: 1, max_video_frames: 8, layer_scale_init: null, drop_path: 0.0}
    mix: "world_words_brief:1"
    steps: 6
    learning_rate: 1.0e-2
    max_tokens: 128
    window: 8
    beside:
      - {mix: "world_image_patches:1", num_sequences: 4, weight: 0.5}
      - {mix: "world_video_patches:1", num_sequences: 2, depth: 1}
"""


def row(path: str, *answers: str) -> dict[str, Any]:
    turns = []
    for number, answer in enumerate(answers):
        ask = f"{'<image>' if number == 0 else ''}\nWhat is where, {number}?"
        turns += [{"from": "human", "value": ask}, {"from": "assistant", "value": answer}]
    return {"image": path, "conversations": turns}


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.fromarray(np.full((64, 64, 3), 100, dtype=np.uint8)).save(tmp_path / "a.png")
    return tmp_path


def made(root: Path, told: dict[str, Any], tokens_per_chunk: int = 4) -> TrainingSample:
    maker = PatchMaker(TOKENIZER, ChunkTransform(PREPROCESSING), tokens_per_chunk, "warmup")
    return maker(parse_row(told, "rows:1"), root, "rows:1")


def test_every_patch_learns_one_word_of_every_answer(picture: Path) -> None:
    (a,), (b,) = TOKENIZER.encode(" a"), TOKENIZER.encode(" b")
    samples = [made(picture, row("a.png", "a a b b", "b a b a")), made(picture, row("a.png", *["a a a a"] * 2))]
    batch = patch_batch(samples)
    assert batch.token_ids.tolist() == [[TOKENIZER.image_id] * 4] * 2
    assert batch.targets.tolist() == [a, a, b, b, b, a, b, a] + [a] * 8
    assert batch.label_positions.tolist() == [0, 1, 2, 3] * 2 + [4, 5, 6, 7] * 2
    assert batch.chunks is not None
    assert batch.chunks.shape == (2, 3, 64, 64)
    assert batch.num_real_tokens == 8


@pytest.mark.parametrize("template", ["warmup", "plm_sft"])
def test_patches_stand_where_they_do_in_a_conversation(template: TemplateName, tmp_path: Path) -> None:
    write_bytes(tmp_path / "a.mp4", mp4_bytes(np.full((8, 64, 64, 3), 100, dtype=np.uint8), 8.0))
    told = parse_row({"video": "a.mp4", "conversations": row("", "0 1 0 1 " * 4)["conversations"]}, "rows:1")
    transform = ChunkTransform(dataclasses.replace(PREPROCESSING, max_video_frames=4))
    sample = PatchMaker(TOKENIZER, transform, 4, template)(told, tmp_path, "rows:1")
    asked = SampleMaker(TOKENIZER, transform, 4, 1000, template=template)(told, tmp_path, "rows:1")
    assert sample.chunks is not None
    assert sample.chunks.shape == (4, 3, 64, 64)
    assert sample.tokens.image_positions == asked.tokens.image_positions
    last = sample.tokens.image_positions[-1] + 1
    assert sample.tokens.token_ids[:last] == asked.tokens.token_ids[:last]
    zero, one = (TOKENIZER.encode(digit)[0] for digit in "01")
    assert sample.tokens.token_ids[last:] == (zero, one, zero, one) * 4


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (row("a.png", "a a a"), "not a word a patch"),
        (row("a.png", "a a a a", "a a a a a"), "5 tokens for 4 patches"),
        (row("none.png", "a a a a"), "none.png"),
        ({"conversations": row("a.png", "a a a a")["conversations"]}, "no picture|image"),
    ],
)
def test_rows_that_do_not_name_patches_are_refused(picture: Path, told: dict[str, Any], message: str) -> None:
    with pytest.raises(RowError, match=message):
        made(picture, told)


def test_pictures_that_were_asked_differently_cannot_learn_together(picture: Path) -> None:
    with pytest.raises(DataError, match="same questions"):
        patch_batch([made(picture, row("a.png", *["a a a a"] * count)) for count in (1, 2)])


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_the_loss_is_of_each_questions_own_words(depth: int) -> None:
    torch.manual_seed(0)
    config = plm_config("PLM-Nano")
    config = config.replace(decoder=config.decoder.replace(n_layers=2), vision=config.vision.replace(layers=1))
    model = PerceptionLM(config).eval()
    patches, opening = 2 * model.tokens_per_chunk, (1, 2, 3)
    words = [torch.randint(5, 9, (patches,)).tolist(), torch.randint(20, 23, (patches,)).tolist()]
    seen = (*opening, *[config.image_token_id] * patches)
    ids = (*seen, *words[0], *words[1])
    tokens = TrainingTokens(ids, tuple(range(3, len(seen))), tuple(range(len(seen), len(ids))))
    clips = torch.randint(256, (3, 2, 3, 64, 64), dtype=torch.uint8)
    batch = patch_batch([TrainingSample("video", tokens, clip) for clip in clips])
    assert batch.chunks is not None
    loss, metrics = PatchLoss(PREPROCESSING, depth=depth).loss(model, batch)
    hidden = model.encode_chunks(ChunkTransform(PREPROCESSING).normalize(batch.chunks)).reshape(3, patches, -1)
    if depth:
        x = model.embed(torch.tensor([seen] * 3), hidden.reshape(6, -1, hidden.shape[-1]))
        model.decoder.layers = model.decoder.layers[:depth]
        hidden = model.decoder(x)[:, 3:]
    else:
        hidden = model.decoder.norm(hidden)
    expected = []
    for answer in words:
        choices = sorted(set(answer))
        logits = model.decoder.logits(hidden)[..., choices]
        wanted = torch.tensor([[choices.index(word) for word in answer]] * 3)
        expected.append(F.cross_entropy(logits.flatten(0, 1), wanted.flatten()))
    assert loss.item() == pytest.approx(torch.stack(expected).mean().item(), rel=1e-5)
    assert metrics["labels"] == 2 * 3 * patches


def test_rare_words_count_as_much_as_asked() -> None:
    places = torch.tensor([0, 0, 0, 0, 1, 3])
    for balance, wanted in ((0.0, [1.0] * 6), (1.0, [0.5] * 4 + [2.0] * 2), (0.5, [0.75] * 4 + [1.5] * 2)):
        found = PatchLoss(PREPROCESSING, balance=balance)._weights(places, 5)
        assert found.tolist() == pytest.approx(wanted)


def test_what_is_learned_along_is_added_with_its_weight(picture: Path) -> None:
    class Fixed(PatchLoss):
        def loss(self, model: PerceptionLM, batch: PackedBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            return batch.targets.float().mean(), {"accuracy": torch.tensor(float(len(batch.targets)))}

    own, other = (patch_batch([made(picture, row("a.png", answer))]) for answer in ("a a a a", "b b b b"))
    (a,), (b,) = TOKENIZER.encode(" a"), TOKENIZER.encode(" b")
    objective = AccompaniedLoss(Fixed(PREPROCESSING), ((Fixed(PREPROCESSING), 0.5), (Fixed(PREPROCESSING), 2.0)))
    loss, metrics = objective.loss(None, dataclasses.replace(own, beside=(other, own)))  # type: ignore[arg-type]
    assert loss.item() == pytest.approx(a + 0.5 * b + 2.0 * a)
    assert {"accuracy", "patch_accuracy_0", "patch_accuracy_1"} == set(metrics)


def stopping_at(step: int) -> RunCallbacks:
    return RunCallbacks(on_step=lambda metrics: metrics.step == step and os.kill(os.getpid(), signal.SIGTERM))


def test_a_run_learns_leaves_the_decoder_alone_and_goes_on_to_the_same_bits(tmp_path: Path, data_cache: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    recipe, threads = load_recipe(tmp_path / "tiny.yaml"), torch.get_num_threads()
    train(recipe, tmp_path / "whole", data_cache)
    train(recipe, tmp_path / "parts", data_cache, callbacks=stopping_at(1))
    first = CheckpointFolder(tmp_path / "parts" / "checkpoints").newest()
    train(recipe, tmp_path / "parts", data_cache, callbacks=stopping_at(4))
    assert train(recipe, tmp_path / "parts", data_cache).outcome == "finished"
    torch.set_num_threads(threads)
    lines = [
        [json.loads(line) for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        for run in ("whole", "parts")
    ]
    losses = [[line["loss"] for line in run] for run in lines]
    assert losses[0] == losses[1]
    assert losses[0][-1] < 0.7 * losses[0][0]
    assert lines[0][-1]["samples"] == 8 * 6
    last = CheckpointFolder(tmp_path / "parts" / "checkpoints").newest()
    assert first is not None
    assert last is not None
    changed = {
        name.split(".")[0]
        for name, value in first.state.model.items()
        if not torch.equal(value, last.state.model[name])
    }
    assert changed == {"vision_model", "vision_projector"}


def test_patches_learned_along_go_on_to_the_same_bits(tmp_path: Path, data_cache: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(BESIDE)
    recipe, threads = load_recipe(tmp_path / "tiny.yaml"), torch.get_num_threads()
    train(recipe, tmp_path / "whole", data_cache)
    for step in (1, 3):
        train(recipe, tmp_path / "parts", data_cache, callbacks=stopping_at(step))
    assert train(recipe, tmp_path / "parts", data_cache).outcome == "finished"
    torch.set_num_threads(threads)
    lines = [
        [json.loads(line) for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        for run in ("whole", "parts")
    ]
    kept = ("loss", "accuracy", "patch_accuracy_0", "patch_accuracy_1")
    assert [[line[key] for key in kept] for line in lines[0]] == [[line[key] for key in kept] for line in lines[1]]
    assert lines[0][-1]["patch_accuracy_1"] > lines[0][0]["patch_accuracy_1"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("phases.0.beside.1.depth=3", "depth 3: the decoder has 1 layers"),
        ("phases.0.beside.0.mix=world_image_patchs:1", "world_image_patchs"),
        ("phases.0.beside.0.layers=3", "layers"),
    ],
)
def test_mistakes_about_what_is_learned_along_are_told(
    change: str, message: str, tmp_path: Path, data_cache: Path
) -> None:
    (tmp_path / "tiny.yaml").write_text(BESIDE)
    with pytest.raises((ConfigError, DataError), match=message):
        train(load_recipe(tmp_path / "tiny.yaml", (change,)), tmp_path / "run", data_cache)


def test_patches_learned_along_count_in_the_estimate(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(BESIDE)
    changes = ("phases.0.beside=[]", "phases.0.beside.1.depth=0", "phases.0.beside.1.num_sequences=2")
    needed = [
        estimate_plm(load_recipe(tmp_path / "tiny.yaml", (change,))).phases[0].activation_bytes for change in changes
    ]
    assert needed == sorted(needed)
    assert len(set(needed)) == 3


def test_what_patches_learn_is_named_in_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    with pytest.raises(ConfigError, match="learn"):
        load_recipe(tmp_path / "tiny.yaml", ("phases.0.learn=pixels",))


def test_a_run_weighs_rare_words_as_its_recipe_says(tmp_path: Path, data_cache: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    losses = []
    for balance in ("0.0", "1.0"):
        out = tmp_path / balance
        train(load_recipe(tmp_path / "tiny.yaml", ("phases.0.steps=1", f"phases.0.balance={balance}")), out, data_cache)
        losses.append(json.loads((out / "metrics.jsonl").read_text())["loss"])
    assert abs(losses[0] - losses[1]) > 1e-3


def test_a_stream_goes_on_where_it_was(picture: Path) -> None:
    class Samples:
        """Numbers the pictures it hands out."""

        def __init__(self) -> None:
            self.count = 0

        def next(self) -> Any:
            self.count += 1
            sample = made(picture, row("a.png", " ".join("ab"[(self.count + place) % 2] for place in range(4))))
            return type("Drawn", (), {"sample": sample})

        def state(self) -> dict[str, Any]:
            return {"count": self.count}

        def restore(self, state: dict[str, Any]) -> None:
            self.count = state["count"]

    stream = PatchStream(Samples(), 3)  # type: ignore[arg-type]
    stream.next()
    kept = stream.state()
    ahead = stream.next().targets
    stream.restore(kept)
    assert torch.equal(stream.next().targets, ahead)
