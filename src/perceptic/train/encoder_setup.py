"""From a contrastive recipe to a trainer: data, tokenizer, model, optimiser."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from perceptic.configs import ClipConfig, Preprocessing, clip_config
from perceptic.data.batches import Batch, BatchMaker
from perceptic.data.pool import Pool, open_pool
from perceptic.data.samples import SampleSource
from perceptic.data.shards import ShardSource
from perceptic.data.world_source import WorldClips, WorldCloseups, WorldImages
from perceptic.models.clip import CLIP
from perceptic.text.bpe_training import train_bpe
from perceptic.text.clip_tokenizer import ClipTokenizer
from perceptic.train.loop import Trainer
from perceptic.train.objectives import Contrastive
from perceptic.train.parts import DataProgress, RunContext, optimizer_of
from perceptic.train.plan import PlannedStep, plan_steps
from perceptic.train.recipe import DataRecipe, PhaseRecipe, Recipe
from perceptic.weights.pretrained import CLIP as PretrainedCLIP
from perceptic.world import CaptionNoise, flip_caption


def model_config(recipe: Recipe) -> ClipConfig:
    """The recipe's architecture. Raises ConfigError on unknown names or overrides."""
    config = clip_config(recipe.model)
    return ClipConfig(
        vision=config.vision.replace(**recipe.model_overrides.get("vision", {})),
        text=config.text.replace(**recipe.model_overrides.get("text", {})),
    )


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
            learn_tokenizer(recipe, pools).save(path)
        return cls(recipe, context, pools, ClipTokenizer.from_file(path))

    @property
    def parts(self) -> Sequence[Sequence[PlannedStep]]:
        return [plan_steps(self.recipe)]

    def trainer(self, part: int, weights: Mapping[str, Tensor] | None) -> Trainer[CLIP, Batch]:
        """A trainer with fresh weights, drawn from the recipe's seed."""
        recipe, context = self.recipe, self.context
        torch.manual_seed(recipe.seed)
        model = CLIP(model_config(recipe)).to(context.device)
        if recipe.compile:
            compile_blocks(model)
        return Trainer(
            recipe=recipe,
            model=model,
            objective=Contrastive(recipe.max_logit_scale, recipe.chunk_size),
            optimizer=optimizer_of(recipe, model),
            sources={phase.name: self._source(phase) for phase in recipe.phases},
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
        finished.load_state_dict(model.state_dict())
        preprocessing = Preprocessing(image_size=finished.image_size)
        return finished.to(torch.bfloat16).save_pretrained(
            folder, preprocessing=preprocessing, tokenizer=self.tokenizer
        )

    def _source(self, phase: PhaseRecipe) -> PairSource:
        shares = phase.captions
        maker = BatchMaker(
            pool=self.pools[phase.data],
            tokenizer=self.tokenizer,
            batch_size=phase.batch_size,
            seed=self.recipe.seed,
            caption_shares={"short": shares.short, "medium": shares.medium, "long": shares.long},
            augmentation=phase.augmentation,
            rewrite_flipped=flip_caption,
            is_video=self.recipe.data[phase.data].num_frames > 1,
        )
        return PairSource(maker, self.context.device)


@dataclass(frozen=True)
class PairSource:
    """A phase's image-text or video-text pairs: batches are functions of the step."""

    maker: BatchMaker
    device: torch.device

    def batch(self, planned: PlannedStep) -> Batch:
        batch = self.maker.batch(planned.step_in_phase, planned.image_size)
        return dataclasses.replace(batch, pixels=batch.pixels.to(self.device), ids=batch.ids.to(self.device))

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """There is nothing to restore."""

    def figures(self, planned: PlannedStep) -> dict[str, float]:
        """The resolution."""
        return {"image_size": planned.image_size}

    def close(self) -> None:
        """Nothing runs in the background."""


def make_source(data: DataRecipe) -> SampleSource:
    """The source that a recipe's data entry names. Raises DataError for shards that cannot be found."""
    noise = CaptionNoise(data.noise.missing, data.noise.wrong)
    match data.source:
        case "world-images":
            return WorldImages(data.count, data.seed, data.image_size, noise, data.single_share)
        case "world-closeups":
            return WorldCloseups(data.count, data.seed, data.image_size, data.scene_size, noise)
        case "world-clips":
            return WorldClips(data.count, data.num_frames, data.seed, data.image_size, noise)
        case "shards":
            return ShardSource.find(data.shards, image_size=data.image_size, num_frames=data.num_frames)


def open_pools(recipe: Recipe, cache: Path, workers: int, progress: DataProgress) -> dict[str, Pool]:
    """Every pool of the recipe by name, built where missing."""

    def report(name: str) -> Callable[[int, int], None]:
        return lambda done, total: progress(name, done, total)

    return {name: open_pool(make_source(data), cache, workers, report(name)) for name, data in recipe.data.items()}


def learn_tokenizer(recipe: Recipe, pools: Mapping[str, Pool]) -> ClipTokenizer:
    """The vocabulary that the recipe asks for, learned from its captions."""
    config = model_config(recipe).text
    captions = pools[recipe.tokenizer.data].captions[: recipe.tokenizer.num_samples]
    return train_bpe((text for texts in captions for text in texts), config.vocab_size, config.context_length)


def compile_blocks(model: CLIP) -> None:
    """Compile every transformer block in place; parameter names stay. One compilation serves all blocks of a tower."""
    # Each resolution and each text width is one shape; beyond the limit dynamo would fall back to eager in silence.
    torch._dynamo.config.recompile_limit = 64
    for tower in (model.visual, model.text):
        for block in tower.transformer.resblocks:
            block.compile(dynamic=False)
