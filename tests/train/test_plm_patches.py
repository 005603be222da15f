"""Patches that learn the words for what they show: data, loss, whole runs."""

from __future__ import annotations

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
from perceptic.data.patch_words import PatchMaker, PatchStream, patch_batch
from perceptic.data.plm_rows import RowError, parse_row
from perceptic.data.plm_samples import TrainingSample
from perceptic.errors import ConfigError, DataError
from perceptic.media.chunks import ChunkTransform
from perceptic.models.perception_lm import PerceptionLM
from perceptic.text.conversations import TrainingTokens
from perceptic.text.llama_tokenizer import LlamaTokenizer
from perceptic.train.checkpoint import CheckpointFolder
from perceptic.train.plm_objective import PatchLoss
from perceptic.train.recipe import load_recipe
from perceptic.train.runs import RunCallbacks, train

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
    maker = PatchMaker(TOKENIZER, ChunkTransform(PREPROCESSING), tokens_per_chunk)
    return maker(parse_row(told, "rows:1"), root, "rows:1")


def test_every_patch_learns_one_word_of_every_answer(picture: Path) -> None:
    (a,), (b,) = TOKENIZER.encode(" a"), TOKENIZER.encode(" b")
    batch = patch_batch(
        [made(picture, row("a.png", "a a b b", "b a b a")), made(picture, row("a.png", *["a a a a"] * 2))], 4
    )
    assert batch.token_ids.tolist() == [[TOKENIZER.image_id] * 4] * 2
    assert batch.targets.tolist() == [a, a, b, b, b, a, b, a] + [a] * 8
    assert batch.label_positions.tolist() == [0, 1, 2, 3] * 2 + [4, 5, 6, 7] * 2
    assert batch.chunks is not None
    assert batch.chunks.shape == (2, 3, 64, 64)
    assert batch.num_real_tokens == 8


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
        patch_batch([made(picture, row("a.png", *["a a a a"] * count)) for count in (1, 2)], 4)


def test_the_loss_is_of_each_questions_own_words() -> None:
    torch.manual_seed(0)
    config = plm_config("PLM-Nano")
    config = config.replace(decoder=config.decoder.replace(n_layers=1), vision=config.vision.replace(layers=1))
    model = PerceptionLM(config).eval()
    patches = model.tokens_per_chunk
    words = [torch.randint(5, 9, (patches,)).tolist(), torch.randint(20, 23, (patches,)).tolist()]
    ids = (*[config.image_token_id] * patches, *words[0], *words[1])
    tokens = TrainingTokens(ids, tuple(range(patches)), tuple(range(patches, len(ids))))
    chunks = torch.randint(256, (3, 1, 3, 64, 64), dtype=torch.uint8)
    batch = patch_batch([TrainingSample("image", tokens, chunk) for chunk in chunks], patches)
    assert batch.chunks is not None
    objective = PatchLoss(PREPROCESSING)
    loss, metrics = objective.loss(model, batch)
    hidden = model.decoder.norm(model.encode_chunks(ChunkTransform(PREPROCESSING).normalize(batch.chunks)))
    expected = []
    for answer in words:
        choices = sorted(set(answer))
        logits = model.decoder.logits(hidden)[..., choices]
        wanted = torch.tensor([[choices.index(word) for word in answer]] * 3)
        expected.append(F.cross_entropy(logits.flatten(0, 1), wanted.flatten()))
    assert loss.item() == pytest.approx(torch.stack(expected).mean().item(), rel=1e-5)
    assert metrics["labels"] == 2 * 3 * patches


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


def test_what_patches_learn_is_named_in_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    with pytest.raises(ConfigError, match="learn"):
        load_recipe(tmp_path / "tiny.yaml", ("phases.0.learn=pixels",))


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

    stream = PatchStream(Samples(), 3, 4)  # type: ignore[arg-type]
    stream.next()
    kept = stream.state()
    ahead = stream.next().targets
    stream.restore(kept)
    assert torch.equal(stream.next().targets, ahead)
