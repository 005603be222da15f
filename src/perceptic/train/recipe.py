"""Recipes: YAML files that say everything about a training run, read strictly into frozen dataclasses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml

from perceptic.data.augmentation import Augmentation
from perceptic.errors import ConfigError
from perceptic.train.distillation import DistillRecipe
from perceptic.train.mask_regularisation import MaskRecipe
from perceptic.train.objectives import PairLossName
from perceptic.train.plm_recipe import PlmRecipe
from perceptic.train.run_recipe import Phase, RunRecipe
from perceptic.train.strict import build, set_path


@dataclass(frozen=True)
class NoiseRecipe:
    """Probabilities that a described fact is left out or wrong; see `perceptic.world.CaptionNoise`."""

    missing: float = 0.0
    wrong: float = 0.0


@dataclass(frozen=True)
class DataRecipe:
    """Where samples come from.

    `world-*` draw `count` scenes of the synthetic world, `shards` are webdataset tar files (paths or globs); both are
    decoded once into a pool on disk. `stream` reads shards, a `folder` or a `mix` of a registry's data sets as it
    trains, whatever their size; there `count` only says how many samples an epoch has, for `--dry-run`.

    Attributes:
        image_size: of a pool's pixels. num_frames: above 1 makes clips.
        scene_size: close-ups are windows of `image_size` pixels in scenes of so many.
        single_share: of the world's pictures, hold one object.
        shards, folder, mix, registry: what a stream reads, one of the first three; `mix` is "name:weight,name:weight"
            of data sets in `registry`, a datasets.yaml.
        buffer: samples that a stream shuffles among. workers: threads that decode ahead.
        skip_limit: bad samples that a stream passes over, all processes together; None: any number.
    """

    source: Literal["world-images", "world-closeups", "world-clips", "shards", "stream"]
    image_size: int = 64
    scene_size: int = 64
    num_frames: int = 1
    count: int = 0
    seed: int = 0
    noise: NoiseRecipe = NoiseRecipe()
    single_share: float = 0.0
    shards: tuple[str, ...] = ()
    folder: str | None = None
    mix: str | None = None
    registry: str | None = None
    buffer: int = 5000
    workers: int = 4
    skip_limit: int | None = 1000

    @property
    def is_stream(self) -> bool:
        return self.source == "stream"


@dataclass(frozen=True)
class CaptionShares:
    """How often each caption length is drawn."""

    short: float = 1.0
    medium: float = 1.0
    long: float = 1.0


@dataclass(frozen=True)
class StageRecipe:
    """So many steps at one resolution."""

    image_size: int
    steps: int


@dataclass(frozen=True)
class PhaseRecipe:
    """One stretch of training on one pool with one learning-rate schedule; its stages raise the resolution."""

    name: str
    data: str
    batch_size: int
    learning_rate: float
    warmup_steps: int
    stages: tuple[StageRecipe, ...]
    final_learning_rate: float = 0.0
    captions: CaptionShares = CaptionShares()
    augmentation: Augmentation = field(default_factory=Augmentation)

    @property
    def num_steps(self) -> int:
        return sum(stage.steps for stage in self.stages)

    def image_size(self, step: int) -> int:
        """Resolution of a step of the phase."""
        for stage in self.stages:
            if step < stage.steps:
                return stage.image_size
            step -= stage.steps
        raise IndexError(f"phase {self.name} has {self.num_steps} steps")


@dataclass(frozen=True)
class TokenizerRecipe:
    """Whose vocabulary: learned, of the model's size, from the captions of the first `num_samples` of pool `data`; or
    that of `model`, a name or folder; or, with neither, CLIP's 49,408 pieces."""

    data: str | None = None
    num_samples: int = 20000
    model: str | None = None

    def __post_init__(self) -> None:
        if self.data is not None and self.model is not None:
            raise ConfigError("tokenizer: give 'data' to learn it or 'model' to take it, not both")


