"""The configuration files of a Hugging Face PerceptionLM folder <-> ours (perception-language-model spec section 1.5).

Writers differ: rotary scaling lies in `rope_scaling` (older) or `rope_parameters`, processor settings in files of their
own (older) or inside `processor_config.json`. All are read; the folder that is written has both processor layouts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perceptic.configs import VisionConfig
from perceptic.configs_plm import (
    DecoderConfig,
    PerceptionLMConfig,
    PerceptionLMPreprocessing,
    default_image_token_id,
    ffn_fields,
)
from perceptic.errors import ConfigError
from perceptic.weights import foreign_config

MODEL_TYPE = "perception_lm"
_LARGE, _GIGANTIC = "vit_pe_core_large_patch14_336", "vit_pe_core_gigantic_patch14_448"
_BICUBIC = 3


def read_config(fields: Mapping[str, Any]) -> PerceptionLMConfig:
    """The architecture of a `config.json`.

    Raises:
        ConfigError: a section is missing, or values cannot work together.
    """
    vision = _read_tower(_section(fields, "vision_config"))
    if vision.use_cls_token != bool(fields.get("vision_use_cls_token", vision.use_cls_token)):
        raise ConfigError("config.json: vision_use_cls_token contradicts the architecture of vision_config")
    decoder = _read_decoder(_section(fields, "text_config"), fields.get("tie_word_embeddings"))
    return PerceptionLMConfig(
        decoder=decoder,
        vision=vision,
        pooling_ratio=int(fields.get("projector_pooling_ratio", 1)),
        image_token_id=int(fields.get("image_token_id", default_image_token_id(decoder.vocab_size))),
    )


def read_preprocessing(processor: Mapping[str, Any], config: PerceptionLMConfig) -> PerceptionLMPreprocessing:
    """How pixels enter, by the image processor's settings (either layout). Raises ConfigError."""
    nested = processor.get("image_processor")
    image = nested if isinstance(nested, Mapping) else processor
    return PerceptionLMPreprocessing(
        tile_size=config.vision.image_size,
        vision_input_type="thumb+tile" if image.get("vision_input_type", "thumb+tile") == "thumb+tile" else "vanilla",
        max_num_tiles=int(image.get("max_num_tiles", 36)),
        mean=tuple(image.get("image_mean", (0.5, 0.5, 0.5))),
        std=tuple(image.get("image_std", (0.5, 0.5, 0.5))),
    )


def write_config(config: PerceptionLMConfig, dtype: str) -> dict[str, Any]:
    """A `config.json`. `dtype`: `bfloat16`, `float32`..."""
    decoder, special = config.decoder, config.image_token_id
    rope: dict[str, Any] = {"rope_theta": decoder.rope_theta, "rope_type": "default"}
    if decoder.rope_scale_factor != 1:
        rope |= {
            "rope_type": "llama3",
            "factor": float(decoder.rope_scale_factor),
            "low_freq_factor": float(decoder.low_freq_factor),
            "high_freq_factor": float(decoder.high_freq_factor),
            "original_max_position_embeddings": decoder.old_context_len,
        }
    return {
        "architectures": ["PerceptionLMForConditionalGeneration"],
        "model_type": MODEL_TYPE,
        "dtype": dtype,
        "image_token_id": special,
        "video_token_id": special + 1,
        "projector_pooling_ratio": config.pooling_ratio,
        "tie_word_embeddings": decoder.weight_tying,
        "vision_use_cls_token": config.vision.use_cls_token,
        "text_config": {
            "model_type": "llama",
            "attention_bias": False,
            "mlp_bias": False,
            "hidden_act": "silu",
            "hidden_size": decoder.dim,
            "intermediate_size": decoder.ffn_width,
            "num_hidden_layers": decoder.n_layers,
            "num_attention_heads": decoder.n_heads,
            "num_key_value_heads": decoder.num_kv_heads,
            "head_dim": decoder.head_size,
            "rms_norm_eps": decoder.norm_eps,
            "vocab_size": decoder.vocab_size,
            "max_position_embeddings": decoder.max_seqlen,
            "tie_word_embeddings": decoder.weight_tying,
            "rope_parameters": rope,
            **_end_tokens(special),
        },
        "vision_config": _write_tower(config.vision),
    }


def write_generation_config(config: PerceptionLMConfig) -> dict[str, Any]:
    """A `generation_config.json`: greedy."""
    return {"do_sample": False, **_end_tokens(config.image_token_id)}


def write_processor_config(config: PerceptionLMConfig, preprocessing: PerceptionLMPreprocessing) -> dict[str, Any]:
    """A `processor_config.json` with the image and the video processor inside, the newer layout."""
    return {
        "processor_class": "PerceptionLMProcessor",
        "patch_size": config.vision.patch_size,
        "pooling_ratio": config.pooling_ratio,
        "image_processor": {
            **write_image_processor(preprocessing),
            "image_processor_type": "PerceptionLMImageProcessor",
        },
        "video_processor": write_video_processor(preprocessing),
    }


