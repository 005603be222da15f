"""What a run will take, before anything is allocated: parameters, memory, samples, steps."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from perceptic.models.clip import CLIP
from perceptic.train.encoder_model import model_config
from perceptic.train.recipe import PhaseRecipe, Recipe

_BYTES_PER_PARAMETER = 16  # fp32 weight, gradient and two moments
_ACTIVATIONS_PER_TOKEN_AND_WIDTH = 28
"""Numbers kept for backward per token, layer and unit of width: about 14 in attention and 14 in the MLP."""


@dataclass(frozen=True)
class PhaseEstimate:
    """`activation_bytes` is a rough figure at the phase's largest resolution."""

    name: str
    steps: int
    samples: int
    epochs: float
    activation_bytes: int


@dataclass(frozen=True)
class Estimate:
    """`state_bytes`: weights, gradients and optimiser moments. `data_bytes`: decoded pools on disk, mapped."""

    parameters: int
    state_bytes: int
    data_bytes: int
    phases: tuple[PhaseEstimate, ...]


def estimate(recipe: Recipe) -> Estimate:
    """Count without allocating. Raises ConfigError on an unknown model."""
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in CLIP(model_config(recipe)).parameters())
    data = recipe.data.values()
    return Estimate(
        parameters=parameters,
        state_bytes=parameters * _BYTES_PER_PARAMETER,
        data_bytes=sum(pool.count * pool.num_frames * 3 * pool.image_size**2 for pool in data),
        phases=tuple(_phase(recipe, phase) for phase in recipe.phases),
    )


def _phase(recipe: Recipe, phase: PhaseRecipe) -> PhaseEstimate:
    config, data = model_config(recipe), recipe.data[phase.data]
    size = max(stage.image_size for stage in phase.stages)
    tokens = data.num_frames * ((size // config.vision.patch_size) ** 2 + config.vision.num_prefix_tokens)
    per_token = config.vision.layers * config.vision.width * tokens
    per_text = config.text.layers * config.text.width * config.text.context_length
    number_bytes = 2 if recipe.precision == "bf16" else 4
    kept = phase.batch_size * (per_token + per_text) * _ACTIVATIONS_PER_TOKEN_AND_WIDTH
    samples = phase.num_steps * phase.batch_size
    return PhaseEstimate(
        phase.name, phase.num_steps, samples, samples / data.count if data.count else 0.0, kept * number_bytes
    )
