"""From a contrastive recipe to a trainer: data, tokenizer, model, optimiser."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from perceptic.configs import Preprocessing
from perceptic.data.augmentation import NO_AUGMENTATION
from perceptic.data.batches import Batch
from perceptic.data.pool import Pool
from perceptic.models.clip import CLIP
from perceptic.text.clip_tokenizer import ClipTokenizer
from perceptic.train.encoder_data import check_streams, open_pools, phase_source
from perceptic.train.encoder_model import (
    find_tokenizer,
    first_model,
    initial_model,
    learns_tokenizer,
    make_objective,
    saved_weights,
)
from perceptic.train.loop import Trainer
from perceptic.train.objectives import Objective
from perceptic.train.parallel_model import share_model
from perceptic.train.parts import RunContext, optimizer_of
from perceptic.train.plan import PlannedStep, plan_steps
from perceptic.train.recipe import PhaseRecipe, Recipe
from perceptic.train.sources import BatchSource
from perceptic.train.validation import Validation
from perceptic.weights.pretrained import CLIP as PretrainedCLIP


@dataclass(frozen=True)
class EncoderSetup:
    """A contrastive recipe with its pools and tokenizer; one part."""

    recipe: Recipe
    context: RunContext
    pools: Mapping[str, Pool]
    tokenizer: ClipTokenizer

    @classmethod
    def prepare(cls, recipe: Recipe, context: RunContext) -> EncoderSetup:
        """Make pools and tokenizer ready where they are missing.

        Raises:
            DataError: data that cannot be read. ConfigError, WeightsError: as `first_model` and `find_tokenizer`; they
                come before any data is made ready, which may take minutes.
        """
        initial_model(recipe)
        check_streams(recipe)
        path = context.out / "tokenizer.json"
        is_missing = context.fresh or not path.exists()
        if is_missing and not learns_tokenizer(recipe):
            find_tokenizer(recipe, {}).save(path)
            is_missing = False
        pools = open_pools(recipe, context.cache, context.workers, context.on_data)
        if is_missing:
            find_tokenizer(recipe, pools).save(path)
        return cls(recipe, context, pools, ClipTokenizer.from_file(path))

    @property
    def parts(self) -> Sequence[Sequence[PlannedStep]]:
        return [plan_steps(self.recipe)]

    def trainer(self, part: int, weights: Mapping[str, Tensor] | None) -> Trainer[CLIP, Batch]:
        """A trainer with the weights that the recipe starts from."""
        recipe, context = self.recipe, self.context
        model = first_model(recipe, context.device)
        if recipe.compile:
            compile_blocks(model)
        share_model(model, recipe.parallel, context.processes)
        objective = make_objective(recipe, self.tokenizer, context.device)
        return Trainer(
            recipe=recipe,
            model=model,
            objective=objective,
            optimizer=optimizer_of(recipe, model),
            sources={phase.name: self._source(phase) for phase in recipe.phases},
            plan=self.parts[part],
            checkpoints=context.checkpoints,
            sink=context.sink,
            count_samples=lambda batch: len(batch.ids),
            processes=context.processes,
            on_step=context.on_step,
            stop=context.stop,
            validation=self._validation(objective),
            profiler=context.profiler,
        )

    def _validation(self, objective: Objective[CLIP, Batch]) -> Validation[CLIP, Batch] | None:
        """Batches of the validation data as the first phase makes them, but never augmented."""
        recipe = self.recipe.validation
        if recipe is None:
            return None
        phase = dataclasses.replace(self.recipe.phases[0], data=recipe.data, augmentation=NO_AUGMENTATION)
        return Validation(
            objective=objective,
            open_source=lambda: self._source(phase),
            num_batches=recipe.batches,
            weigh=lambda batch: len(batch.ids),
        )

    def _source(self, phase: PhaseRecipe) -> BatchSource[Batch]:
        processes = self.context.processes
        return phase_source(self.recipe, phase, self.pools, self.tokenizer, processes.device, processes.reader)

    def export(self, model: nn.Module, weights: Mapping[str, Tensor], folder: Path) -> Path:
        """bf16 weights, preprocessing and tokenizer."""
        assert isinstance(model, CLIP)
        finished = PretrainedCLIP(model.config)
        finished.load_state_dict(saved_weights(weights))
        preprocessing = Preprocessing(image_size=finished.image_size)
        return finished.to(torch.bfloat16).save_pretrained(
            folder, preprocessing=preprocessing, tokenizer=self.tokenizer
        )


def compile_blocks(model: CLIP) -> None:
    """Compile every transformer block in place; parameter names stay. One compilation serves all blocks of a tower."""
    # Each resolution and each text width is one shape; beyond the limit dynamo would fall back to eager in silence.
    torch._dynamo.config.recompile_limit = 64
    for tower in (model.visual, model.text):
        for block in tower.transformer.resblocks:
            block.compile(dynamic=False)
