"""Recipes of `objective: plm`: the stages of a PerceptionLM on mixes of conversation rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from perceptic.data.mixing import OrderName
from perceptic.errors import ConfigError
from perceptic.train.lora import LoraSettings
from perceptic.train.plm_stages import PAPER_STAGES, PlmStage
from perceptic.train.run_recipe import Phase, RunRecipe
from perceptic.train.strict import build

_FINAL_SHARE = 0.01
"""Of the peak learning rate, where the original's cosine ends (training-recipes 6.2)."""


@dataclass(frozen=True)
class WorldRows:
    """Rows of the synthetic world, exported once into the cache: so many scenes, a share of them of one object, and
    clips."""

    images: int
    videos: int
    seed: int = 0
    single_share: float = 0.0


@dataclass(frozen=True)
class PlmDataRecipe:
    """Where the data sets that mixes name are: one of three.

    Attributes:
        registry: a `datasets.yaml`.
        rows: a JSONL file, or a folder of `*chunk.N*.jsonl`; mixes call it `rows`. media: the folder where its media
            paths start (None: that of the rows).
        world: the synthetic world.
    """

    registry: str | None = None
    rows: str | None = None
    media: str | None = None
    world: WorldRows | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("registry", "rows", "world") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ConfigError(
                f"data: give one of 'registry' (a datasets.yaml), 'rows' (a JSONL file) and 'world', not "
                f"{' and '.join(given) or 'nothing'}"
            )
        if self.media is not None and self.rows is None:
            raise ConfigError("data.media: goes with 'rows'; a registry has root_dir")


@dataclass(frozen=True)
class PatchWords:
    """Words of patches that a phase learns along with everything else (`train.plm_objective.PatchLoss`).

    Attributes:
        mix: of rows about patches (`data.patch_words`), all with the same questions.
        num_sequences: pictures or clips of a micro-batch, all processes together.
        depth: blocks of the decoder that a patch has gone through when its words are read off it. 0: the projector's
            tokens.
        weight: of its loss.
        balance: how much more a patch counts whose word is rare, from 0 to 1 (`train.plm_objective.PatchLoss`). Most
            patches show background, and most objects do nothing.
    """

    mix: str
    num_sequences: int
    depth: int = 0
    weight: float = 1.0
    balance: float = 0.0


