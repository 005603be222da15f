"""Going on from a trained language model: adapters, one's own rows, and where towers and decoders begin."""

from __future__ import annotations

import json
import os
import signal

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from perceptic.cli.main import run as perceptic
from perceptic.configs_plm import plm_config
from perceptic.errors import ConfigError, DataError, TrainError
from perceptic.models.decoder import Decoder
from perceptic.models.perception_lm import PerceptionLM
from perceptic.text.llama_tokenizer import LlamaTokenizer
from perceptic.train.checkpoint import CheckpointFolder
from perceptic.train.llama_weights import begin_decoder
from perceptic.train.plm_model import begin_tower
from perceptic.train.recipe import load_recipe, recipe_names
from perceptic.train.runs import RunCallbacks, train
from perceptic.weights.plm_names import from_ours, huggingface_pairs
from perceptic.weights.plm_pretrained import PerceptionLM as PretrainedPerceptionLM
from perceptic.weights.plm_sources import NANO_TOKENIZER
from perceptic.weights.pretrained import VisionTransformer

TINY_DECODER = plm_config("PLM-Nano").decoder.replace(dim=32, n_layers=1)


@pytest.fixture(scope="module")
def small_plm(tmp_path_factory):
    """A PerceptionLM in a folder, as a released one would be."""
    torch.manual_seed(3)
    config = plm_config("PLM-Nano")
    model = PretrainedPerceptionLM(
        config.replace(decoder=TINY_DECODER, vision=config.vision.replace(layers=1, ls_init_value=0.1))
    )
    folder = tmp_path_factory.mktemp("plm") / "small"
    return model.save_pretrained(folder, tokenizer=LlamaTokenizer.from_file(NANO_TOKENIZER))


@pytest.fixture
def rows(tmp_path):
    """A user's own pictures and conversations."""
    folder = tmp_path / "mine"
    folder.mkdir()
    lines = []
    for number in range(4):
        Image.fromarray(np.full((64, 64, 3), 50 * number, dtype=np.uint8)).save(folder / f"{number}.png")
        said = [{"from": "human", "value": "What is it?"}, {"from": "assistant", "value": f"A grey of {number}."}]
        lines.append(json.dumps({"image": f"{number}.png", "conversations": said}) + "\n")
    (folder / "my.jsonl").write_text("".join(lines))
    return folder / "my.jsonl"


def short(model, rows, *more):
    """Changes that make a packaged recipe small."""
    return (
        f"init={model}", "model=PLM-Nano", f"data.rows={rows}", "threads=1", "accumulate=1", "phases.0.steps=3",
        "phases.0.max_tokens=256", "phases.0.window=2", "phases.0.warmup_steps=1", "phases.0.num_sequences=1",
        "phases.0.stage_overrides={max_num_tiles: 1, vision_input_type: vanilla, freeze_vision: true}", *more,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["plm-lora", "plm-finetune"])
def test_a_model_learns_ones_own_rows(name, small_plm, rows, tmp_path):
    result = train(load_recipe(name, short(small_plm, rows)), tmp_path / "run", tmp_path)
    before = PretrainedPerceptionLM.from_pretrained(small_plm).state_dict()
    after = PretrainedPerceptionLM.from_pretrained(result.model_folder).state_dict()
    assert before.keys() == after.keys()  # adapters are merged
    changed = {key for key, value in before.items() if not torch.equal(value.bfloat16(), after[key])}
    assert {"decoder.layers.0.attention.wq.weight", "vision_projector.projector.0.weight"} <= changed
    assert not any(key.startswith("vision_model.") for key in changed)
    assert ("decoder.tok_embeddings.weight" in changed) == (name == "plm-finetune")


def test_merged_adapters_answer_as_in_training(small_plm, rows, tmp_path):
    changes = short(small_plm, rows, "precision=fp32", "frozen_dtype=fp32", "export_dtype=fp32")
    result = train(load_recipe("plm-lora", changes), tmp_path / "run", tmp_path)
    state = CheckpointFolder(tmp_path / "run" / "checkpoints").newest().state.model
    merged = PretrainedPerceptionLM.from_pretrained(result.model_folder).state_dict()
    layer = "decoder.layers.0.feed_forward.w1"
    change = 2.0 * state[f"{layer}.lora_b"] @ state[f"{layer}.lora_a"]  # alpha 32 over rank 16
    torch.testing.assert_close(merged[f"{layer}.weight"], state[f"{layer}.weight"] + change)
    assert change.abs().max() > 0


