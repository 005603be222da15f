"""The model that a PLM recipe trains: where it begins, and how a stage goes on from the one before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from perceptic.configs_plm import PerceptionLMConfig, PerceptionLMPreprocessing, default_image_token_id, plm_config
from perceptic.errors import ConfigError, TrainError
from perceptic.models.perception_lm import PerceptionLM
from perceptic.text.llama_tokenizer import LlamaTokenizer
from perceptic.train.llama_weights import begin_decoder
from perceptic.train.lora import add_lora
from perceptic.train.mimetic import begin_mimetic
from perceptic.train.plm_recipe import PlmRecipe
from perceptic.train.plm_stages import PlmStage, go_on_from
from perceptic.weights.plm_folder import PLMFolder, read_plm_folder
from perceptic.weights.plm_pretrained import PerceptionLM as PretrainedPerceptionLM
from perceptic.weights.plm_pretrained import check_tokenizer
from perceptic.weights.plm_sources import NANO_TOKENIZER, find_plm_folder, is_nano
from perceptic.weights.pretrained import VisionTransformer

_LAYER_SCALES = (".ls_1.gamma", ".ls_2.gamma")


@dataclass(frozen=True)
class PlmOrigin:
    """What a run begins with: an architecture, its preprocessing and tokenizer, and the folder of `init` if any."""

    config: PerceptionLMConfig
    preprocessing: PerceptionLMPreprocessing
    tokenizer: LlamaTokenizer
    folder: PLMFolder | None


def base_config(recipe: PlmRecipe, folder: PLMFolder | None = None) -> PerceptionLMConfig:
    """The architecture before stages change it: that of `init` (`folder`), or the named one, with overrides.

    Raises:
        ConfigError: an unknown name or override.
    """
    config = plm_config(recipe.model) if folder is None else folder.config
    decoder = config.decoder.replace(**recipe.model_overrides.get("decoder", {}))
    if decoder.vocab_size != config.decoder.vocab_size:
        config = config.replace(decoder=decoder, image_token_id=default_image_token_id(decoder.vocab_size))
    return config.replace(
        decoder=decoder,
        vision=config.vision.replace(**recipe.model_overrides.get("vision", {})),
    )


def find_origin(recipe: PlmRecipe) -> PlmOrigin:
    """Find the folder of `init` (downloaded if need be) and the tokenizer.

    Raises:
        WeightsError: no such model. ConfigError: no tokenizer, or that of another model.
    """
    folder = None if recipe.init is None else read_plm_folder(find_plm_folder(recipe.init))
    config = base_config(recipe, folder)
    tokenizer = LlamaTokenizer.from_file(_tokenizer_path(recipe, folder))
    check_tokenizer(tokenizer, config)
    preprocessing = folder.preprocessing if folder else PerceptionLMPreprocessing(tile_size=config.vision.image_size)
    return PlmOrigin(config, preprocessing, tokenizer, folder)


def _tokenizer_path(recipe: PlmRecipe, folder: PLMFolder | None) -> Path:
    if recipe.tokenizer is not None:
        return Path(recipe.tokenizer).expanduser()
    if folder is not None and folder.tokenizer is not None:
        return folder.tokenizer
    if is_nano(recipe.model):
        return NANO_TOKENIZER
    raise ConfigError(f"tokenizer: give the path of a tokenizer.model; none comes with {recipe.init or recipe.model}")


def build_model(
    recipe: PlmRecipe,
    origin: PlmOrigin,
    stage: PlmStage,
    weights: Mapping[str, Tensor] | None,
    device: torch.device,
) -> PerceptionLM:
    """A stage's model on a device, fp32, what the stage does not train frozen and adapters in place.

    Args:
        weights: of the stage before; None: those that the recipe begins with.

    Raises:
        TrainError: weights of another architecture. WeightsError: weights that cannot be read.
    """
    with device:
        model = PerceptionLM(stage.model_config(origin.config))
    if weights is None:
        _begin(model, recipe, origin)
    prepare_training(model, recipe, stage)
    if weights is not None:
        go_on_from(model, weights)
    return model


def prepare_training(model: PerceptionLM, recipe: PlmRecipe, stage: PlmStage) -> None:
    """Freeze what the stage or LoRA leaves as it is, in the recipe's number type, and put the adapters in."""
    stage.freeze(model)
    if recipe.lora is not None:
        add_lora(model.decoder, recipe.lora)
    if recipe.frozen_dtype == "bf16":
        for parameter in model.parameters():
            if not parameter.requires_grad:
                parameter.data = parameter.data.bfloat16()


@torch.no_grad()
def scale_positions(model: PerceptionLM, factor: float) -> None:
    """Multiply the tower's table of positions."""
    model.vision_model.positional_embedding.mul_(factor)


def _begin(model: PerceptionLM, recipe: PlmRecipe, origin: PlmOrigin) -> None:
    if origin.folder is not None:
        start = PretrainedPerceptionLM.from_pretrained(origin.folder.path, dtype=torch.float32)
        go_on_from(model, start.state_dict())
    if recipe.vision_init is not None:
        begin_tower(model, recipe.vision_init)
    if recipe.decoder_init is not None:
        begin_decoder(model.decoder, Path(recipe.decoder_init))
    if recipe.mimetic_attention:
        begin_mimetic(model.decoder)


def begin_tower(model: PerceptionLM, encoder: str) -> None:
    """Give the tower the first layers of an encoder, its table of positions stretched to the tower's grid (bilinear).

    Raises:
        TrainError: the encoder lacks a weight of the tower, or has it in another shape.
    """
    source, tower = VisionTransformer.from_pretrained(encoder, dtype=torch.float32), model.vision_model
    given = source.state_dict()
    if source.config.use_abs_posemb:
        given["positional_embedding"] = source.position_table(tower.config.grid_size, tower.config.grid_size).detach()
    state: dict[str, Tensor] = {}
    for name, value in tower.state_dict().items():
        if name in given and given[name].shape == value.shape:
            state[name] = given[name]
        elif not name.endswith(_LAYER_SCALES):
            there = f"has it as {tuple(given[name].shape)}" if name in given else "lacks it"
            raise TrainError(f"vision_init: the tower needs {name} {tuple(value.shape)}; {encoder} {there}")
    tower.load_state_dict(state, strict=False)
