"""Whole runs of every objective by two processes: the losses, validation and finished model of one."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from perceptic.data.batches import Batch
from perceptic.data.mixing import Reader
from perceptic.errors import ConfigError
from perceptic.train import encoder_data, encoder_setup, mask_regularisation, runs
from perceptic.train.recipe import load_recipe

pytestmark = pytest.mark.timeout(900)

ENCODER = """
name: small
model: PE-Core-Nano
model_overrides:
  vision: {width: 32, layers: 2, heads: 2, output_dim: 16, attn_pooler_heads: 2}
  text: {width: 32, layers: 1, heads: 2, output_dim: 16, vocab_size: 600}
threads: 1
data:
  images: {source: world-images, count: 40, seed: 5}
  clips: {source: world-clips, count: 8, seed: 6, num_frames: 8}
tokenizer: {data: images, num_samples: 40}
optimizer: {name: adamw, weight_decay: 0.05, clip_norm: 1.0}
phases:
  - {name: images, data: images, batch_size: 8, learning_rate: 0.01, warmup_steps: 1,
     stages: [{image_size: 16, steps: 2}, {image_size: 32, steps: 2}]}
"""

PLM = """
name: small-plm
objective: plm
model: PLM-Nano
model_overrides: {decoder: {dim: 32, n_layers: 1, multiple_of: 32}, vision: {width: 48, layers: 1}}
threads: 1
accumulate: 2
data: {world: {images: 12, videos: 2, seed: 0}}
optimizer: {name: adamw, eps: 1.0e-8, clip_norm: 1.0}
validation: {data: "world_image:1,world_text:1", every_steps: 1, batches: 2, metric: accuracy}
export_weights: best
phases:
  - {name: all, stage: 2, mix: "world_image:1,world_text:1", steps: 3, learning_rate: 3.0e-3, warmup_steps: 1,
     max_tokens: 256, num_sequences: 2, window: 1, workers: 0,
     stage_overrides: {vision_input_type: vanilla, max_num_tiles: 1, drop_path: 0.0}}
