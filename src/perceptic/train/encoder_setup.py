"""From a contrastive recipe to a trainer: data, tokenizer, model, optimiser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from perceptic.configs import Preprocessing
from perceptic.data.batches import Batch
from perceptic.data.pool import Pool
from perceptic.models.clip import CLIP
from perceptic.text.clip_tokenizer import ClipTokenizer
from perceptic.train.encoder_data import open_pools, phase_source
from perceptic.train.encoder_model import find_tokenizer, first_model, make_objective, saved_weights
from perceptic.train.loop import Trainer
from perceptic.train.parts import RunContext, optimizer_of
from perceptic.train.plan import PlannedStep, plan_steps
from perceptic.train.recipe import Recipe
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
        """Make pools and tokenizer ready where they are missing. Raises DataError for data that cannot be read."""
        pools = open_pools(recipe, context.cache, context.workers, context.on_data)
        path = context.out / "tokenizer.json"
        if context.fresh or not path.exists():
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
        return Trainer(
            recipe=recipe,
            model=model,
            objective=make_objective(recipe, self.tokenizer, context.device),
            optimizer=optimizer_of(recipe, model),
            sources={
                phase.name: phase_source(recipe, phase, self.pools, self.tokenizer, context.device)
                for phase in recipe.phases
            },
            plan=self.parts[part],
            checkpoints=context.checkpoints,
            sink=context.sink,
            count_samples=lambda batch: len(batch.ids),
            device=context.device,
            on_step=context.on_step,
            stop=context.stop,
        )

    def export(self, model: nn.Module, folder: Path) -> Path:
        """bf16 weights, preprocessing and tokenizer."""
        assert isinstance(model, CLIP)
        finished = PretrainedCLIP(model.config)
        finished.load_state_dict(saved_weights(model.state_dict()))
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
