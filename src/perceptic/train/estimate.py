"""What a run will take, before anything is allocated: parameters, memory, samples, tokens, steps."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from perceptic.configs import TEXT_CONFIGS, ClipConfig, clip_config
from perceptic.models.clip import CLIP
from perceptic.train.encoder_model import model_config
from perceptic.train.recipe import PhaseRecipe, Recipe
from perceptic.train.run_recipe import RunRecipe

_BYTES_PER_PARAMETER = 16  # fp32 weight, gradient and two moments
_ACTIVATIONS = 28
"""Numbers kept for backward per token, layer and unit of width: about 14 in attention and 14 in the MLP."""


@dataclass(frozen=True)
class PhaseEstimate:
    """One phase.

    Attributes:
        samples: of the whole phase. tokens_per_step: pictures' and texts' of all processes, at the largest resolution.
        epochs, steps_per_epoch: 0 where the recipe does not say how many samples there are.
        activation_bytes: rough, on each device, at the largest resolution.
    """

    name: str
    steps: int
    samples: int
    epochs: float
    steps_per_epoch: int
    tokens_per_step: int
    activation_bytes: int


@dataclass(frozen=True)
class Estimate:
    """A run on so many processes of one device each.

    Attributes:
        state_bytes: weights, gradients and optimiser moments on each device.
        teacher_bytes: weights of what is distilled, on each device.
        data_bytes: decoded pools on disk, mapped; streams have none.
    """

    processes: int
    parameters: int
    state_bytes: int
    teacher_bytes: int
    data_bytes: int
    phases: tuple[PhaseEstimate, ...]

    @property
    def device_bytes(self) -> int:
        """What a device must hold."""
        return self.state_bytes + self.teacher_bytes + max(phase.activation_bytes for phase in self.phases)


def estimate(recipe: Recipe, processes: int = 1) -> Estimate:
    """Count without allocating or fetching. Raises ConfigError on an unknown model."""
    config = model_config(recipe)
    parameters = _parameters(config)
    pools = [data for data in recipe.data.values() if not data.is_stream]
    return Estimate(
        processes=processes,
        parameters=parameters,
        state_bytes=parameters * _BYTES_PER_PARAMETER // state_share(recipe, processes),
        teacher_bytes=_teacher_bytes(recipe),
        data_bytes=sum(pool.count * pool.num_frames * 3 * pool.image_size**2 for pool in pools),
        phases=tuple(_phase(recipe, phase, config, processes) for phase in recipe.phases),
    )


def state_share(recipe: RunRecipe, processes: int) -> int:
    """Processes among which weights, gradients and optimiser state are split; `hybrid` counts its groups, where they
    are given, and `auto` is taken to be on one machine."""
    parallel = recipe.parallel
    if parallel.shard == "none":
        return 1
    return max(1, processes // parallel.replicate) if parallel.replicate else processes


def kept_activations(recipe: RunRecipe, layers: int, numbers: int) -> int:
    """Bytes kept for backward by so many layers whose input is so many numbers; with activation checkpointing that is
    each layer's input and all of one layer."""
    factor = layers + _ACTIVATIONS if recipe.parallel.activation_checkpointing else layers * _ACTIVATIONS
    return numbers * factor * (2 if recipe.precision == "bf16" else 4)


def _parameters(config: ClipConfig) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in CLIP(config).parameters())


def _teacher_bytes(recipe: Recipe) -> int:
    """Of a teacher known by name; one in a folder is not looked at."""
    if recipe.distill is None or recipe.distill.teacher not in TEXT_CONFIGS:
        return 0
    return 4 * _parameters(clip_config(recipe.distill.teacher))


def _phase(recipe: Recipe, phase: PhaseRecipe, config: ClipConfig, processes: int) -> PhaseEstimate:
    data = recipe.data[phase.data]
    size = max(stage.image_size for stage in phase.stages)
    tokens = data.num_frames * ((size // config.vision.patch_size) ** 2 + config.vision.num_prefix_tokens)
    own = -(-phase.batch_size // processes)
    kept = kept_activations(recipe, config.vision.layers, own * config.vision.width * tokens)
    kept += kept_activations(recipe, config.text.layers, own * config.text.width * config.text.context_length)
    samples = phase.num_steps * phase.batch_size
    return PhaseEstimate(
        name=phase.name,
        steps=phase.num_steps,
        samples=samples,
        epochs=samples / data.count if data.count else 0.0,
        steps_per_epoch=-(-data.count // phase.batch_size),
        tokens_per_step=phase.batch_size * (tokens + config.text.context_length),
        activation_bytes=kept,
    )
