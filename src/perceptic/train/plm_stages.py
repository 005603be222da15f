"""What changes from one of PerceptionLM's training stages to the next (spec 2.7 and 8.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from torch import Tensor

from perceptic.configs_plm import PerceptionLMConfig, PerceptionLMPreprocessing
from perceptic.errors import TrainError
from perceptic.models.perception_lm import PerceptionLM
from perceptic.text.templates import TemplateName

_LAYER_SCALES = (".ls_1.gamma", ".ls_2.gamma")


@dataclass(frozen=True)
class PlmStage:
    """What is trained in a stage and what it looks at; optimiser and schedule are the recipe's.

    Attributes:
        freeze_vision, freeze_decoder: leave the tower or the decoder as it is; the projector always trains.
        layer_scale_init: factors on the tower's branches begin at this; None: it has none.
        drop_path: share of the tower's branches that are left out while training, per chunk.
        pooling_ratio: patches along a side that become one token.
        vision_input_type, max_num_tiles, max_video_frames: see `PerceptionLMPreprocessing`.
        max_tokens: of a sample, and of a sequence of packed samples.
        template: `warmup` learns captions without a question.
    """

    freeze_vision: bool = False
    freeze_decoder: bool = False
    layer_scale_init: float | None = 0.1
    drop_path: float = 0.1
    pooling_ratio: int = 2
    vision_input_type: Literal["thumb+tile", "vanilla"] = "thumb+tile"
    max_num_tiles: int = 36
    max_video_frames: int = 32
    max_tokens: int = 11520
    template: TemplateName = "plm_sft"

    def model_config(self, config: PerceptionLMConfig) -> PerceptionLMConfig:
        """The architecture as this stage trains it."""
        vision = config.vision.replace(ls_init_value=self.layer_scale_init, drop_path=self.drop_path)
        return config.replace(vision=vision, pooling_ratio=self.pooling_ratio)

    def preprocessing(self, preprocessing: PerceptionLMPreprocessing) -> PerceptionLMPreprocessing:
        """How this stage looks at pictures and videos; the size of a chunk is the model's."""
        return preprocessing.replace(
            vision_input_type=self.vision_input_type,
            max_num_tiles=self.max_num_tiles,
            max_video_frames=self.max_video_frames,
        )

    def freeze(self, model: PerceptionLM) -> None:
        """Switch the gradients of a model's parts."""
        model.set_frozen(vision=self.freeze_vision, decoder=self.freeze_decoder)


PAPER_STAGES: Final = {
    1: PlmStage(
        freeze_vision=True,
        freeze_decoder=True,
        layer_scale_init=None,
        drop_path=0.0,
        pooling_ratio=1,
        vision_input_type="vanilla",
        max_num_tiles=1,
        max_video_frames=8,
        max_tokens=1280,
        template="warmup",
    ),
    2: PlmStage(max_num_tiles=16, max_video_frames=16, max_tokens=6144),
    3: PlmStage(),
}


def go_on_from(model: PerceptionLM, state: Mapping[str, Tensor]) -> None:
    """Load what the stage before has learned. Factors that it did not have stay at their first value.

    Raises:
        TrainError: any other parameter is missing, is too many or has another shape.
    """
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise TrainError(f"the weights to go on from do not fit the model: {error}") from error
    missing = [name for name in missing if not (name.startswith("vision_model.") and name.endswith(_LAYER_SCALES))]
    for what, names in (("lack", missing), ("have, and the model does not,", unexpected)):
        if names:
            raise TrainError(f"the weights to go on from {what} {names[0]} (and {len(names) - 1} more)")
