"""The layer sweep: features of all layers in one pass, scores kept and used again, folders of real data, the page."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from perceptic.cli.main import run
from perceptic.configs import Preprocessing, VisionConfig
from perceptic.errors import ConfigError, DataError, OutputError
from perceptic.evaluate import layers as layers_module
from perceptic.evaluate import layers_features
from perceptic.evaluate.benchmark import all_benchmarks
from perceptic.evaluate.dense import HeadTraining
from perceptic.evaluate.layer_benchmark import Options
from perceptic.evaluate.layer_benchmark import run as layer_benchmark_run
from perceptic.evaluate.layers import SweepOptions, TaskReport, sweep_layers
from perceptic.evaluate.layers_data import TASKS
from perceptic.evaluate.layers_features import Pictures, intermediate_maps, layer_store
from perceptic.evaluate.layers_folders import FolderData
from perceptic.evaluate.layers_page import render_sweep, sweep_values
from perceptic.evaluate.layers_tasks import score_retrieval
from perceptic.evaluate.layers_world import WorldData, WorldSizes, change_scene
from perceptic.evaluate.published_size import SUBSET
from perceptic.evaluate.request import Common, ModelUnderTest, Request
from perceptic.evaluate.result import Score
from perceptic.evaluate.runners import runner_for
from perceptic.models.vision import VisionTransformer
from perceptic.world.randomness import seeded

QUICK = HeadTraining(steps=4, batch_size=4)


@pytest.fixture(scope="module")
def tower() -> VisionTransformer:
    torch.manual_seed(0)
    config = VisionConfig(image_size=16, patch_size=4, width=16, layers=3, heads=2, output_dim=8, attn_pooler_heads=2)
    return VisionTransformer(config).eval()


def noise(count: int) -> Pictures:
    pixels = torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return Pictures(f"noise {count}", count, lambda index: pixels[index])


def test_maps_of_all_layers_are_those_of_single_passes(tower: VisionTransformer) -> None:
    pixels = torch.stack([noise(2).read(index) for index in range(2)])
    for layer, found in zip((2, 0), intermediate_maps(tower, pixels, (2, 0)), strict=True):
        expected = tower.forward_features(pixels, layer_idx=layer)[:, tower.config.num_prefix_tokens :]
        assert torch.allclose(found.flatten(1, 2), expected, atol=1e-5)


def test_a_store_is_computed_once(tower: VisionTransformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = layer_store(tower, "weights", noise(40), (0, 2), tmp_path, keep_patches=True)
    monkeypatch.setattr(layers_features, "_compute", _fail)
    again = layer_store(tower, "weights", noise(40), (0, 2), tmp_path, keep_patches=True)
    assert again.folder == first.folder
    assert again.patches(2).shape == (40, 4, 4, 16)
    assert torch.allclose(again.patches(0).float().mean(dim=(1, 2)), again.pooled(0), atol=2e-2)
    with pytest.raises(AssertionError, match="computed"):
        layer_store(tower, "other weights", noise(40), (0, 2), tmp_path, keep_patches=True)


def test_features_that_do_not_fit_are_refused(
    tower: VisionTransformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage)
    with pytest.raises(OutputError, match="name fewer --layers"):
        layer_store(tower, "weights", noise(40), (0, 1), tmp_path, keep_patches=True)


def test_retrieval_finds_the_same_and_falls_to_chance_when_shuffled() -> None:
    vectors = torch.randn(200, 32, generator=torch.Generator().manual_seed(0))
    found = score_retrieval(vectors + 0.01, vectors, seed=0)
    assert found.score.value == 100.0
    assert found.control.value <= 3.0
    assert found.score.chance == 0.5


def test_a_changed_scene_shows_the_same_objects() -> None:
    scene = WorldData(64)._scenes("validation", 3)[2]
    changed = change_scene(scene, seeded(0, "test"))
    for item, other in zip(scene.objects, changed.objects, strict=True):
        assert (item.shape, item.colour, item.texture, item.size) == (
            other.shape,
            other.colour,
            other.texture,
            other.size,
        )
        assert abs(item.x - other.x) <= 0.05 + 1e-9
        assert abs(item.y - other.y) <= 0.05 + 1e-9
    assert changed != scene


def test_world_sets_agree_with_each_other() -> None:
    data = WorldData(64, sizes=WorldSizes().limited(6))
    segmentation, depth = data.segmentation(), data.depth()
    # An object is nearer than the background, and only an object.
    assert np.array_equal(np.greater(segmentation.test.truth, 0), np.less(depth.test.truth, 1.0))
    assert segmentation.train.pictures.read(0).shape == (3, 64, 64)
    clip = next(data.tracking().clips(2))
    assert clip.name == "clip 2"
    assert len(clip.pixels) == len(clip.masks) == 16
    assert {1, 2} & set(np.unique(clip.masks[0]).tolist())


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sweep")
    sweep_layers(small(), out)
    return out


def small(**changes: Any) -> SweepOptions:
    values: dict[str, Any] = {
        "model": "PE-Core-Nano",
        "layers": (0, -1),
        "limit": 6,
        "training": QUICK,
        "untrained": False,
        **changes,
    }
    return SweepOptions(**values)


def test_a_sweep_has_every_task_and_layer(swept: Path) -> None:
    report = sweep_layers(small(), swept)
    assert tuple(report.tasks) == TASKS
    assert report.num_layers == 6
    for task in report.tasks.values():
        assert task.layers == (0, 5)
        assert len(task.scores) == len(task.control) == 2
        assert all(np.isfinite(score.value) for score in (*task.scores, *task.control))
    page = render_sweep(report)
    assert page.count("<svg") == len(TASKS) + 1
    assert "nan" not in page
    values = json.loads(json.dumps(sweep_values(report), allow_nan=False))
    assert [row["number"] for row in values["tasks"]["depth"]["layers"]] == [1, 6]


def test_a_sweep_goes_on_where_it_stopped(swept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = json.loads((swept / "scores.json").read_text())
    for name in ("score_classification", "score_retrieval", "score_segmentation", "score_depth", "track"):
        monkeypatch.setattr(layers_module, name, _fail)
    sweep_layers(small(tasks=("depth", "tracking")), swept)
    assert json.loads((swept / "scores.json").read_text())["scores"] == before["scores"]


@pytest.mark.parametrize("change", [{"seed": 1}, {"limit": 7}, {"layers": (0,)}])
def test_a_sweep_with_other_settings_is_refused(swept: Path, change: dict[str, Any]) -> None:
    with pytest.raises(OutputError, match="another --out"):
        sweep_layers(small(**change), swept)


def test_damaged_scores_are_named(swept: Path, tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_text((swept / "scores.json").read_text()[:200])
    with pytest.raises(OutputError, match=r"scores\.json: cannot be read"):
        sweep_layers(small(), tmp_path)


def test_wrong_usage_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tasks: colouring"):
        SweepOptions("PE-Core-Nano", tasks=("colouring",))
    with pytest.raises(ConfigError, match="at least 4"):
        SweepOptions("PE-Core-Nano", limit=1)
    with pytest.raises(ConfigError, match="6 layers, 0 to 5"):
        sweep_layers(small(layers=(6,)), tmp_path)


def test_the_best_depth_is_the_lowest_and_ties_go_to_the_earlier_layer() -> None:
    def report(values: list[float], lower: bool) -> TaskReport:
        scores = tuple(Score(value) for value in values)
        return TaskReport("t", "m", lower, (1, 3, 5), scores, scores, (), {}, {})

    assert report([0.3, 0.1, 0.2], True).best == 3
    assert report([50.0, 60.0, 60.0], False).best == 3


def test_the_command_prints_a_row_per_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["layers", "--tasks", "retrieval", "--limit", "4", "--layers", "0,5", "--no-untrained"]
    assert run([*arguments, "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "| retrieval | recall at 1 |" in printed
    assert (tmp_path / "out" / "layers.html").exists()
    assert run([*arguments, "--out", str(tmp_path / "out"), "--data", str(tmp_path / "nothing")]) == 1
    assert run(["layers", "--layers", "one", "--out", str(tmp_path)]) == 2


# Folders of real data


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)

    def picture(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (20, 30, 3), dtype=np.uint8)).save(path)

    for part, split in (("train", "training"), ("test", "validation")):
        for number in range(4):
            for name in ("cat", "dog"):
                picture(tmp_path / "classification" / part / name / f"{number}.png")
            for task in ("segmentation", "depth"):
                picture(tmp_path / task / "images" / split / f"{number}.png")
            save(tmp_path / "segmentation/annotations" / split / f"{number}.png", np.eye(20, 30, dtype=np.uint8) * 3)
            save(tmp_path / "depth/depths" / split / f"{number}.png", np.full((20, 30), 2500, dtype=np.uint16))
    tracking = tmp_path / "tracking"
    for frame in range(3):
        picture(tracking / "JPEGImages/480p/bear" / f"{frame:05d}.jpg")
        save(tracking / "Annotations/480p/bear" / f"{frame:05d}.png", np.full((20, 30), 2, dtype=np.uint8))
    (tracking / "ImageSets/2017").mkdir(parents=True)
    (tracking / "ImageSets/2017/val.txt").write_text("bear\n")
    return tmp_path


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def data_of(root: Path) -> FolderData:
    return FolderData(root, Preprocessing(image_size=16))


def test_folders_are_read_as_their_layouts_say(folders: Path) -> None:
    data = data_of(folders)
    classification = data.classification()
    assert classification.class_names == ("cat", "dog")
    assert classification.test.labels.tolist() == [0] * 4 + [1] * 4
    retrieval = data.retrieval()
    assert retrieval.queries.count == 8
    assert not torch.equal(retrieval.queries.read(0), retrieval.gallery.read(0))
    truth = data.segmentation().test.truth
    # 0 is void in the files and class 3 is the third one, number 2 here.
    assert truth.shape == (4, 16, 16)
    assert set(np.unique(truth)) == {2, 255}
    assert data.depth().train.truth.max() == pytest.approx(2.5)
    clip = next(data.tracking().clips(0))
    assert clip.masks.shape == (3, 20, 30)
    assert clip.pixels.shape == (3, 3, 16, 16)


def test_a_sweep_runs_on_folders(folders: Path, tmp_path: Path) -> None:
    options = small(data=str(folders), tasks=("classification", "segmentation", "depth", "tracking"), limit=None)
    report = sweep_layers(options, tmp_path / "out")
    assert report.tasks["depth"].marks["always the mean depth"] == 0.0


def test_dense_benchmarks_report_the_best_and_the_last_layer(folders: Path) -> None:
    for name, task in (("davis2017", "tracking"), ("ade20k", "segmentation"), ("nyuv2", "depth")):
        benchmark = all_benchmarks()[name]
        request = Request(benchmark, ModelUnderTest("PE-Core-Nano"), Options(layers=(0, -1)), folders / task)
        with pytest.raises(DataError, match=rf"not the set that {name} names: expected [\d,]+ items, found \d+\."):
            layer_benchmark_run(request)
        request = dataclasses.replace(request, common=Common(allow_subset=True))
        assert runner_for(benchmark).run is layer_benchmark_run
        found = layer_benchmark_run(request)
        assert tuple(found.metrics) == benchmark.metrics
        assert "items" in found.facts[SUBSET]
        assert [item["id"] for item in found.items] == ["layer 0", "layer 5"]
        best, last = (found.metrics[metric].value for metric in benchmark.metrics)
        assert best <= last if task == "depth" else best >= last


@pytest.mark.parametrize("task", TASKS)
def test_missing_data_say_how_they_must_lie(tmp_path: Path, task: str) -> None:
    data = data_of(tmp_path)
    with pytest.raises(DataError, match="not found"):
        getattr(data, task)()


def test_frames_without_masks_are_named(folders: Path) -> None:
    (folders / "tracking/Annotations/480p/bear/00001.png").unlink()
    with pytest.raises(DataError, match="sequence bear has 3 frames and 2 masks"):
        next(data_of(folders).tracking().clips(0))


def test_masks_in_colour_are_refused(folders: Path) -> None:
    save(folders / "segmentation/annotations/validation/0.png", np.zeros((20, 30, 3), dtype=np.uint8))
    with pytest.raises(DataError, match="one number per pixel"):
        data_of(folders).segmentation()


def _fail(*arguments: Any, **named: Any) -> Callable[..., Any]:
    raise AssertionError("computed again")
