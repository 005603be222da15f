"""The papers' recipes on someone's own files: streams, starting weights, a teacher; stopped and resumed."""

from __future__ import annotations

import itertools
import json
import os
import signal

import pytest
import torch

from perceptic.errors import ConfigError, DataError
from perceptic.train.recipe import load_recipe
from perceptic.train.runs import RunCallbacks, train
from perceptic.weights.pretrained import load_bundle
from perceptic.world import WorldSettings, export_world

TINY = (
    "threads=1",
    "precision=fp32",
    "compile=false",
    "model=PE-Core-Nano",
    "model_overrides={vision: {width: 32, layers: 1, heads: 2, output_dim: 16, attn_pooler_heads: 2}, "
    "text: {width: 32, layers: 1, heads: 2, output_dim: 16}}",
    "tokenizer.model=PE-Core-Nano",
    "checkpoint.every_steps=2",
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with shards of pictures and of clips."""
    folder = tmp_path_factory.mktemp("own data")
    export_world(folder, WorldSettings(num_images=24, num_videos=8, size=32, num_zero_shot=1, num_frames=8))
    return folder


def pictures(world):
    return world / "contrastive" / "train" / "*.tar"


def losses(out):
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


def pretraining(world):
    return load_recipe(
        "pe-core-l14-336",
        (
            *TINY,
            f"data.images.shards={pictures(world)}",
            "data.images.buffer=8",
            "data.images.workers=2",
            "phases.0.batch_size=8",
            "phases.0.warmup_steps=1",
            "phases.0.stages=[{image_size: 16, steps: 3}, {image_size: 32, steps: 2}]",
            "phases.1.batch_size=8",
            "phases.1.stages=[{image_size: 32, steps: 1}]",
        ),
    )


def test_pretraining_streams_shards_and_resumes_exactly(world, tmp_path):
    recipe = pretraining(world)
    train(recipe, tmp_path / "whole", tmp_path / "cache")
    assert len(losses(tmp_path / "whole")) == 6

    def stop(metrics):
        if metrics.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    train(recipe, tmp_path / "parts", tmp_path / "cache", callbacks=RunCallbacks(on_step=stop))
    assert train(recipe, tmp_path / "parts", tmp_path / "cache").outcome == "finished"
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    assert not (tmp_path / "cache").exists()  # nothing is decoded onto the disk


def test_the_three_steps_follow_one_another(world, tmp_path):
    """Pretraining, distillation, videos: each starts from the model of the one before."""
    pretrained = train(pretraining(world), tmp_path / "core", tmp_path / "cache").model_folder
    distilled = train(
        load_recipe(
            "pe-distill-l14-336",
            (
                *TINY[:-2],
                f"init={pretrained}",
                "distill.teacher=PE-Core-Nano",
                "distill.student_image_size=32",
                f"data.images.shards={pictures(world)}",
                "phases.0.batch_size=8",
                "phases.0.stages=[{image_size: 64, steps: 2}]",
            ),
        ),
        tmp_path / "distilled",
        tmp_path / "cache",
    ).model_folder
    finished = train(
        load_recipe(
            "pe-video-l14-336",
            (
                *TINY[:-2],
                f"init={distilled}",
                f"data.videos.shards={world / 'clips' / 'train' / '*.tar'}",
                "data.videos.num_frames=2",
                "phases.0.batch_size=4",
                "phases.0.stages=[{image_size: 32, steps: 2}]",
            ),
        ),
        tmp_path / "video",
        tmp_path / "cache",
    ).model_folder
    models = [load_bundle(str(folder)) for folder in (pretrained, distilled, finished)]
    assert all(bundle.tokenizer.same_vocabulary(models[0].tokenizer) for bundle in models)
    weights = [bundle.model.visual.proj.float() for bundle in models]
    for before, after in itertools.pairwise(weights):
        # A learning rate of 1e-6 and two steps: nearly the same, where fresh weights would be others.
        torch.testing.assert_close(after, before, rtol=0, atol=2e-2)
    assert not torch.equal(load_bundle("PE-Core-Nano").model.visual.proj, models[0].model.visual.proj)


def test_a_siglip_model_is_saved_as_the_architecture_has_it(tmp_path, data_cache, goldens):
    golden = json.loads((goldens / "train" / "nano-siglip.json").read_text())
    folder = train(load_recipe("nano-siglip", tuple(golden["changes"])), tmp_path / "run", data_cache).model_folder
    model = load_bundle(str(folder)).model
    assert "logit_bias" not in model.state_dict()
    assert model.logit_scale.exp().item() == pytest.approx(10.0, rel=0.2)


def test_paper_recipes_say_what_they_need(tmp_path):
    with pytest.raises(ConfigError, match=r"--set 'data\.images\.shards="):
        train(load_recipe("pe-core-t16-384", TINY), tmp_path / "one", tmp_path)
    missing = load_recipe("pe-core-t16-384", (*TINY, "data.images.shards=[nowhere/*.tar]"))
    with pytest.raises(DataError, match="matches no file"):
        train(missing, tmp_path / "two", tmp_path)


@pytest.mark.parametrize(
    ("recipe", "changes", "message"),
    [
        ("nano-video", TINY, "init: PE-Core-Nano is not of the architecture"),
        ("nano-distill", ("model_overrides.text.vocab_size=600",), r"--set model_overrides\.text\.vocab_size=960"),
        ("pe-core-t16-384", (*TINY, "data.images.mix=photos:1"), r"data\.images\.registry: is missing"),
        ("pe-core-t16-384", (*TINY, "data.images.shards=a.tar", "data.images.folder=b"), "not shards and folder"),
    ],
)
def test_mistakes_are_told_before_data_is_made_ready(recipe, changes, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        train(load_recipe(recipe, changes), tmp_path / "run", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
