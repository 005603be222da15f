"""What a PLM run will take, before anything is allocated: parameters, memory, tokens and steps of each phase."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from perceptic.configs_plm import PerceptionLMConfig
from perceptic.data.registry import open_mix, parse_mix, read_registry
from perceptic.models.perception_lm import PerceptionLM
from perceptic.train.estimate import kept_activations, state_share
from perceptic.train.plm_model import base_config, prepare_training
from perceptic.train.plm_recipe import PlmPhaseRecipe, PlmRecipe
from perceptic.weights.plm_folder import read_plm_folder
from perceptic.weights.plm_sources import find_plm_folder

_MAX_LOGITS_BYTES = 3 * 4 * (1 << 26)
"""Logits are made a slice at a time (`plm_objective`): the slice, its softmax and its gradient."""


@dataclass(frozen=True)
class PlmPhaseEstimate:
    """One phase on one device.

    Attributes:
        parameters: of the model; trainable: of those, what learns.
        weight_bytes, gradient_bytes, optimizer_bytes: weights, fp32 gradients of what learns, its two moments.
        activation_bytes: rough, of a micro-batch full of picture tokens; of patches that are learned beside it as if
            all were clips of as many frames as may be.
        tokens_per_step: of all processes, packed, padding included, without patches beside.
        rows: of the mix, where it is there already; steps_per_epoch: at most, with one row to a sequence.
    """

    name: str
    steps: int
    parameters: int
    trainable: int
    weight_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    activation_bytes: int
    tokens_per_step: int
    rows: int | None
    steps_per_epoch: int | None

    @property
    def device_bytes(self) -> int:
        return self.weight_bytes + self.gradient_bytes + self.optimizer_bytes + self.activation_bytes


@dataclass(frozen=True)
class PlmEstimate:
    """Of every phase; the largest decides what a device must hold."""

    processes: int
    phases: tuple[PlmPhaseEstimate, ...]


def estimate_plm(recipe: PlmRecipe, processes: int = 1) -> PlmEstimate:
    """Count without allocating or fetching, for so many processes of one device each.

    Raises:
        ConfigError: an unknown model.
    """
    # A model that would have to be fetched is taken to be of the architecture that the recipe names.
    is_here = recipe.init is not None and Path(recipe.init).expanduser().is_dir()
    folder = read_plm_folder(find_plm_folder(recipe.init)) if recipe.init is not None and is_here else None
    config = base_config(recipe, folder)
    return PlmEstimate(processes, tuple(_phase(recipe, phase, config, processes) for phase in recipe.phases))


def _phase(recipe: PlmRecipe, phase: PlmPhaseRecipe, base: PerceptionLMConfig, processes: int) -> PlmPhaseEstimate:
    stage = phase.settings
    with torch.device("meta"):
        model = PerceptionLM(stage.model_config(base))
    prepare_training(model, recipe, stage)
    weight_bytes = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    parameters = sum(parameter.numel() for parameter in model.parameters())
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    own_tokens = -(-phase.num_sequences // processes) * stage.max_tokens
    rows = _rows(recipe, phase)
    tokens = phase.num_sequences * stage.max_tokens * recipe.accumulate
    return PlmPhaseEstimate(
        name=phase.name,
        steps=phase.steps,
        parameters=parameters,
        trainable=trainable,
        weight_bytes=weight_bytes // state_share(recipe, processes),
        gradient_bytes=4 * trainable // state_share(recipe, processes),
        optimizer_bytes=8 * trainable // state_share(recipe, processes),
        activation_bytes=_activation_bytes(recipe, phase, model.config, own_tokens, processes),
        tokens_per_step=tokens,
        rows=rows,
        steps_per_epoch=None if rows is None else -(-rows * stage.max_tokens // tokens),
    )


def _activation_bytes(
    recipe: PlmRecipe, phase: PlmPhaseRecipe, config: PerceptionLMConfig, tokens: int, processes: int
) -> int:
    decoder, frames = config.decoder, phase.settings.max_video_frames
    chunks = tokens // config.tokens_per_chunk
    kept = kept_activations(recipe, decoder.n_layers, decoder.dim * tokens)
    for words in phase.beside:
        chunks_beside = -(-words.num_sequences // processes) * frames
        chunks += chunks_beside
        kept += kept_activations(recipe, words.depth, decoder.dim * chunks_beside * config.tokens_per_chunk)
    kept += _tower_bytes(recipe, phase, config, chunks)
    return kept + min(_MAX_LOGITS_BYTES, 12 * tokens * decoder.vocab_size)


def _tower_bytes(recipe: PlmRecipe, phase: PlmPhaseRecipe, config: PerceptionLMConfig, chunks: int) -> int:
    vision = config.vision
    if phase.settings.freeze_vision:
        return 0
    tokens = chunks * (vision.grid_size**2 + vision.num_prefix_tokens)
    return kept_activations(recipe, vision.layers, vision.width * tokens)


def _rows(recipe: PlmRecipe, phase: PlmPhaseRecipe) -> int | None:
    """Rows of the mix; None where the registry is not there yet."""
    path = None if recipe.data.registry is None else Path(recipe.data.registry).expanduser()
    if path is None or not path.exists():
        return None
    return sum(open_mix(parse_mix(phase.mix), read_registry(path)).lengths)
