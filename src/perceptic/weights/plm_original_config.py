"""`params.json` of the original <-> our configurations (perception-language-model spec section 1.4).

The file is a whole training configuration: keys that do not matter for inference are ignored, missing ones take the
original's defaults.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

from perceptic.configs import Config, VisionConfig
from perceptic.configs_plm import (
    DecoderConfig,
    PerceptionLMConfig,
    PerceptionLMPreprocessing,
    default_image_token_id,
)
from perceptic.errors import ConfigError

logger = logging.getLogger(__name__)

_TOWER_FIELDS = (
    *("image_size", "patch_size", "width", "layers", "heads", "use_cls_token", "use_abs_posemb"),
    *("mlp_ratio", "ls_init_value", "drop_path", "use_ln_post", "pool_type"),
)
_TOWER_DEFAULTS = {"pool_type": "none", "use_ln_post": False}


def read_params(fields: Mapping[str, Any]) -> PerceptionLMConfig:
    """The architecture of a `params.json`.

    Raises:
        ConfigError: a section is missing, or values cannot work together.
    """
    model = _section(fields, "model")
    decoder = DecoderConfig.from_dict(_known(DecoderConfig, model))
    vision = VisionConfig.from_dict({**_TOWER_DEFAULTS, **_known(VisionConfig, _section(model, "vision_model"))})
    scaled = model.get("use_scaled_rope")
    if scaled is not None and bool(scaled) != (decoder.rope_scale_factor != 1):
        logger.warning(
            "params.json says use_scaled_rope %s but rope_scale_factor %g; the factor decides",
            scaled,
            decoder.rope_scale_factor,
        )
    return PerceptionLMConfig(
        decoder=decoder,
        vision=vision,
        pooling_ratio=int(model.get("pooling_ratio", 1)),
        image_token_id=default_image_token_id(decoder.vocab_size),
    )


def read_params_preprocessing(fields: Mapping[str, Any], config: PerceptionLMConfig) -> PerceptionLMPreprocessing:
    """How pixels enter, by the data section of a `params.json`. Raises ConfigError."""
    data = fields.get("data")
    known = _known(PerceptionLMPreprocessing, data if isinstance(data, Mapping) else {})
    if known.get("vision_input_type", "vanilla") != "thumb+tile":  # anything else means a single chunk there
        known["vision_input_type"] = "vanilla"
    return PerceptionLMPreprocessing.from_dict({**known, "tile_size": config.vision.image_size})


def write_params(
    config: PerceptionLMConfig, preprocessing: PerceptionLMPreprocessing, model_dtype: str
) -> dict[str, Any]:
    """A `params.json`. `model_dtype`: `bf16`, `fp16` or `fp32`."""
    decoder = {key: value for key, value in config.decoder.to_dict().items() if value is not None}
    tower = {key: getattr(config.vision, key) for key in _TOWER_FIELDS}
    return {
        "name": "perceptic",
        "distributed": {"model_dtype": model_dtype},
        "model": {
            **decoder,
            "use_scaled_rope": config.decoder.rope_scale_factor != 1,
            "pooling_ratio": config.pooling_ratio,
            "vision_model": {key: value for key, value in tower.items() if value is not None},
        },
        "data": {
            "vision_input_type": preprocessing.vision_input_type,
            "image_res": preprocessing.tile_size,
            "max_num_tiles": preprocessing.max_num_tiles,
            "max_video_frames": preprocessing.max_video_frames,
            "tokenizer_path": "tokenizer.model",
            "tokenizer_name": "plmchat",
            "conversation_format": "plm_sft",
        },
    }


def _section(fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = fields.get(name)
    if not isinstance(section, Mapping):
        raise ConfigError(f"params.json has no section '{name}'; expected that of a PerceptionLM checkpoint")
    return section


def _known(config_class: type[Config], fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that a configuration has; numbers that YAML turned into text (1e-05) are numbers again."""
    names = {field.name for field in dataclasses.fields(config_class)}
    return {key: _number(value) for key, value in fields.items() if key in names}


def _number(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    for number in (int, float):
        try:
            return number(value)
        except ValueError:
            continue
    return value
