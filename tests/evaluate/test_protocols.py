"""Zero-shot, retrieval, neighbours, probes: equal to the direct computation, at chance where nothing is known."""

from __future__ import annotations

import csv
import io
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from perceptic.data.shards import index_shard
from perceptic.errors import ConfigError, DataError
from perceptic.evaluate import knn, linear_probe, retrieval, zero_shot
from perceptic.evaluate.benchmark import find_benchmark
from perceptic.evaluate.datasets import open_split
from perceptic.evaluate.request import Common, ModelUnderTest, Request
from perceptic.evaluate.result import Measured, Score
from perceptic.evaluate.runners import build_options, runner_for
from perceptic.media.images import load_image
from perceptic.media.preprocess import ImageTransform
from perceptic.tasks.zero_shot import label_vectors
from perceptic.world.shards import ShardSample, write_shard

FEW: dict[str, dict[str, Any]] = {
    "attention-probe": {"steps": 30},
    "world-shape": {"count": 96},
    "world-colour-shape": {"count": 96},
    "world-clip-shape": {"count": 32},
    "world-events": {"count": 32},
    "world-retrieval": {"count": 64},
    "world-clip-retrieval": {"count": 32},
    "world-knn": {"count": 96, "train_count": 96},
    "world-linear-unseen": {"count": 96, "train_count": 96},
    "world-attention": {"count": 96, "train_count": 96, "steps": 30},
}


def measure(
    name: str,
    model: ModelUnderTest,
    data: Path | None,
    *,
    shuffle: bool = False,
    cache: Path | None = None,
    **options: Any,
) -> Measured:
    benchmark = find_benchmark(name)
    runner = runner_for(benchmark)
    built = build_options(runner, benchmark, {**FEW.get(name, {}), **options})
    common = Common(shuffle_labels=shuffle, cache=cache)
    return runner.run(Request(benchmark, model, built, data, common))


def is_chance(score: Score) -> bool:
    """Within four deviations of guessing."""
    assert score.chance is not None
    share = min(0.999, score.chance / 100)
    deviation = 100 * math.sqrt(share * (1 - share) / score.num_units)
    return score.value <= score.chance + 4 * deviation + 100 / score.num_units


@pytest.fixture
def shapes(exported: Path) -> Path:
    return exported / "zero_shot" / "shape-seen"


def test_zero_shot_is_the_direct_computation(nano: ModelUnderTest, shapes: Path) -> None:
    found = measure("zero-shot", nano, shapes)
    data = open_split(shapes, "test")
    classes = label_vectors(nano.encoder, data.class_names, data.templates)
    transform = ImageTransform(nano.encoder.preprocessing)
    entries = index_shard(shapes / "test" / "0.tar")
    pixels = torch.stack([transform(load_image(entry.read("png"))) for entry in entries])
    nearest = (nano.encoder.encode_pixels(pixels) @ classes.T).argmax(dim=1)
    labels = torch.tensor([int(entry.read("cls")) for entry in entries])
    assert found.metrics["acc1"].value == pytest.approx(100 * float((nearest == labels).float().mean()))
    assert found.metrics["acc1"].value > 60
    assert found.metrics["acc1"].low < found.metrics["acc1"].value < found.metrics["acc1"].high
    assert [item["is_right"] for item in found.items] == (nearest == labels).tolist()
    recalls = [float((nearest == labels)[labels == label].float().mean()) for label in labels.unique()]
    assert found.metrics["mean_per_class_recall"].value == pytest.approx(100 * np.mean(recalls), abs=1e-4)
    assert sum(map(sum, found.details.confusion)) == 64
    assert len(found.details.mistakes) == min(12, int((nearest != labels).sum()))
    assert all(one.image is not None and one.truth != one.prediction for one in found.details.mistakes)


def test_templates_come_from_the_user_the_data_or_the_benchmark(nano: ModelUnderTest, shapes: Path) -> None:
    facts = measure("zero-shot", nano, shapes).facts
    assert facts["templates"] == (shapes / "zeroshot_classification_templates.txt").read_text().splitlines()
    assert measure("zero-shot", nano, shapes, templates="my {c}").facts["templates"] == ["my {c}"]
    assert len(measure("zero-shot", nano, shapes, templates="cars").facts["templates"]) == 8
    with pytest.raises(ConfigError, match="templates 'boats'"):
        measure("zero-shot", nano, shapes, templates="boats")


def test_retrieval_is_the_direct_computation(nano: ModelUnderTest, exported: Path) -> None:
    found = measure("retrieval", nano, exported / "contrastive", max_captions=1)
    data = open_split(exported / "contrastive", "test")
    transform = ImageTransform(nano.encoder.preprocessing)
    pixels = torch.stack([transform(load_image(item.medium.read())) for item in data.items])
    media = torch.nn.functional.normalize(nano.encoder.encode_pixels(pixels), dim=-1)
    texts = [item.captions[0] for item in data.items]
    words = torch.nn.functional.normalize(nano.encoder.encode_texts(texts), dim=-1)
    nearest = (words @ media.T).argmax(dim=1).tolist()
    expected = 100 * np.mean([texts[near] == text for near, text in zip(nearest, texts, strict=True)])
    assert found.metrics["image_retrieval_recall@1"].value == pytest.approx(expected)
    assert found.metrics["image_retrieval_recall@1"].chance == pytest.approx(100 / 32)
    assert found.facts["num_texts"] == 32
    every = measure("retrieval", nano, exported / "contrastive")
    assert every.facts["num_texts"] == 96
    assert every.metrics["image_retrieval_recall@1"].num_units == 32  # captions of one picture are drawn together
    again = measure("retrieval", nano, exported / "contrastive", reweight=1.0)
    assert set(again.metrics) == set(every.metrics)


