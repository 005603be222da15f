"""What a PLM run will take, before anything is allocated: parameters, memory, tokens and steps of each phase."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from perceptic.configs_plm import PerceptionLMConfig
from perceptic.data.registry import open_mix, parse_mix, read_registry
from perceptic.models.perception_lm import PerceptionLM
from perceptic.train.plm_model import base_config, prepare_training
from perceptic.train.plm_recipe import PlmPhaseRecipe, PlmRecipe
from perceptic.weights.plm_folder import read_plm_folder
from perceptic.weights.plm_sources import find_plm_folder

_ACTIVATIONS = 34
"""Numbers kept for backward per token, layer and unit of width: a block's inputs, norms, projections and products."""
_MAX_LOGITS_BYTES = 3 * 4 * (1 << 26)
"""Logits are made a slice at a time (`plm_objective`): the slice, its softmax and its gradient."""


@dataclass(frozen=True)
class PlmPhaseEstimate:
    """One phase on one device.

    Attributes:
        parameters: of the model; trainable: of those, what learns.
        weight_bytes, gradient_bytes, optimizer_bytes: weights, fp32 gradients of what learns, its two moments.
        activation_bytes: rough, of a micro-batch full of picture tokens.
        tokens_per_step: packed, padding included. rows: of the mix, where it is there already.
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
    tokens: int
    rows: int | None

    @property
    def total_bytes(self) -> int:
        return self.weight_bytes + self.gradient_bytes + self.optimizer_bytes + self.activation_bytes


@dataclass(frozen=True)
class PlmEstimate:
    """Of every phase; the largest decides what the device must hold."""

    phases: tuple[PlmPhaseEstimate, ...]


def estimate_plm(recipe: PlmRecipe) -> PlmEstimate:
    """Count without allocating. Raises ConfigError on an unknown model."""
    folder = None if recipe.init is None else read_plm_folder(find_plm_folder(recipe.init))
    config = base_config(recipe, folder)
    return PlmEstimate(tuple(_phase(recipe, phase, config) for phase in recipe.phases))


def _phase(recipe: PlmRecipe, phase: PlmPhaseRecipe, base: PerceptionLMConfig) -> PlmPhaseEstimate:
    stage = phase.settings
    with torch.device("meta"):
        model = PerceptionLM(stage.model_config(base))
    prepare_training(model, recipe, stage)
    weight_bytes = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    parameters = sum(parameter.numel() for parameter in model.parameters())
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    tokens = phase.num_sequences * stage.max_tokens
    return PlmPhaseEstimate(
        name=phase.name,
        steps=phase.steps,
        parameters=parameters,
        trainable=trainable,
        weight_bytes=weight_bytes,
        gradient_bytes=4 * trainable,
        optimizer_bytes=8 * trainable,
        activation_bytes=_activation_bytes(recipe, phase, model.config, tokens),
        tokens_per_step=tokens,
        tokens=tokens * phase.steps,
        rows=_rows(recipe, phase),
    )


def _activation_bytes(recipe: PlmRecipe, phase: PlmPhaseRecipe, config: PerceptionLMConfig, tokens: int) -> int:
    decoder, vision, stage = config.decoder, config.vision, phase.settings
    kept = decoder.n_layers * decoder.dim * tokens
    if not stage.freeze_vision:
        chunks = tokens // config.tokens_per_chunk
        kept += vision.layers * vision.width * chunks * (vision.grid_size**2 + vision.num_prefix_tokens)
    number_bytes = 2 if recipe.precision == "bf16" else 4
    logits = min(_MAX_LOGITS_BYTES, 12 * tokens * decoder.vocab_size)
    return kept * _ACTIVATIONS * number_bytes + logits


def _rows(recipe: PlmRecipe, phase: PlmPhaseRecipe) -> int | None:
    """Rows of the mix; None where the registry is not there yet."""
    path = None if recipe.data.registry is None else Path(recipe.data.registry).expanduser()
    if path is None or not path.exists():
        return None
    return sum(open_mix(parse_mix(phase.mix), read_registry(path)).lengths)