def test_adapters_go_on_over_stages_and_stops(small_plm, rows, tmp_path):
    phase = "stage: 3, mix: 'rows:1', steps: 3, learning_rate: 1.0e-3, max_tokens: 256, window: 2, "
    phase += "stage_overrides: {max_num_tiles: 1, vision_input_type: vanilla, freeze_vision: true}"
    phases = f"phases=[{{name: one, {phase}}}, {{name: two, {phase}}}]"
    recipe = load_recipe("plm-lora", (phases, *short(small_plm, rows)))

    def stop(metrics):
        if metrics.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    train(recipe, tmp_path / "whole", tmp_path)
    train(recipe, tmp_path / "parts", tmp_path, callbacks=RunCallbacks(on_step=stop))
    train(recipe, tmp_path / "parts", tmp_path)
    whole, parts = ((tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("whole", "parts"))
    assert [json.loads(line)["loss"] for line in whole] == [json.loads(line)["loss"] for line in parts]
    assert json.loads(whole[-1])["phase"] == "two"


def test_rows_that_are_not_there_are_named(small_plm, tmp_path):
    with pytest.raises(DataError, match=r"data\.rows: .*none\.jsonl is not there"):
        train(load_recipe("plm-lora", short(small_plm, tmp_path / "none.jsonl")), tmp_path / "run", tmp_path)


def test_frozen_bf16_weights_need_bf16(small_plm, rows):
    with pytest.raises(ConfigError, match="set 'precision: bf16' too"):
        load_recipe("plm-lora", short(small_plm, rows, "precision=fp32"))


@pytest.mark.parametrize("form", ["original", "huggingface"])
def test_a_decoder_begins_as_a_llama(form, tmp_path):
    torch.manual_seed(1)
    given = Decoder(TINY_DECODER).state_dict()
    if form == "original":
        table = {"rope.freqs": torch.zeros(3)}
        torch.save(
            {**given, **table, "output.weight": given["tok_embeddings.weight"]}, tmp_path / "consolidated.00.pth"
        )
    else:
        theirs = from_ours({f"decoder.{name}": value for name, value in given.items()}, huggingface_pairs(TINY_DECODER))
        plain = {name.replace("language_model.", ""): value.contiguous() for name, value in theirs.items()}
        save_file(plain, tmp_path / "model.safetensors")
    decoder = Decoder(TINY_DECODER)
    begin_decoder(decoder, tmp_path)
    for name, value in decoder.state_dict().items():
        assert torch.equal(value, given[name]), name


def test_another_decoder_is_refused(tmp_path):
    torch.save(Decoder(TINY_DECODER.replace(n_layers=2)).state_dict(), tmp_path / "consolidated.00.pth")
    with pytest.raises(TrainError, match="does not fit the recipe's decoder"):
        begin_decoder(Decoder(TINY_DECODER), tmp_path)
    with pytest.raises(TrainError, match="has no Llama weights"):
        begin_decoder(Decoder(TINY_DECODER), tmp_path / "nothing")


def test_a_larger_tower_begins_with_stretched_positions():
    config = plm_config("PLM-Nano")
    vision = config.vision.replace(layers=1, image_size=96)
    model = PerceptionLM(config.replace(decoder=TINY_DECODER, vision=vision))
    begin_tower(model, "PE-Core-Nano")
    encoder = VisionTransformer.from_pretrained("PE-Core-Nano", dtype="fp32")
    table = model.vision_model.positional_embedding
    assert table.shape == (1 + 12 * 12, 192)
    assert torch.equal(table, encoder.position_table(12, 12))
    assert torch.equal(table[0], encoder.positional_embedding[0])


@pytest.mark.parametrize("name", [name for name in recipe_names() if name.startswith("plm-")])
def test_dry_runs_of_the_recipes_need_nothing(name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert perceptic(["train", name, "--dry-run", "--json", "--processes", "8"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert all(phase["steps"] > 0 and phase["weight_bytes"] > 0 for phase in figures["phases"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "parameters", "trainable"),
    [  # perception-language-model 1.1
        ("plm-stage1-1b", 1_533_477_888, 6_295_552),
        ("plm-stage1-8b", 9_794_116_352, 23_076_864),
        ("plm-stage2-3b", 3_516_753_920, 3_516_753_920),
        ("plm-stage3-8b", 9_794_260_736, 9_794_260_736),
    ],
)
def test_stages_count_as_published(name, parameters, trainable, capsys):
    assert perceptic(["train", name, "--dry-run", "--json"]) == 0
    (phase,) = json.loads(capsys.readouterr().out)["phases"]
    assert (phase["parameters"], phase["trainable"]) == (parameters, trainable)
