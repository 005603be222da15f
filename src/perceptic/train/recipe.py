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
    """One pool of samples: `count` scenes of the synthetic world, or the webdataset tar files in `shards` (paths or
    globs). `num_frames` above 1 makes them clips; a `single_share` of the world's pictures holds one object;
    close-ups are windows of `image_size` pixels in scenes of `scene_size`."""

    source: Literal["world-images", "world-closeups", "world-clips", "shards"]
    image_size: int = 64
    scene_size: int = 64
    num_frames: int = 1
    count: int = 0
    seed: int = 0
    noise: NoiseRecipe = NoiseRecipe()
    single_share: float = 0.0
    shards: tuple[str, ...] = ()


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
    """The vocabulary, of the model's size, is learned from the captions of the first `num_samples` of pool `data`."""

    data: str
    num_samples: int = 20000


@dataclass(frozen=True, kw_only=True)
class Recipe(RunRecipe):
    """A whole run of a contrastive objective. `chunk_size`: see `Contrastive`."""

    data: dict[str, DataRecipe]
    phases: tuple[PhaseRecipe, ...]
    tokenizer: TokenizerRecipe
    objective: Literal["contrastive"] = "contrastive"
    chunk_size: int = 0
    max_logit_scale: float = 100.0
    model_overrides: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.check_phase_names()
        if any(not phase.stages for phase in self.phases):
            raise ConfigError(f"recipe '{self.name}': every phase needs a stage")
        named = [(f"phases.{i}.data", phase.data) for i, phase in enumerate(self.phases)]
        for key, name in [*named, ("tokenizer.data", self.tokenizer.data)]:
            if name not in self.data:
                raise ConfigError(f"{key}: no data is named '{name}'; the recipe has {', '.join(self.data)}")

    @property
    def schedule(self) -> Sequence[Phase]:
        return self.phases


AnyRecipe = Recipe | PlmRecipe

_KINDS: dict[str, type[Recipe] | type[PlmRecipe]] = {"contrastive": Recipe, "plm": PlmRecipe}


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
