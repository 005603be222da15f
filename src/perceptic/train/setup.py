"""From a recipe to a trainer: data, tokenizer, model, optimiser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from perceptic.configs import ClipConfig, clip_config
from perceptic.data.batches import BatchMaker
from perceptic.data.pool import Pool, open_pool
from perceptic.data.samples import SampleSource
from perceptic.data.shards import ShardSource
from perceptic.data.world_source import WorldClips, WorldCloseups, WorldImages
from perceptic.models.clip import CLIP
from perceptic.text.bpe_training import train_bpe
from perceptic.text.clip_tokenizer import ClipTokenizer
from perceptic.train.checkpoint import CheckpointFolder
from perceptic.train.loop import Trainer
from perceptic.train.metrics import JsonLines, StepMetrics
from perceptic.train.objectives import Contrastive
from perceptic.train.optimizers import make_optimizer
from perceptic.train.recipe import DataRecipe, PhaseRecipe, Recipe
from perceptic.world import CaptionNoise, flip_caption

DataProgress = Callable[[str, int, int], None]
"""Called with (name of the data, samples ready, samples in all)."""


def model_config(recipe: Recipe) -> ClipConfig:
    """The recipe's architecture. Raises ConfigError on unknown names or overrides."""
    config = clip_config(recipe.model)
    return ClipConfig(
        vision=config.vision.replace(**recipe.model_overrides.get("vision", {})),
        text=config.text.replace(**recipe.model_overrides.get("text", {})),
    )


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


def learn_tokenizer(recipe: Recipe, pools: dict[str, Pool]) -> ClipTokenizer:
    """The vocabulary that the recipe asks for, learned from its captions."""
    config = model_config(recipe).text
    captions = pools[recipe.tokenizer.data].captions[: recipe.tokenizer.num_samples]
    return train_bpe((text for texts in captions for text in texts), config.vocab_size, config.context_length)


def make_trainer(
    recipe: Recipe,
    out: Path,
    pools: dict[str, Pool],
    tokenizer: ClipTokenizer,
    on_step: Callable[[StepMetrics], None] = lambda metrics: None,
) -> Trainer:
    """A trainer with fresh weights, drawn from the recipe's seed; its state lives in `out`."""
    torch.manual_seed(recipe.seed)
    model = CLIP(model_config(recipe))
    if recipe.compile:
        compile_blocks(model)
    options = recipe.optimizer
    return Trainer(
        recipe=recipe,
        model=model,
        objective=Contrastive(recipe.max_logit_scale, recipe.chunk_size),
        optimizer=make_optimizer(options.name, model, options.betas, options.eps, options.weight_decay),
        batches={phase.name: _batch_maker(recipe, phase, pools[phase.data], tokenizer) for phase in recipe.phases},
        checkpoints=CheckpointFolder(out / "checkpoints", recipe.checkpoint.keep),
        sink=JsonLines(out / "metrics.jsonl"),
        on_step=on_step,
    )


def compile_blocks(model: CLIP) -> None:
    """Compile every transformer block in place; parameter names stay. One compilation serves all blocks of a tower."""
    # Each resolution and each text width is one shape; beyond the limit dynamo would fall back to eager in silence.
    torch._dynamo.config.recompile_limit = 64
    for tower in (model.visual, model.text):
        for block in tower.transformer.resblocks:
            block.compile(dynamic=False)


def _batch_maker(recipe: Recipe, phase: PhaseRecipe, pool: Pool, tokenizer: ClipTokenizer) -> BatchMaker:
    shares = phase.captions
    return BatchMaker(
        pool=pool,
        tokenizer=tokenizer,
        batch_size=phase.batch_size,
        seed=recipe.seed,
        caption_shares={"short": shares.short, "medium": shares.medium, "long": shares.long},
        augmentation=phase.augmentation,
        rewrite_flipped=flip_caption,
        is_video=recipe.data[phase.data].num_frames > 1,
    )