"""
"""A window of one sample packs it alone, so that sequences do not depend on the number of processes."""


def jobs_in(folder: Path) -> dict[str, dict[str, Any]]:
    """The runs. The student learns from what the first of them has trained."""
    clips = "phases=[{name: clips, data: clips, batch_size: 4, learning_rate: 0.01, warmup_steps: 0, "
    stream = "phases=[{name: all, data: all, batch_size: 8, learning_rate: 0.01, warmup_steps: 1, "
    changes = {
        "siglip": ("loss=siglip", "average.decay=0.9", "export_weights=average"),
        "masked": ("mask.share=1.0", "parallel.shard=none"),
        "video": (clips + "stages: [{image_size: 16, steps: 3}]}]", "chunk_size=8"),
        "distilled": (
            "objective=distill",
            f"distill={{teacher: {folder}/siglip/model, student_image_size: 16}}",
            f"tokenizer={{model: {folder}/siglip/model}}",
            "phases.0.stages=[{image_size: 32, steps: 3}]",
            "phases.0.learning_rate=0.003",
        ),
        "best": (
            "validation={data: images, every_steps: 1, batches: 2}",
            "export_weights=best",
            "phases.0.learning_rate=0.02",
            "phases.0.final_learning_rate=0.02",
        ),
        "streamed": (
            f"data.all={{source: stream, shards: ['{folder}/*.tar'], buffer: 4, workers: 2}}",
            stream + "stages: [{image_size: 16, steps: 5}]}]",
        ),
    }
    encoders = {name: {"recipe": ENCODER, "changes": found} for name, found in changes.items()}
    decoders = {
        "plm": (),
        "tensor": TENSOR,
        "muon": (MUON,),
        "muon whole": (MUON, "parallel.shard=none"),
        "patches": (
            "validation.data=world_image_patches:1",
            "phases.0.mix=world_image_patches:1",
            "phases.0.learn=patches",
            "phases.0.stage_overrides.pooling_ratio=1",
            "phases.0.stage_overrides.freeze_vision=false",
            "phases.0.stage_overrides.freeze_decoder=true",
        ),
        "beside": (
            "phases.0.beside=[{mix: 'world_image_patches:1', num_sequences: 4, depth: 1, weight: 0.5}]",
            "phases.0.stage_overrides.pooling_ratio=1",
        ),
    }
    return {**encoders, **{name: {"recipe": PLM, "changes": found} for name, found in decoders.items()}}


MUON = "optimizer={name: muon, eps: 1.0e-8, clip_norm: 1.0}"

TENSOR = ("parallel.tensor=2", "average.decay=0.9")
"""A team of two; on its own, a process takes no notice."""

JOBS = tuple(jobs_in(Path()))


def write_shards(folder: Path) -> None:
    """Three shards of ten pictures of a grey level that their caption tells."""
    for shard in range(3):
        with tarfile.open(folder / f"{shard}.tar", "w") as archive:
            for number in range(10 * shard, 10 * shard + 10):
                picture = io.BytesIO()
                Image.new("RGB", (20, 16), (8 * number,) * 3).save(picture, "PNG")
                for name, content in (("png", picture.getvalue()), ("txt", f"grey level {number}".encode())):
                    member = tarfile.TarInfo(f"{number}.{name}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, data_cache: Path, recipes_worker: ModuleType) -> Path:
    """Where two processes have done all jobs; they are started once, since that is what takes the time."""
    folder = tmp_path_factory.mktemp("recipes")
    write_shards(folder)
    jobs = jobs_in(folder)
    ends = recipes_worker.run_jobs(folder, data_cache, jobs)
    said = "\n".join((folder / f"log-{rank}.txt").read_text()[-3000:] for rank in range(2))
    assert ends == [0, 0], said
    assert all(recipes_worker.statuses(folder / name) == [0, 0] for name in jobs), said
    return folder


class BothStreams:
    """The batches of two processes' streams, put together for one process."""

    skipped = None

    def __init__(self, *sources: Any) -> None:
        self._sources = sources

    def batch(self, planned: Any) -> Batch:
        batches = [source.batch(planned) for source in self._sources]
        return Batch(torch.cat([b.pixels for b in batches]), torch.cat([b.ids for b in batches]))

    def state(self) -> dict[str, Any]:
        return {}

    def figures(self, planned: Any) -> dict[str, float]:
        return {}

    def close(self) -> None:
        for source in self._sources:
            source.close()


def both_streams(recipe: Any, phase: Any, pools: Any, tokenizer: Any, device: Any, reader: Any) -> BothStreams:
    parts = (encoder_data.phase_source(recipe, phase, pools, tokenizer, device, Reader(rank, 2)) for rank in range(2))
    return BothStreams(*parts)


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def alone(
    folder: Path, data_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipes_worker: ModuleType
) -> Callable[[str], Path]:
    """Runs a job in this process; returns its folder."""

    def run(name: str) -> Path:
        job = jobs_in(folder)[name]
        monkeypatch.setattr(mask_regularisation, "draw_masks", recipes_worker.same_masks)
        if name == "streamed":
            monkeypatch.setattr(encoder_setup, "phase_source", both_streams)
        (tmp_path / "recipe.yaml").write_text(job["recipe"])
        runs.train(load_recipe(tmp_path / "recipe.yaml", job["changes"]), tmp_path / "run", data_cache)
        return tmp_path / "run"

    return run


