"""What an encoder's recipe starts from: the model, its vocabulary and the objective; and what is saved in the end."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from perceptic.configs import ClipConfig, clip_config
from perceptic.data.batches import Batch
from perceptic.data.pool import Pool
from perceptic.errors import ConfigError
from perceptic.models.clip import CLIP
from perceptic.text.bpe_training import train_bpe
from perceptic.text.clip_tokenizer import ClipTokenizer
from perceptic.train.distillation import Distillation, load_teacher
from perceptic.train.objectives import LOGIT_BIAS, Contrastive, Objective, add_logit_bias
from perceptic.train.recipe import Recipe
from perceptic.weights.pretrained import load_bundle


def model_config(recipe: Recipe) -> ClipConfig:
    """The recipe's architecture. Raises ConfigError on unknown names or overrides."""
    config = clip_config(recipe.model)
    return ClipConfig(
        vision=config.vision.replace(**recipe.model_overrides.get("vision", {})),
        text=config.text.replace(**recipe.model_overrides.get("text", {})),
    )


def first_model(recipe: Recipe, device: torch.device) -> CLIP:
    """The model before step 0: weights drawn from the recipe's seed, or those of `init`.

    Raises:
        ConfigError: `init` is of another architecture than `model`. WeightsError: it cannot be found or read.
    """
    torch.manual_seed(recipe.seed)
    model = CLIP(model_config(recipe))
    given = initial_model(recipe)
    if given is not None:
        model.load_state_dict(given.state_dict())
    if recipe.loss == "siglip":
        add_logit_bias(model)
    return model.to(device)


def initial_model(recipe: Recipe) -> CLIP | None:
    """The model of `init` as stored (mapped, not read), if there is one; raises as `first_model`."""
    if recipe.init is None:
        return None
    model = load_bundle(recipe.init, kind="clip").model
    assert isinstance(model, CLIP)
    if model.config != model_config(recipe):
        raise ConfigError(f"init: {recipe.init} is not of the architecture {recipe.model} (with model_overrides)")
    return model


def learns_tokenizer(recipe: Recipe) -> bool:
    """Whether the vocabulary is learned from a pool."""
    return recipe.tokenizer is not None and recipe.tokenizer.data is not None


def find_tokenizer(recipe: Recipe, pools: Mapping[str, Pool]) -> ClipTokenizer:
    """The vocabulary of a run, with the context length of its model.

    Without a `tokenizer` in the recipe it is that of `init` or of the teacher, else CLIP's own.

    Raises:
        ConfigError: a vocabulary larger than the model's table. TextError, WeightsError: it cannot be found.
    """
    config, options = model_config(recipe).text, recipe.tokenizer
    if options is not None and options.data is not None:
        captions = pools[options.data].captions[: options.num_samples]
        return train_bpe((text for texts in captions for text in texts), config.vocab_size, config.context_length)
    source = _tokenizer_source(recipe)
    if source is None:
        found = ClipTokenizer.find(context_length=config.context_length)
    else:
        bundled = load_bundle(source, kind="clip").tokenizer
        assert bundled is not None
        found = bundled.with_context_length(config.context_length)
    if found.vocab_size > config.vocab_size:
        raise ConfigError(
            f"tokenizer: {source or 'CLIP'} has {found.vocab_size} ids, the model's table {config.vocab_size}; "
            f"--set model_overrides.text.vocab_size={found.vocab_size}"
        )
    return found


def make_objective(recipe: Recipe, tokenizer: ClipTokenizer, device: torch.device) -> Objective[CLIP, Batch]:
    """What the recipe minimises. Raises WeightsError for a teacher that cannot be used."""
    if recipe.distill is None:
        return Contrastive(recipe.max_logit_scale, recipe.chunk_size, recipe.loss, recipe.mask)
    return Distillation(
        teacher=load_teacher(recipe.distill.teacher, tokenizer, device),
        teacher_logit_scale=recipe.distill.teacher_logit_scale,
        student_image_size=recipe.distill.student_image_size,
        max_logit_scale=recipe.max_logit_scale,
        chunk_size=recipe.chunk_size,
    )


def saved_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A trained model's weights as the architecture has them: without what only training needs."""
    return {name: value for name, value in weights.items() if name != LOGIT_BIAS}


def _tokenizer_source(recipe: Recipe) -> str | None:
    """Whose vocabulary it is, by name or folder; None is CLIP's."""
    if recipe.tokenizer is not None:
        return recipe.tokenizer.model
    return recipe.init or (recipe.distill.teacher if recipe.distill is not None else None)