@dataclass(frozen=True)
class PlmPhaseRecipe:
    """One stage on one mix.

    Attributes:
        stage: whose settings (`PAPER_STAGES`) hold unless `stage_overrides` has a field of `PlmStage`.
        mix: `name:weight,name:weight`.
        num_sequences: packed sequences of a micro-batch; max_tokens: of a sample and of a sequence (None: the
            stage's); window: samples considered when packing.
        skip_limit: rows that may be unusable, all processes together, before the run ends; None: any number.
        workers: threads that decode ahead. order: see `data.mixing`.
        final_learning_rate: None: 1 % of the peak.
        vision_rate, decoder_rate: factors on the learning rate of the tower and of the decoder.
        learn: `patches`: nothing but words of patches, at depth 0; `num_sequences` are pictures or clips then.
        balance: of these words, as in `PatchWords`.
        beside: words of patches that are learned along.
        position_scale: factor on the tower's table of positions as the phase begins. A tower that was trained to tell
            pictures apart may have let go of where things are by its last layer.
    """

    name: str
    stage: Literal[1, 2, 3]
    mix: str
    steps: int
    learning_rate: float
    warmup_steps: int = 0
    final_learning_rate: float | None = None
    num_sequences: int = 1
    max_tokens: int | None = None
    window: int = 64
    skip_limit: int | None = 100
    workers: int = 2
    order: OrderName = "shuffled"
    vision_rate: float = 1.0
    decoder_rate: float = 1.0
    position_scale: float = 1.0
    learn: Literal["responses", "patches"] = "responses"
    balance: float = 0.0
    beside: tuple[PatchWords, ...] = ()
    stage_overrides: dict[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> PlmStage:
        """The stage as this phase trains it. Raises ConfigError on an override that `PlmStage` does not have."""
        values = {**dataclasses.asdict(PAPER_STAGES[self.stage]), **self.stage_overrides}
        if self.max_tokens is not None:
            values["max_tokens"] = self.max_tokens
        return build(PlmStage, values, "stage_overrides")

    @property
    def mixes(self) -> tuple[str, ...]:
        """All that the phase reads."""
        return (self.mix, *(words.mix for words in self.beside))

    def scheduled(self) -> Phase:
        """The phase as the loop sees it."""
        final = self.final_learning_rate
        return _ScheduledPhase(
            name=self.name,
            num_steps=self.steps,
            learning_rate=self.learning_rate,
            final_learning_rate=self.learning_rate * _FINAL_SHARE if final is None else final,
            warmup_steps=self.warmup_steps,
        )


@dataclass(frozen=True)
class _ScheduledPhase:
    name: str
    num_steps: int
    learning_rate: float
    final_learning_rate: float
    warmup_steps: int

    def image_size(self, step: int) -> int:
        return 0


@dataclass(frozen=True, kw_only=True)
class PlmRecipe(RunRecipe):
    """A whole run.

    Attributes:
        init: folder or name of a PerceptionLM to go on from; None: fresh weights.
        vision_init: folder or name of an encoder whose first layers become the tower.
        decoder_init: folder of a Llama language model whose weights the decoder begins with.
        mimetic_attention: a fresh decoder's attention begins as `begin_mimetic` has it.
        tokenizer: its file; None: that of `init`, or of PLM-Nano.
        model_overrides: fields of the architecture, under `decoder` and `vision`.
        lora: train low-rank changes of the decoder's matrices instead of the matrices; the finished model has them
            merged. None: without.
        frozen_dtype: of weights that do not train; bf16 halves their memory and goes with `precision: bf16`.
            `auto`: as `precision`.
        export_dtype: of the finished model's weights.
    """

    objective: Literal["plm"]
    data: PlmDataRecipe
    phases: tuple[PlmPhaseRecipe, ...]
    init: str | None = None
    vision_init: str | None = None
    decoder_init: str | None = None
    tokenizer: str | None = None
    mimetic_attention: bool = False
    model_overrides: dict[str, dict[str, Any]] = field(default_factory=dict)
    lora: LoraSettings | None = None
    frozen_dtype: Literal["auto", "fp32", "bf16"] = "fp32"
    export_dtype: Literal["bf16", "fp32"] = "bf16"

    def __post_init__(self) -> None:
        self.check_run()
        for key in ("vision_init", "decoder_init"):
            if self.init is not None and getattr(self, key) is not None:
                raise ConfigError(f"{key}: 'init' brings the whole model already; give one of them")
        if self.mimetic_attention and (self.init is not None or self.decoder_init is not None):
            raise ConfigError("mimetic_attention: is for a fresh decoder, and this one comes trained")
        if self.frozen_dtype == "bf16" and self.precision != "bf16":
            raise ConfigError("frozen_dtype: bf16 weights are computed with in bf16; set 'precision: bf16' too")
        unknown = set(self.model_overrides) - {"decoder", "vision"}
        if unknown:
            raise ConfigError(f"model_overrides.{min(unknown)}: no such part; known: decoder, vision")
        for index, phase in enumerate(self.phases):
            if phase.balance and phase.learn != "patches":
                raise ConfigError(f"phases.{index}.balance: is for words of patches; set 'learn: patches' too")
            try:
                phase.settings  # noqa: B018  raises on a bad override
            except ConfigError as error:
                raise ConfigError(f"phases.{index}.{error}") from error

    @property
    def schedule(self) -> Sequence[Phase]:
        return [phase.scheduled() for phase in self.phases]