def test_videos_are_read_from_shards_and_tables_alike(nano: ModelUnderTest, exported: Path) -> None:
    names = ["video_retrieval_recall@1", "text_retrieval_recall@1"]
    table = measure("retrieval", nano, exported / "retrieval.csv")
    assert list(table.metrics)[:2] == names
    assert table.metrics[names[0]].value > 30
    with (exported / "retrieval.csv").open() as stream:
        expected = {row["sentence"]: row["video_id"] for row in csv.DictReader(stream)}
    assert {item["text"]: item["truth"] for item in table.items} == expected
    shards = measure("retrieval", nano, exported / "clips", max_captions=1)
    assert shards.metrics[names[0]].num_units == table.metrics[names[0]].num_units == 8


@pytest.mark.parametrize("name", ["zero-shot", "knn", "linear-probe", "attention-probe"])
def test_labels_exchanged_are_chance(name: str, nano: ModelUnderTest, shapes: Path, tmp_path: Path) -> None:
    found = measure(name, nano, shapes, shuffle=True)
    assert is_chance(found.metrics["acc1"]), found.metrics["acc1"]


@pytest.mark.parametrize("data", ["contrastive", "clips"])
def test_captions_exchanged_are_chance(data: str, nano: ModelUnderTest, exported: Path) -> None:
    found = measure("retrieval", nano, exported / data, shuffle=True)
    assert all(is_chance(score) for score in list(found.metrics.values())[:2])


QUICK = ("world-shape", "world-retrieval", "world-clip-shape", "world-linear-unseen")
WORLD = [
    pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in FEW if name.startswith("world-")
]


@pytest.mark.parametrize("name", WORLD)
def test_the_world_is_known_and_falls_to_chance(name: str, nano: ModelUnderTest, tmp_path: Path) -> None:
    benchmark = find_benchmark(name)
    found = measure(name, nano, None, cache=tmp_path)
    control = measure(name, nano, None, shuffle=True, cache=tmp_path)
    assert is_chance(control.metrics[benchmark.headline]), control.metrics
    if name != "world-events":  # a mean of frames does not tell events apart
        assert not is_chance(found.metrics[benchmark.headline]), found.metrics
    assert set(benchmark.metrics) <= set(found.metrics)


@pytest.mark.parametrize(
    "name",
    [
        "world-shape",
        "world-retrieval",
        pytest.param("world-colour-shape", marks=pytest.mark.slow),
        pytest.param("world-clip-retrieval", marks=pytest.mark.slow),
    ],
)
def test_an_untrained_model_is_at_chance(name: str, untrained: ModelUnderTest) -> None:
    benchmark = find_benchmark(name)
    assert is_chance(measure(name, untrained, None).metrics[benchmark.headline])


def test_probes_take_layers(nano: ModelUnderTest, shapes: Path) -> None:
    found = measure("linear-probe", nano, shapes, layer=-2, penalties=[0.01])
    assert found.facts["penalty"] == 0.01
    assert found.facts["num_train"] == 32
    assert any("No training split" in note for note in found.details.notes)
    neighbours = measure("knn", nano, shapes, ks=[1, 5])
    assert {"acc1", "acc1@1", "acc1@5"} <= set(neighbours.metrics)
    with pytest.raises(ConfigError, match="layer_idx"):
        measure("knn", nano, shapes, layer=99)


def test_probes_train_on_the_training_split(nano: ModelUnderTest, shapes: Path, tmp_path: Path) -> None:
    shutil.copytree(shapes, tmp_path / "tree")
    shutil.copytree(shapes / "test", tmp_path / "tree" / "train")
    found = measure("knn", nano, tmp_path / "tree", ks=[1])
    assert (found.facts["num_train"], found.facts["num_items"]) == (64, 64)
    assert found.facts["train_hash"] == found.facts["data_hash"]
    assert found.metrics["acc1"].value == 100  # every picture is its own neighbour
    assert found.details.notes == ()
    assert measure("knn", nano, tmp_path / "tree", ks=[1], train_limit=10).facts["num_train"] == 10


def test_several_labels_of_a_picture(nano: ModelUnderTest, shapes: Path, tmp_path: Path) -> None:
    samples = []
    for entry in index_shard(shapes / "test" / "0.tar")[:12]:
        stream = io.BytesIO()
        np.save(stream, np.eye(16, dtype=np.int64)[int(entry.read("cls"))])
        samples.append(ShardSample(entry.key, {"png": entry.read("png"), "npy": stream.getvalue()}))
    write_shard(tmp_path / "test" / "0.tar", samples)
    shutil.copy(shapes / "classnames.txt", tmp_path)
    score = measure("zero-shot", nano, tmp_path).metrics["mean_average_precision"]
    assert score.value > 60 > measure("zero-shot", nano, tmp_path, shuffle=True).metrics["mean_average_precision"].value
    with pytest.raises(DataError, match="one label for each"):
        measure("knn", nano, tmp_path)


def test_a_tower_without_text_says_so(nano: ModelUnderTest, exported: Path, tmp_path: Path) -> None:
    from perceptic.weights.pretrained import VisionTransformer

    tower = VisionTransformer.from_pretrained("PE-Core-Nano")
    tower.save_pretrained(tmp_path / "tower")
    model = ModelUnderTest(str(tmp_path / "tower"), device="cpu")
    with pytest.raises(ConfigError, match="text tower"):
        measure("zero-shot", model, exported / "zero_shot" / "shape-seen")
    found = measure("knn", model, exported / "zero_shot" / "shape-seen")
    assert found.metrics["acc1"].value > 6.25


def test_modules_have_what_a_runner_needs() -> None:
    for module in (zero_shot, retrieval, knn, linear_probe):
        assert callable(module.run)
        assert module.Options()
