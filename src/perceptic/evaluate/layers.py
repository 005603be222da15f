"""The layer sweep: what the frozen features of every layer are worth for each task (training-recipes section 3).

    report = sweep_layers(SweepOptions("PE-Core-Nano"), Path("layers"))
    report.tasks["tracking"].best

One pass per picture gives the features of all layers. Scores are kept in the output folder as they come, so that a
sweep that was stopped goes on where it was. Layers are numbered from 0; `number` counts from 1, as the papers do.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from perceptic.errors import ConfigError, OutputError
from perceptic.evaluate.dense import HeadTraining
from perceptic.evaluate.layers_data import TASKS, SweepData, VideoMasks
from perceptic.evaluate.layers_features import LayerStore, Pictures, intermediate_maps, layer_store
from perceptic.evaluate.layers_folders import FolderData
from perceptic.evaluate.layers_tasks import (
    LayerScore,
    depth_of_nothing,
    j_and_f,
    score_classification,
    score_depth,
    score_retrieval,
    score_segmentation,
    track,
)
from perceptic.evaluate.layers_world import WorldData, WorldSizes
from perceptic.evaluate.propagation import Propagation
from perceptic.evaluate.request import OnProgress, ignore_progress
from perceptic.evaluate.result import Score, versions
from perceptic.files import write_text
from perceptic.inference.fingerprint import fingerprint
from perceptic.metrics import ObjectScore
from perceptic.models.clip import CLIP
from perceptic.models.vision import VisionTransformer
from perceptic.weights.pretrained import load_bundle

METRICS = {
    "classification": "linear probe accuracy",
    "retrieval": "recall at 1",
    "segmentation": "mIoU",
    "depth": "RMSE",
    "tracking": "J&F",
}
LOWER_IS_BETTER = frozenset({"depth"})
MODEL, UNTRAINED = "model", "untrained"
_FRAMES_AT_ONCE = 16


@dataclass(frozen=True)
class SweepOptions:
    """What is measured.

    Attributes:
        model: zoo name, hub repository, folder or file; only its vision tower is used.
        tasks: of TASKS. layers: block numbers from 0 (negative ones count from the end); None for all.
        data: "world", or a folder of real data. limit: at most so many items per set.
        seed: of scenes, heads and controls. untrained: measure the same tower with fresh weights beside it.
    """

    model: str
    tasks: tuple[str, ...] = TASKS
    layers: tuple[int, ...] | None = None
    data: str = "world"
    limit: int | None = None
    seed: int = 0
    untrained: bool = True
    training: HeadTraining = field(default_factory=HeadTraining)
    propagation: Propagation = field(default_factory=Propagation)

    def __post_init__(self) -> None:
        unknown = [task for task in self.tasks if task not in TASKS]
        if unknown or not self.tasks:
            raise ConfigError(f"tasks: {', '.join(unknown) or 'none given'}; choose from {', '.join(TASKS)}")
        if self.limit is not None and self.limit < 4:
            raise ConfigError(f"limit {self.limit}: give at least 4 items")


@dataclass(frozen=True)
class TaskReport:
    """One task: scores of every layer, the shuffled control, the untrained tower, and marks to compare with.

    Attributes:
        layers: layer numbers from 0, in order; the lists beside it are as long. untrained: () if it was left out.
        marks: name -> value on the scale of the metric, such as what the patch grid allows.
    """

    task: str
    metric: str
    lower_is_better: bool
    layers: tuple[int, ...]
    scores: tuple[Score, ...]
    control: tuple[Score, ...]
    untrained: tuple[Score, ...]
    extra: dict[str, tuple[Score, ...]]
    marks: dict[str, float]

    @property
    def best_place(self) -> int:
        """Place in `layers` of the best score; the earliest of equals."""
        sign = -1.0 if self.lower_is_better else 1.0
        return max(range(len(self.layers)), key=lambda place: (sign * self.scores[place].value, -place))

    @property
    def best(self) -> int:
        """The best layer, from 0."""
        return self.layers[self.best_place]


@dataclass(frozen=True)
class SweepReport:
    """A finished sweep. `settings` holds everything that decides the numbers; `seconds` is of this call alone."""

    model: str
    num_layers: int
    tasks: dict[str, TaskReport]
    settings: dict[str, Any]
    seconds: float


def sweep_layers(options: SweepOptions, out: Path, on_progress: OnProgress = ignore_progress) -> SweepReport:
    """Measure every layer on every task, or go on with the sweep that is in `out`.

    Raises:
        ConfigError: unknown tasks or layers. WeightsError: the model cannot be loaded. DataError: data that lack what a
        task needs. OutputError: `out` holds another sweep, or cannot be written.
    """
    started = time.perf_counter()
    bundle = load_bundle(options.model, kind="vision", dtype=torch.float32)
    tower = (bundle.model.visual if isinstance(bundle.model, CLIP) else bundle.model).eval()
    layers = _chosen_layers(options.layers, tower.config.layers)
    data: SweepData
    if options.data == "world":
        data = WorldData(bundle.preprocessing.image_size, options.seed, WorldSizes().limited(options.limit))
    else:
        data = FolderData(Path(options.data), bundle.preprocessing, options.limit, options.seed)
    settings = _settings(options, bundle.name, tower, layers, data)
    scores = _ScoreFile.open(out / "scores.json", settings)
    subjects: dict[str, VisionTransformer] = {MODEL: tower}
    if options.untrained:
        torch.manual_seed(options.seed)
        subjects[UNTRAINED] = VisionTransformer(tower.config).eval()
    sweeps = {
        name: _Sweep(name, subject, layers, data, options, scores, out / "features", on_progress)
        for name, subject in subjects.items()
    }
    tasks = {task: _report(task, layers, sweeps) for task in TASKS if task in options.tasks}
    return SweepReport(bundle.name, tower.config.layers, tasks, settings, time.perf_counter() - started)


@dataclass(frozen=True)
class _Sweep:
    """One tower on all tasks."""

    name: str
    tower: VisionTransformer
    layers: tuple[int, ...]
    data: SweepData
    options: SweepOptions
    scores: _ScoreFile
    features: Path
    on_progress: OnProgress

    def run(self, task: str) -> tuple[list[LayerScore], dict[str, float]]:
        """The scores of every layer and the marks to compare with."""
        measure = {
            "classification": self._classification,
            "retrieval": self._retrieval,
            "segmentation": self._segmentation,
            "depth": self._depth,
            "tracking": self._tracking,
        }
        return measure[task]()

    def _classification(self) -> tuple[list[LayerScore], dict[str, float]]:
        data = self.data.classification()
        stores = [self._store(part.pictures, keep_patches=False) for part in (data.train, data.test)]
        return self._layerwise(
            "classification",
            lambda layer: score_classification(
                stores[0].pooled(layer), stores[1].pooled(layer), data, self.options.seed
            ),
        ), {"guessing": 100.0 / len(data.class_names)}

    def _retrieval(self) -> tuple[list[LayerScore], dict[str, float]]:
        data = self.data.retrieval()
        queries, gallery = (self._store(part, keep_patches=False) for part in (data.queries, data.gallery))
        return self._layerwise(
            "retrieval",
            lambda layer: score_retrieval(queries.pooled(layer), gallery.pooled(layer), self.options.seed),
        ), {"guessing": 100.0 / data.gallery.count}

    def _segmentation(self) -> tuple[list[LayerScore], dict[str, float]]:
        data = self.data.segmentation()
        train, test = (self._store(part.pictures, keep_patches=True) for part in (data.train, data.test))
        return self._layerwise(
            "segmentation",
            lambda layer: score_segmentation(train.patches(layer), test.patches(layer), data, self.options.training),
        ), {}

    def _depth(self) -> tuple[list[LayerScore], dict[str, float]]:
        data = self.data.depth()
        train, test = (self._store(part.pictures, keep_patches=True) for part in (data.train, data.test))
        return self._layerwise(
            "depth", lambda layer: score_depth(train.patches(layer), test.patches(layer), data, self.options.training)
        ), {"always the mean depth": depth_of_nothing(data)}

    def _tracking(self) -> tuple[list[LayerScore], dict[str, float]]:
        data = self.data.tracking()
        rows = [self.scores.get(f"{self.name}/tracking/clip {index}") for index in range(data.count)]
        first = next((index for index, row in enumerate(rows) if row is None), data.count)
        known = [row for row in rows[:first] if row is not None]
        for index, clip in enumerate(data.clips(first), first):
            row = self._tracked(clip)
            self.scores.put(f"{self.name}/tracking/clip {index}", row)
            known.append(row)
            self.on_progress(f"{self.name}: tracking", index + 1, data.count)
        return _tracking_scores(known, len(self.layers), self.options.seed)

    def _tracked(self, clip: VideoMasks) -> list[dict[str, Any]]:
        """One clip at every layer, as JSON values."""
        parts = [intermediate_maps(self.tower, part, self.layers) for part in clip.pixels.split(_FRAMES_AT_ONCE)]
        rows: list[dict[str, Any]] = []
        for place in range(len(self.layers)):
            maps = torch.cat([part[place] for part in parts])
            rows.append(asdict(track(maps, clip, self.options.propagation, self.options.seed)))
        return rows

    def _layerwise(self, task: str, measure: Callable[[int], LayerScore]) -> list[LayerScore]:
        found: list[LayerScore] = []
        for place, layer in enumerate(self.layers):
            key = f"{self.name}/{task}/{layer}"
            known = self.scores.get(key)
            if known is None:
                known = asdict(measure(layer))
                self.scores.put(key, known)
            found.append(_layer_score(known))
            self.on_progress(f"{self.name}: {task}", place + 1, len(self.layers))
        return found

    def _store(self, pictures: Pictures, *, keep_patches: bool) -> LayerStore:
        return layer_store(
            self.tower,
            fingerprint(self.tower, 256),
            pictures,
            self.layers,
            self.features,
            keep_patches=keep_patches,
            on_progress=lambda _, done, total: self.on_progress(f"{self.name}: features", done, total),
        )


@dataclass
class _ScoreFile:
    """Scores by name, written whole after each one; tied to the settings that made them."""

    path: Path
    settings: dict[str, Any]
    scores: dict[str, Any]

    @classmethod
    def open(cls, path: Path, settings: dict[str, Any]) -> _ScoreFile:
        """What is there already. Raises OutputError if it is of another sweep or cannot be read."""
        if not path.exists():
            return cls(path, settings, {})
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            there, scores = found["settings"], found["scores"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OutputError(f"{path}: cannot be read as the scores of a sweep; remove it ({error})") from error
        wanted = json.loads(json.dumps(settings))
        changed = [key for key in wanted if key not in _FREE_SETTINGS and there.get(key) != wanted[key]]
        if changed:
            raise OutputError(
                f"{path.parent} holds a sweep with other settings ({', '.join(changed)}); choose another --out, "
                "or remove it"
            )
        return cls(path, settings, scores)

    def get(self, key: str) -> Any:
        """A score, or None."""
        return self.scores.get(key)

    def put(self, key: str, value: Any) -> None:
        self.scores[key] = value
        write_text(self.path, json.dumps({"settings": self.settings, "scores": self.scores}))


_FREE_SETTINGS = frozenset({"tasks", "untrained", "versions"})
"""They decide which scores there are, or only tell where they were made."""


def _settings(
    options: SweepOptions, name: str, tower: VisionTransformer, layers: tuple[int, ...], data: SweepData
) -> dict[str, Any]:
    return {
        "model": name,
        "fingerprint": fingerprint(tower, 256),
        "layers": list(layers),
        "features": "patch tokens of each block without the final norm; pooled: their mean",
        "data": data.description,
        "seed": options.seed,
        "head": asdict(options.training),
        "propagation": asdict(options.propagation),
        "tasks": list(options.tasks),
        "untrained": options.untrained,
        "versions": versions(),
    }


def _chosen_layers(layers: tuple[int, ...] | None, num_layers: int) -> tuple[int, ...]:
    if layers is None:
        return tuple(range(num_layers))
    for layer in layers:
        if not -num_layers <= layer < num_layers:
            raise ConfigError(f"--layers {layer}: this tower has {num_layers} layers, 0 to {num_layers - 1}")
    return tuple(sorted({layer % num_layers for layer in layers}))


def _report(task: str, layers: tuple[int, ...], sweeps: dict[str, _Sweep]) -> TaskReport:
    found, marks = sweeps[MODEL].run(task)
    fresh = sweeps[UNTRAINED].run(task)[0] if UNTRAINED in sweeps else []
    extra = {name: tuple(one.extra[name] for one in found) for name in found[0].extra}
    return TaskReport(
        task=task,
        metric=METRICS[task],
        lower_is_better=task in LOWER_IS_BETTER,
        layers=layers,
        scores=tuple(one.score for one in found),
        control=tuple(one.control for one in found),
        untrained=tuple(one.score for one in fresh),
        extra=extra,
        marks=marks,
    )


def _layer_score(values: dict[str, Any]) -> LayerScore:
    """From JSON values."""
    extra = {name: Score(**score) for name, score in values["extra"].items()}
    return LayerScore(Score(**values["score"]), Score(**values["control"]), extra)


def _tracking_scores(
    clips: Sequence[list[dict[str, Any]]], num_layers: int, seed: int
) -> tuple[list[LayerScore], dict[str, float]]:
    """Objects of all clips, layer by layer."""

    def objects(place: int, kind: str) -> list[ObjectScore]:
        return [ObjectScore(**one) for clip in clips for one in clip[place][kind]]

    scores = []
    for place in range(num_layers):
        found = objects(place, "objects")
        extra = {
            "J": Score.mean([one.region for one in found], seed=seed),
            "F": Score.mean([one.boundary for one in found], seed=seed),
        }
        scores.append(LayerScore(j_and_f(found, seed), j_and_f(objects(place, "control"), seed), extra))
    return scores, {"true masks on this patch grid": j_and_f(objects(0, "coarse"), seed).value}
