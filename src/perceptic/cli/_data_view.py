"""Through whose eyes training data is looked at: a language model at a training stage, or a text vocabulary."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perceptic.data.plm_samples import SampleMaker
    from perceptic.data.registry import RegistryEntry
    from perceptic.text.clip_tokenizer import ClipTokenizer
    from perceptic.train.plm_recipe import PlmPhaseRecipe, PlmRecipe
    from perceptic.train.plm_stages import PlmStage


@dataclass(frozen=True)
class RecipeData:
    """What a phase of a recipe trains on: its mix, and the data sets by name."""

    mix: str
    entries: dict[str, RegistryEntry]


def recipe_data(options: dict[str, Any]) -> RecipeData:
    """Of `--recipe` and `--phase`; a world that it trains on is exported into the cache where it is missing.

    Raises:
        ConfigError: a recipe of another kind, or without such a phase. DataError: a registry that cannot be read.
    """
    from perceptic.cli.train import default_cache
    from perceptic.data.registry import RegistryEntry, read_registry
    from perceptic.data.world_rows import world_registry
    from perceptic.train.plm_data import ROWS

    recipe = _plm_recipe(options)
    mix, data = _phase(recipe, options["phase"]).mix, recipe.data
    if data.rows is not None:
        rows = Path(data.rows).expanduser()
        root = rows.parent if data.media is None else Path(data.media).expanduser()
        return RecipeData(mix, {ROWS: RegistryEntry(ROWS, rows, root)})
    if data.world is not None:
        return RecipeData(mix, read_registry(world_registry(default_cache(), **dataclasses.asdict(data.world))))
    assert data.registry is not None  # one of them is there, `PlmDataRecipe` says
    return RecipeData(mix, read_registry(Path(data.registry).expanduser()))


def sample_maker(options: dict[str, Any]) -> SampleMaker:
    """Rows to samples as `--recipe`, `--set` and `--phase` would, or `--model`, `--stage`, `--set` and `--tokenizer`.

    Raises:
        ConfigError, WeightsError: names that do not exist, or a model without a tokenizer.
    """
    from perceptic.data.plm_samples import SampleMaker
    from perceptic.media.chunks import ChunkTransform
    from perceptic.train.plm_model import find_origin
    from perceptic.train.plm_recipe import PlmDataRecipe, PlmPhaseRecipe, PlmRecipe
    from perceptic.weights.plm_sources import is_nano

    if options["recipe"] is not None:
        recipe = _plm_recipe(options)
        stage = _phase(recipe, options["phase"]).settings
    else:
        model, tokenizer = options["model"], options["tokenizer"]
        needs_folder = not is_nano(model) and tokenizer is None
        recipe = PlmRecipe(
            name="check",
            objective="plm",
            model=model,
            data=PlmDataRecipe(registry=""),
            phases=(PlmPhaseRecipe("check", int(options["stage"]), "", 1, 0.0),),  # type: ignore[arg-type]  # 1, 2, 3
            init=model if needs_folder else None,
            tokenizer=None if tokenizer is None else str(tokenizer),
        )
        stage = _stage(int(options["stage"]), options["changes"])
    origin = find_origin(recipe)
    return SampleMaker(
        origin.tokenizer,
        ChunkTransform(stage.preprocessing(origin.preprocessing)),
        stage.model_config(origin.config).tokens_per_chunk,
        stage.max_tokens,
        template=stage.template,
    )


def clip_tokenizer(path: Path | None) -> ClipTokenizer:
    """A tokenizer by its file or folder; PE-Core-Nano's without one. Raises TextError if it cannot be read."""
    from perceptic import zoo
    from perceptic.text.clip_tokenizer import ClipTokenizer

    if path is not None and path.is_file():
        return ClipTokenizer.from_file(path)
    return ClipTokenizer.find(path or zoo.find_card("PE-Core-Nano").folder)


def _plm_recipe(options: dict[str, Any]) -> PlmRecipe:
    from perceptic.errors import ConfigError
    from perceptic.train.plm_recipe import PlmRecipe
    from perceptic.train.recipe import load_recipe

    recipe = load_recipe(options["recipe"], options["changes"])
    if not isinstance(recipe, PlmRecipe):
        raise ConfigError(f"--recipe {options['recipe']}: is of no language model; check its data by path or registry")
    return recipe


def _phase(recipe: PlmRecipe, name: str | None) -> PlmPhaseRecipe:
    from perceptic.errors import ConfigError

    found = [phase for phase in recipe.phases if name in (None, phase.name)]
    if not found:
        raise ConfigError(f"--phase {name}: the recipe has {', '.join(phase.name for phase in recipe.phases)}")
    if found[-1].learn == "patches":
        raise ConfigError(
            f"--phase {found[-1].name}: learns words of patches, which are not read as conversations; its training run "
            "counts what it cannot use, and other phases can be checked here"
        )
    return found[-1]


def _stage(number: int, changes: tuple[str, ...]) -> PlmStage:
    from perceptic.errors import ConfigError
    from perceptic.train.plm_stages import PAPER_STAGES, PlmStage
    from perceptic.train.recipe import parse_yaml
    from perceptic.train.strict import build

    values = dataclasses.asdict(PAPER_STAGES[number])
    for change in changes:
        key, separator, value = change.partition("=")
        if not separator:
            raise ConfigError(f"--set {change}: write key=value, for example --set max_num_tiles=16")
        values[key.strip()] = parse_yaml(value, f"--set {change}")
    return build(PlmStage, values, "--set")
