"""The configuration files of timm and open_clip <-> ours.

Read where they are simple; anything else is left to the shapes of the weights (`infer`), and the strict load checks
the result either way. Written so that timm and open_clip load the folders of the released architectures directly
(`local-dir:`); other sizes carry their arguments in `model_args` and, for open_clip, in `trunk_args`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perceptic import zoo
from perceptic.configs import ClipConfig, Preprocessing, TextConfig, VisionConfig
from perceptic.errors import ConfigError

# timm's argument -> our field, where the value means the same.
_TIMM_FIELDS = {
    "patch_size": "patch_size",
    "embed_dim": "width",
    "depth": "layers",
    "num_heads": "heads",
    "mlp_ratio": "mlp_ratio",
    "class_token": "use_cls_token",
    "init_values": "ls_init_value",
    "use_abs_pos_emb": "use_abs_posemb",
    "use_rot_pos_emb": "use_rope2d",
    "use_pre_transformer_norm": "use_ln_pre",
    "use_post_transformer_norm": "use_ln_post",
    "attn_pool_num_heads": "attn_pooler_heads",
}
_OPEN_CLIP_TEXT_FIELDS = ("context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio")
_RESIZE_MODES = {"squash": "squash", "shortest": "center_crop"}


def read_timm(fields: Mapping[str, Any]) -> VisionConfig | None:
    """The vision tower of a timm `config.json`; None where the shapes of the weights must decide.

    timm's default head for Lang and Spatial averages the patch tokens; that is no part of the weights, and the tower
    here returns the token sequence as the original does.

    Raises:
        ConfigError: values that cannot work together.
    """
    arguments = {**_plain(fields.get("model_args"))}
    for name in ("num_classes", "global_pool"):
        if name in fields:
            arguments.setdefault(name, fields[name])
    return _from_timm_arguments(str(fields.get("architecture", "")), arguments)


def read_open_clip(fields: Mapping[str, Any]) -> ClipConfig | None:
    """Both towers of an `open_clip_config.json`; None where the shapes of the weights must decide.

    Raises:
        ConfigError: values that cannot work together.
    """
    model = _plain(fields.get("model_cfg"))
    vision_fields, text_fields = _plain(model.get("vision_cfg")), _plain(model.get("text_cfg"))
    trunk = {"img_size": vision_fields.get("image_size"), **_plain(fields.get("trunk_args"))}
    trunk["num_classes"] = model.get("embed_dim")
    trunk.setdefault("global_pool", vision_fields.get("timm_pool", "map"))
    vision = _from_timm_arguments(str(vision_fields.get("timm_model_name", "")), trunk)
    text_known = {name: text_fields[name] for name in _OPEN_CLIP_TEXT_FIELDS if name in text_fields}
    if vision is None or not {"context_length", "width", "heads", "layers"} <= text_known.keys():
        return None
    return ClipConfig(vision=vision, text=TextConfig.from_dict({**text_known, "output_dim": vision.output_dim}))


def read_open_clip_preprocessing(fields: Mapping[str, Any], image_size: int) -> Preprocessing:
    """The preprocessing of an `open_clip_config.json`. Raises ConfigError for values that perceptic does not have."""
    given = _plain(fields.get("preprocess_cfg"))
    mode = str(given.get("resize_mode", "squash"))
    if mode not in _RESIZE_MODES:
        raise ConfigError(f"preprocess_cfg: resize_mode '{mode}' is not supported; expected squash or shortest")
    read: dict[str, Any] = {"image_size": image_size, "resize_mode": _RESIZE_MODES[mode]}
    read.update((name, given[name]) for name in ("mean", "std", "interpolation") if name in given)
    return Preprocessing.from_dict(read)


def write_timm(config: VisionConfig) -> dict[str, Any]:
    """A timm `config.json`. The architecture is the released one where it fits, else the nearest with `model_args`.

    Raises:
        ConfigError: timm has no such pooling.
    """
    card = _card_of(config)
    arguments = {} if card is not None else _timm_arguments(config)
    return {
        "architecture": _architecture(config, card),
        "num_classes": config.output_dim or 0,
        "num_features": config.width,
        "global_pool": _timm_pool(config),
        **({"model_args": arguments} if arguments else {}),
        "pretrained_cfg": {
            "input_size": [3, config.image_size, config.image_size],
            "fixed_input_size": True,
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": "squash",
            "num_classes": config.output_dim or 0,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
    }


def write_open_clip(config: ClipConfig) -> dict[str, Any]:
    """An `open_clip_config.json`. Raises ConfigError for a tower without attention pool."""
    if config.vision.pool_type != "attn":
        raise ConfigError(f"pool_type '{config.vision.pool_type}' cannot be written for open_clip; it needs 'attn'")
    card = _card_of(config.vision)
    text = {name: getattr(config.text, name) for name in _OPEN_CLIP_TEXT_FIELDS if name != "mlp_ratio"}
    if config.text.mlp_ratio != 4.0:
        text["mlp_ratio"] = config.text.mlp_ratio
    return {
        "model_cfg": {
            "embed_dim": config.vision.output_dim,
            "vision_cfg": {
                "image_size": config.vision.image_size,
                "timm_model_name": _architecture(config.vision, card),
                "timm_model_pretrained": False,
                "timm_pool": "map",
                "timm_proj": None,
            },
            "text_cfg": text,
            "custom_text": True,
        },
        "preprocess_cfg": {
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
            "interpolation": "bilinear",
            "resize_mode": "squash",
        },
        **({} if card is not None else {"trunk_args": _timm_arguments(config.vision)}),
    }


def _from_timm_arguments(architecture: str, arguments: Mapping[str, Any]) -> VisionConfig | None:
    base = next((card.vision for card in zoo.cards() if card.timm_architecture == architecture.partition(".")[0]), None)
    fields: dict[str, Any] = {} if base is None else base.to_dict()
    fields.update({ours: arguments[theirs] for theirs, ours in _TIMM_FIELDS.items() if theirs in arguments})
    image_size = arguments.get("img_size")
    if image_size is not None:
        fields["image_size"] = image_size[0] if isinstance(image_size, list | tuple) else image_size
    if arguments.get("num_classes") is not None:
        fields["output_dim"] = arguments["num_classes"] or None
    if "global_pool" in arguments:
        # Their default for Lang and Spatial is "avg" over patches, a head without weights: the tower has none.
        fields["pool_type"] = {"map": "attn", "token": "tok"}.get(arguments["global_pool"], "none")
    if not {"patch_size", "width", "layers", "heads", "image_size"} <= fields.keys():
        return None
    return VisionConfig.from_dict(fields)


def _timm_arguments(config: VisionConfig) -> dict[str, Any]:
    """Everything that timm's constructor needs, in JSON."""
    arguments: dict[str, Any] = {theirs: getattr(config, ours) for theirs, ours in _TIMM_FIELDS.items()}
    return {
        "img_size": config.image_size,
        **arguments,
        "attn_type": "rope",
        "use_fc_norm": False,
        "ref_feat_shape": [config.grid_size, config.grid_size],
        "rope_grid_offset": float(config.num_prefix_tokens),
        "rope_grid_indexing": "xy",
        "attn_pool_mlp_ratio": 4.0,
    }


def _timm_pool(config: VisionConfig) -> str:
    if config.pool_type == "avg":
        raise ConfigError("pool_type 'avg' cannot be written for timm: its mean leaves out the class token")
    # "avg" is what timm does without being asked; `forward_features` gives the sequence either way.
    return {"attn": "map", "tok": "token", "none": "avg"}[config.pool_type]


def _card_of(config: VisionConfig) -> zoo.ModelCard | None:
    return next((card for card in zoo.cards() if card.vision == config and card.timm is not None), None)


def _architecture(config: VisionConfig, card: zoo.ModelCard | None) -> str:
    """timm's function: the released one, or for other sizes one whose fixed arguments (norm epsilon) are right."""
    if card is not None and card.timm_architecture is not None:
        return card.timm_architecture
    return "vit_pe_core_base_patch16_224" if config.pool_type == "attn" else "vit_pe_spatial_base_patch16_512"


def _plain(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}