def check_same(run: Path, other: Path, tolerance: float = 1e-4) -> None:
    """Every figure that a step reports, and the weights that are exported."""
    one, two = lines(run), lines(other)
    assert len(one) == len(two) >= 3
    for wanted, found in zip(one, two, strict=True):
        figures = {key: value for key, value in wanted.items() if "seconds" not in key and key != "phase"}
        assert {key: found[key] for key in figures} == pytest.approx(figures, abs=tolerance, rel=tolerance)
    weights = [load_file(out / "model" / "model.safetensors") for out in (run, other)]
    for key, value in weights[0].items():  # of bf16; where they are about 0, AdamW's steps follow the sign of noise
        torch.testing.assert_close(weights[1][key], value, rtol=0.01, atol=2e-3, msg=key)


@pytest.mark.parametrize("name", JOBS)
def test_two_processes_are_one(folder: Path, alone: Callable[[str], Path], name: str) -> None:
    check_same(alone(name), folder / name, 1e-3 if name.startswith("muon") else 1e-4)  # Muon computes in bf16


def test_the_best_is_not_the_last(folder: Path) -> None:
    """Otherwise the export of the best would say nothing."""
    losses = [line["validation_loss"] for line in lines(folder / "best")]
    assert min(losses) < losses[-1]
    run = json.loads((folder / "best" / "checkpoints" / "best" / "run.json").read_text())
    assert run["best"] == min(losses)
    assert run["step"] == losses.index(min(losses)) + 1


@pytest.mark.slow
def test_two_teams_of_two_are_one_process_and_go_on_where_one_has_ended(
    folder: Path, alone: Callable[[str], Path], data_cache: Path, tmp_path: Path, recipes_worker: ModuleType
) -> None:
    """Also stopped by a signal to one process of the four; and with the files of the one, its best and its average."""
    run = alone("tensor")
    job = {"recipe": PLM, "changes": TENSOR}
    stop = {"rank": 3, "signal": "SIGTERM", "step": 1}
    (tmp_path / "again").mkdir()
    shutil.copytree(run, tmp_path / "again" / "one", ignore=shutil.ignore_patterns("model"))
    jobs = {
        "stopped": {**job, "event": stop, "out": "four"},
        "gone on": {**job, "out": "four"},
        "ended": {**job, "out": "one"},
    }
    assert recipes_worker.run_jobs(tmp_path / "again", data_cache, jobs, 4) == [0] * 4
    check_same(run, tmp_path / "again" / "four")
    check_same(run, tmp_path / "again" / "one")


@pytest.mark.slow  # compiling takes minutes
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["siglip", "plm"])
def test_two_compiled_processes_are_one_in_plain_torch(
    folder: Path,
    alone: Callable[[str], Path],
    data_cache: Path,
    tmp_path: Path,
    recipes_worker: ModuleType,
    name: str,
) -> None:
    """Sharded weights in compiled blocks, which keep their activations or work them out again."""
    job = jobs_in(folder)[name]
    kept = {**job, "changes": (*job["changes"], "compile=true")}
    again = {**kept, "changes": (*kept["changes"], "parallel.activation_checkpointing=true")}
    run = alone(name)
    (tmp_path / "compiled").mkdir()
    ends = recipes_worker.run_jobs(tmp_path / "compiled", data_cache, {"kept": kept, "again": again})
    assert ends == [0, 0], (tmp_path / "compiled" / "log-0.txt").read_text()[-3000:]
    for found in ("kept", "again"):
        check_same(run, tmp_path / "compiled" / found)


@pytest.mark.parametrize(
    ("recipe", "changes", "message"),
    [
        (ENCODER, (), "parallel.tensor: splits a language model's decoder"),
        (PLM, ("lora={rank: 2}",), "goes without 'lora'"),
        (PLM, ("compile=true",), "goes without 'compile'"),
    ],
)
def test_teams_that_cannot_be_are_refused(recipe: str, changes: tuple[str, ...], message: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(recipe)
    loaded = load_recipe(tmp_path / "recipe.yaml", (*changes, "parallel.tensor=2"))
    with pytest.raises(ConfigError, match=message):
        runs.train(loaded, tmp_path / "run", tmp_path)
    assert not (tmp_path / "run").exists()