def write_image_processor(preprocessing: PerceptionLMPreprocessing) -> dict[str, Any]:
    """A `preprocessor_config.json`, the older layout."""
    return {
        "image_processor_type": "PerceptionLMImageProcessorFast",
        **_pixel_settings(preprocessing),
        "tile_size": preprocessing.tile_size,
        "max_num_tiles": preprocessing.max_num_tiles,
        "vision_input_type": preprocessing.vision_input_type,
    }


def write_video_processor(preprocessing: PerceptionLMPreprocessing) -> dict[str, Any]:
    """A `video_preprocessor_config.json`, the older layout."""
    return {"video_processor_type": "PerceptionLMVideoProcessor", **_pixel_settings(preprocessing)}


def write_tokenizer_config(max_positions: int) -> dict[str, Any]:
    """A `tokenizer_config.json`."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "processor_class": "PerceptionLMProcessor",
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|eot_id|>",
        "pad_token": "<|end_of_text|>",
        "image_token": "<|image|>",
        "video_token": "<|video|>",
        "clean_up_tokenization_spaces": False,  # true in the released folders, where it eats spaces of the answer
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": max_positions,
    }


def _read_decoder(text: Mapping[str, Any], tied_at_top: Any) -> DecoderConfig:
    rope = {**_plain(text.get("rope_scaling")), **_plain(text.get("rope_parameters"))}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ("default", "llama3"):
        raise ConfigError(f"config.json: rope_type '{kind}' is not supported; expected llama3 or default")
    scaling: dict[str, Any] = {}
    try:
        if kind == "llama3":
            scaling = {
                "rope_scale_factor": rope["factor"],
                "low_freq_factor": rope["low_freq_factor"],
                "high_freq_factor": rope["high_freq_factor"],
                "old_context_len": rope["original_max_position_embeddings"],
            }
        ffn = ffn_fields(text["hidden_size"], text["intermediate_size"])
        return DecoderConfig(
            dim=text["hidden_size"],
            n_layers=text["num_hidden_layers"],
            n_heads=text["num_attention_heads"],
            n_kv_heads=text.get("num_key_value_heads"),
            head_dim=text.get("head_dim"),
            vocab_size=text["vocab_size"],
            ffn_dim_multiplier=ffn.ffn_dim_multiplier,
            multiple_of=ffn.multiple_of,
            norm_eps=text.get("rms_norm_eps", 1e-6),
            rope_theta=rope.get("rope_theta", text.get("rope_theta", 10000.0)),
            max_seqlen=text.get("max_position_embeddings", 2048),
            weight_tying=bool(text.get("tie_word_embeddings", False) if tied_at_top is None else tied_at_top),
            **scaling,
        )
    except (KeyError, TypeError) as error:
        raise ConfigError(f"config.json: text_config lacks or garbles {error}") from error


def _read_tower(fields: Mapping[str, Any]) -> VisionConfig:
    vision = foreign_config.read_timm({**fields, "num_classes": 0, "global_pool": ""})
    if vision is None:
        raise ConfigError(
            f"config.json: the vision architecture '{fields.get('architecture')}' is unknown; expected {_LARGE} or "
            f"{_GIGANTIC}"
        )
    return vision


def _write_tower(vision: VisionConfig) -> dict[str, Any]:
    arguments = {
        "embed_dim": vision.width,
        "depth": vision.layers,
        "num_heads": vision.heads,
        "mlp_ratio": vision.mlp_ratio,
        "img_size": [vision.image_size, vision.image_size],
        "global_pool": "",
        "use_post_transformer_norm": False,
        "init_values": vision.ls_init_value,
        "ref_feat_shape": [vision.grid_size, vision.grid_size],
    }
    if vision.patch_size != 14:
        arguments["patch_size"] = vision.patch_size
    return {
        "model_type": "timm_wrapper",
        # The name alone says whether there is a class token, and with it where the rotary grid begins.
        "architecture": _LARGE if vision.use_cls_token else _GIGANTIC,
        "model_args": arguments,
        "do_pooling": True,
        "num_classes": 0,
    }


def _pixel_settings(preprocessing: PerceptionLMPreprocessing) -> dict[str, Any]:
    size = preprocessing.tile_size
    return {
        "do_convert_rgb": True,
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "resample": _BICUBIC,
        "rescale_factor": 1 / 255,
        "image_mean": list(preprocessing.mean),
        "image_std": list(preprocessing.std),
        "size": {"height": size, "width": size},
    }


def _end_tokens(image_token_id: int) -> dict[str, Any]:
    first = image_token_id - 2  # begin of text; end of text and end of turn follow (spec 3.1)
    return {"bos_token_id": first, "eos_token_id": [first + 1, first + 9]}


def _section(fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = fields.get(name)
    if not isinstance(section, Mapping):
        raise ConfigError(f"config.json has no section '{name}'; expected that of a PerceptionLM model")
    return section


def _plain(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}
