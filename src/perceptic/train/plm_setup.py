"""From a PLM recipe to trainers, one for each of its phases."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from perceptic.configs_plm import PerceptionLMPreprocessing
from perceptic.data.packing import PackedBatch
from perceptic.data.registry import open_mix, parse_mix, read_registry
from perceptic.errors import ConfigError
from perceptic.media.chunks import ChunkTransform
from perceptic.models.perception_lm import PerceptionLM
from perceptic.train.loop import Trainer
from perceptic.train.lora import merged_state
from perceptic.train.parallel_model import share_model
from perceptic.train.parts import RunContext, optimizer_of
from perceptic.train.plan import PlannedStep, plan_steps
from perceptic.train.plm_data import find_registry
from perceptic.train.plm_model import PlmOrigin, build_model, find_origin, scale_positions
from perceptic.train.plm_objective import AccompaniedLoss, PatchLoss, ResponseLoss
from perceptic.train.plm_recipe import PlmPhaseRecipe, PlmRecipe
from perceptic.train.plm_source import PackedSource, PhaseReader
from perceptic.train.validation import Validation
from perceptic.weights.dtypes import parse_dtype
from perceptic.weights.loading import build_empty
from perceptic.weights.plm_pretrained import PerceptionLM as PretrainedPerceptionLM

_SEEDS_PER_RUN = 1000
"""Phases of one run, and so seeds that runs with neighbouring seeds must not share."""


_VALIDATION_SEED = 0


def count_labels(batch: PackedBatch) -> int:
    """Learned tokens: micro-batches that are weighted by them have the loss of one large batch."""
    return len(batch.targets)


@dataclass(frozen=True)
class PlmSetup:
    """A PLM recipe with its registry and tokenizer; every phase is a part."""

    recipe: PlmRecipe
    context: RunContext
    registry: Path
    origin: PlmOrigin

    @classmethod
    def prepare(cls, recipe: PlmRecipe, context: RunContext) -> PlmSetup:
        """Find what the run begins with and make the data ready.

        Raises:
            ConfigError: names that do not exist, or a tokenizer of another model. DataError: data that cannot be read.
        """
        # A world takes minutes to draw, a model to fetch; what is merely missing should be told before either.
        registry = None if recipe.data.world is not None else _checked_registry(recipe, context)
        origin = find_origin(recipe)
        if not origin.config.vision.use_abs_posemb and any(phase.position_scale != 1.0 for phase in recipe.phases):
            raise ConfigError("position_scale: the tower has no table of positions to multiply")
        _check_depths(recipe, origin.config.decoder.n_layers)
        return cls(recipe, context, registry or _checked_registry(recipe, context), origin)

    @property
    def parts(self) -> Sequence[Sequence[PlannedStep]]:
        plan = plan_steps(self.recipe)
        return [[step for step in plan if step.phase.name == phase.name] for phase in self.recipe.phases]

    def trainer(self, part: int, weights: Mapping[str, Tensor] | None) -> Trainer[PerceptionLM, PackedBatch]:
        """The model as the phase's stage trains it, going on from `weights` or else from the run's beginning."""
        recipe, context, phase = self.recipe, self.context, self.recipe.phases[part]
        # What is random in a phase is a function of the seed and the phase, whatever came before.
        seed = recipe.seed * _SEEDS_PER_RUN + part
        torch.manual_seed(seed)
        stage = phase.settings
        model = build_model(recipe, self.origin, stage, weights, context.device)
        if phase.position_scale != 1.0:
            scale_positions(model, phase.position_scale)
        if recipe.compile:
            compile_layers(model)
        share_model(model, recipe.parallel, context.processes)
        rates = {"vision_model.": phase.vision_rate, "decoder.": phase.decoder_rate}
        preprocessing = stage.preprocessing(self.origin.preprocessing)
        return Trainer(
            recipe=recipe,
            model=model,
            objective=_objective(phase, preprocessing),
            optimizer=optimizer_of(recipe, model, rates),
            sources={phase.name: self._source(phase, seed, preprocessing, model.tokens_per_chunk)},
            plan=self.parts[part],
            checkpoints=context.checkpoints,
            sink=context.sink,
            count_samples=lambda batch: batch.num_samples,
            processes=context.processes,
            on_step=context.on_step,
            stop=context.stop,
            weigh=count_labels,
            validation=self._validation(phase, preprocessing, model.tokens_per_chunk),
            profiler=context.profiler,
        )

    def export(self, model: nn.Module, weights: Mapping[str, Tensor], folder: Path) -> Path:
        """Weights (adapters merged into the model's), preprocessing of the last stage and tokenizer, as
        `perceptic ask --model` takes them."""
        assert isinstance(model, PerceptionLM)
        dtype = parse_dtype(self.recipe.export_dtype)
        if self.recipe.lora is not None:
            weights = merged_state(weights, self.recipe.lora)
        finished = build_empty(PretrainedPerceptionLM, model.config)
        state = {name: value.detach().to("cpu", dtype) for name, value in weights.items()}
        finished.load_state_dict(state, assign=True)
        finished.preprocessing = self.recipe.phases[-1].settings.preprocessing(self.origin.preprocessing)
        return finished.save_pretrained(folder, tokenizer=self.origin.tokenizer)

    def _validation(
        self, phase: PlmPhaseRecipe, preprocessing: PerceptionLMPreprocessing, tokens_per_chunk: int
    ) -> Validation[PerceptionLM, PackedBatch] | None:
        recipe = self.recipe.validation
        if recipe is None:
            return None
        judged = dataclasses.replace(phase, mix=recipe.data, beside=())
        return Validation(
            objective=_objective(judged, preprocessing),
            open_source=lambda: self._source(judged, _VALIDATION_SEED, preprocessing, tokens_per_chunk),
            num_batches=recipe.batches,
            weigh=count_labels,
        )

    def _source(
        self, phase: PlmPhaseRecipe, seed: int, preprocessing: PerceptionLMPreprocessing, tokens_per_chunk: int
    ) -> PackedSource:
        tokenizer, reader = self.origin.tokenizer, self.context.processes.reader
        rows = PhaseReader(
            self.registry, tokenizer, reader, phase, seed, ChunkTransform(preprocessing), tokens_per_chunk
        )
        return rows.open(self.recipe.accumulate, self.context.device)


def _objective(phase: PlmPhaseRecipe, preprocessing: PerceptionLMPreprocessing) -> ResponseLoss | AccompaniedLoss:
    main = ResponseLoss(preprocessing, weighting="token")
    if phase.learn == "patches":
        main = PatchLoss(preprocessing, weighting="token", balance=phase.balance)
    if not phase.beside:
        return main
    return AccompaniedLoss(
        main,
        tuple(
            (PatchLoss(preprocessing, weighting="token", depth=words.depth, balance=words.balance), words.weight)
            for words in phase.beside
        ),
    )


def _check_depths(recipe: PlmRecipe, num_layers: int) -> None:
    for phase in recipe.phases:
        for index, words in enumerate(phase.beside):
            if not 0 <= words.depth <= num_layers:
                where = f"phase {phase.name}: beside.{index}.depth {words.depth}"
                raise ConfigError(f"{where}: the decoder has {num_layers} layers")


def _checked_registry(recipe: PlmRecipe, context: RunContext) -> Path:
    """The registry, which has every mix of the recipe: a later phase's should be missed now, not in the night."""
    registry = find_registry(recipe, context)
    mixes = [mix for phase in recipe.phases for mix in phase.mixes]
    for mix in mixes if recipe.validation is None else [*mixes, recipe.validation.data]:
        open_mix(parse_mix(mix), read_registry(registry))
    return registry


def compile_layers(model: PerceptionLM) -> None:
    """Compile every block of tower and decoder in place; parameter names stay. Numbers of chunks and tokens vary."""
    # Beyond the limit dynamo would fall back to eager in silence.
    torch._dynamo.config.recompile_limit = 64
    for block in (*model.vision_model.transformer.resblocks, *model.decoder.layers):
        block.compile(dynamic=True)