@dataclass(frozen=True, kw_only=True)
class Recipe(RunRecipe):
    """A whole run that trains an encoder.

    Attributes:
        data: pools and streams by name. phases: what is trained on them, one after the other.
        objective: pairs drawn together, or a student following a teacher (`distill`).
        init: name or folder of a CLIP model to go on from; None: fresh weights.
        tokenizer: None: that of `init`, else of the teacher, else CLIP's.
        loss: of the contrastive objective. mask: its regularisation (None: without).
        chunk_size, max_logit_scale: see `Contrastive`.
        model_overrides: fields of the architecture, under `vision` and `text`.
    """

    data: dict[str, DataRecipe]
    phases: tuple[PhaseRecipe, ...]
    objective: Literal["contrastive", "distill"] = "contrastive"
    init: str | None = None
    tokenizer: TokenizerRecipe | None = None
    loss: PairLossName = "infonce"
    mask: MaskRecipe | None = None
    distill: DistillRecipe | None = None
    chunk_size: int = 0
    max_logit_scale: float = 100.0
    model_overrides: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.check_run()
        if self.accumulate > 1:
            raise ConfigError(
                "accumulate: every pair of a batch is compared with all others, so parts of it have another loss; "
                "where memory is short, set chunk_size or use more processes"
            )
        if any(not phase.stages for phase in self.phases):
            raise ConfigError(f"recipe '{self.name}': every phase needs a stage")
        self._check_data()
        if (self.objective == "distill") != (self.distill is not None):
            raise ConfigError("distill: 'objective: distill' and this block, which names the teacher, go together")
        if self.distill is not None and (self.mask is not None or self.loss != "infonce"):
            raise ConfigError("distill: has a loss of its own; leave out 'mask' and 'loss'")

    @property
    def schedule(self) -> Sequence[Phase]:
        return self.phases

    def _check_data(self) -> None:
        named = [(f"phases.{i}.data", phase.data) for i, phase in enumerate(self.phases)]
        if self.tokenizer is not None and self.tokenizer.data is not None:
            named.append(("tokenizer.data", self.tokenizer.data))
            if self.tokenizer.data in self.data and self.data[self.tokenizer.data].is_stream:
                raise ConfigError("tokenizer.data: a vocabulary is learned from a pool; a stream has no end")
        if self.validation is not None:
            named.append(("validation.data", self.validation.data))
        for key, name in named:
            if name not in self.data:
                raise ConfigError(f"{key}: no data is named '{name}'; the recipe has {', '.join(self.data)}")


AnyRecipe = Recipe | PlmRecipe

_KINDS: dict[str, type[Recipe] | type[PlmRecipe]] = {"contrastive": Recipe, "distill": Recipe, "plm": PlmRecipe}


def recipe_names() -> list[str]:
    """Names of the recipes in the package."""
    folder = resources.files("perceptic.train") / "recipes"
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def load_recipe(source: str | Path, changes: tuple[str, ...] = ()) -> AnyRecipe:
    """Read a recipe by packaged name or from a file, with changes "a.b=value" applied (values are YAML).

    Raises:
        ConfigError: no such recipe, YAML that cannot be read, an unknown key (naming the nearest known one) or a value
            of the wrong kind.
    """
    mapping = parse_yaml(_recipe_text(source), str(source))
    for change in changes:
        key, separator, value = change.partition("=")
        if not separator:
            raise ConfigError(f"--set {change}: write key=value, for example --set seed=1")
        set_path(mapping, key.strip(), parse_yaml(value, f"--set {change}"))
    return build_recipe(mapping)


def build_recipe(mapping: Any) -> AnyRecipe:
    """Plain values to a recipe of their `objective`. Raises ConfigError as `load_recipe`."""
    objective = mapping.get("objective", "contrastive") if isinstance(mapping, dict) else "contrastive"
    if objective not in _KINDS:
        raise ConfigError(f"objective: must be one of {', '.join(_KINDS)}, not {objective!r}")
    return build(_KINDS[objective], mapping, "")


def parse_yaml(text: str, where: str) -> Any:
    """YAML to plain values. Raises ConfigError naming `where` and the line."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: is not valid YAML: {error}") from error


def _recipe_text(source: str | Path) -> str:
    packaged = resources.files("perceptic.train") / "recipes" / f"{source}.yaml"
    if str(source) in recipe_names():
        return packaged.read_text(encoding="utf-8")
    try:
        return Path(source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{source}: is neither a recipe file ({error}) nor a packaged recipe: {', '.join(recipe_names())}"
        ) from error
