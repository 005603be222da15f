"""The architecture behind a state dict: most of it can be read off the shapes.

What shapes cannot say (the number of heads, how a tower without attention pool was pooled) is taken from the zoo
entry that agrees in everything else; where there is none, the user must say it.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from perceptic import zoo
from perceptic.configs import ClipConfig, TextConfig, VisionConfig
from perceptic.errors import ConfigError, WeightsError
from perceptic.weights.formats import PREFIXES, Tower, towers_in

_BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.")
_SAY_IT = "give the architecture (config= in Python, --name or --config on the command line)"


@dataclass(frozen=True)
class _VisionShape:
    """What the tensors of a vision tower say. `grid` is None without a position table."""

    patch_size: int
    width: int
    layers: int
    mlp_width: int
    grid: int | None
    has_cls_token: bool
    has_layer_scale: bool
    has_ln_pre: bool
    has_ln_post: bool
    has_attn_pool: bool
    output_dim: int | None


def infer_config(state: Mapping[str, Tensor]) -> ClipConfig | VisionConfig | TextConfig:
    """The configuration of a state dict with perceptic's names.

    Raises:
        WeightsError: the shapes do not determine it; the message asks for an explicit configuration.
    """
    towers = towers_in(state)
    vision = infer_vision(_bare(state, "vision")) if "vision" in towers else None
    text = infer_text(_bare(state, "text")) if "text" in towers else None
    if vision is not None and text is not None:
        try:
            return ClipConfig(vision=vision, text=text)
        except ConfigError as error:
            raise WeightsError(f"the two towers do not fit together: {error}") from error
    config = vision or text
    if config is None:
        raise WeightsError("there is neither a vision nor a text tower")
    return config


def infer_vision(state: Mapping[str, Tensor]) -> VisionConfig:
    """The configuration of a bare vision tower. Raises WeightsError if the shapes do not determine it."""
    shape = _vision_shape(state)
    for card in zoo.cards():
        if _shape_of(card.vision) == shape:
            return card.vision
    relatives = [card.vision for card in zoo.cards() if _is_relative(card.vision, shape)]
    if not relatives:
        raise WeightsError(
            f"no model of the zoo has width {shape.width}, mlp width {shape.mlp_width} and patch {shape.patch_size}, "
            f"so that the number of heads is unknown; {_SAY_IT}"
        )
    if (shape.output_dim or shape.has_ln_post) and not shape.has_attn_pool:
        raise WeightsError(f"the shapes do not say how the tokens are pooled; {_SAY_IT}")
    return _adapt(relatives[0], shape)


def infer_text(state: Mapping[str, Tensor]) -> TextConfig:
    """The configuration of a bare text tower. Raises WeightsError if the shapes do not determine it."""
    vocab_size, width = _matrix(state, "token_embedding.weight")
    context_length, _ = _matrix(state, "positional_embedding")
    _, output_dim = _matrix(state, "text_projection")
    mlp_width, _ = _matrix(state, "transformer.resblocks.0.mlp.c_fc.weight")
    heads = {card.text.heads for card in zoo.cards() if card.text is not None and card.text.width == width}
    if len(heads) != 1:
        raise WeightsError(
            f"no text tower of the zoo has width {width}, so that the number of heads is unknown; {_SAY_IT}"
        )
    try:
        return TextConfig(
            context_length=context_length,
            width=width,
            heads=heads.pop(),
            layers=_count_blocks(state),
            output_dim=output_dim,
            mlp_ratio=mlp_ratio(mlp_width, width),
            vocab_size=vocab_size,
        )
    except ConfigError as error:
        raise WeightsError(f"the shapes make no text tower: {error}") from error


def mlp_ratio(mlp_width: int, width: int) -> float:
    """The ratio whose product with `width`, cut to an integer, is `mlp_width` (plain division can fall just below)."""
    ratio = mlp_width / width
    return ratio if int(width * ratio) == mlp_width else math.nextafter(ratio, math.inf)


def matching_names(state: Mapping[str, Tensor]) -> list[str]:
    """Zoo models whose vision tower has exactly these shapes (Lang and its Tiling twin cannot be told apart)."""
    try:
        shape = _vision_shape(_bare(state, "vision"))
    except WeightsError:
        return []
    return [card.name for card in zoo.cards() if _shape_of(card.vision) == shape]


def describe_fit(state: Mapping[str, Tensor]) -> str:
    """A sentence for error messages: which zoo model the weights are, if any."""
    names = matching_names(state)
    return f" These weights fit {' or '.join(names)}." if names else ""


def _bare(state: Mapping[str, Tensor], tower: Tower) -> dict[str, Tensor]:
    prefix = PREFIXES[tower]
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _vision_shape(state: Mapping[str, Tensor]) -> _VisionShape:
    conv = _tensor(state, "conv1.weight", ndim=4)
    has_cls = "class_embedding" in state
    grid = None
    if "positional_embedding" in state:
        num_patches = _matrix(state, "positional_embedding")[0] - has_cls
        grid = math.isqrt(max(num_patches, 0))
        if grid == 0 or grid * grid != num_patches:
            raise WeightsError(f"'positional_embedding' has {num_patches} patch rows, which is not a square grid")
    return _VisionShape(
        patch_size=conv.shape[2],
        width=conv.shape[0],
        layers=_count_blocks(state),
        mlp_width=_matrix(state, "transformer.resblocks.0.mlp.c_fc.weight")[0],
        grid=grid,
        has_cls_token=has_cls,
        has_layer_scale="transformer.resblocks.0.ls_1.gamma" in state,
        has_ln_pre="ln_pre.weight" in state,
        has_ln_post="ln_post.weight" in state,
        has_attn_pool="attn_pool.probe" in state,
        output_dim=_matrix(state, "proj")[1] if "proj" in state else None,
    )


def _shape_of(config: VisionConfig) -> _VisionShape:
    return _VisionShape(
        patch_size=config.patch_size,
        width=config.width,
        layers=config.layers,
        mlp_width=config.mlp_width,
        grid=config.grid_size if config.use_abs_posemb else None,
        has_cls_token=config.use_cls_token,
        has_layer_scale=config.ls_init_value is not None,
        has_ln_pre=config.use_ln_pre,
        has_ln_post=config.use_ln_post,
        has_attn_pool=config.pool_type == "attn",
        output_dim=config.output_dim,
    )


def _is_relative(config: VisionConfig, shape: _VisionShape) -> bool:
    """Same blocks, another depth, resolution or head."""
    theirs = _shape_of(config)
    same = ("patch_size", "width", "mlp_width", "has_cls_token")
    if any(getattr(theirs, name) != getattr(shape, name) for name in same):
        return False
    return theirs.has_attn_pool or not shape.has_attn_pool


def _adapt(config: VisionConfig, shape: _VisionShape) -> VisionConfig:
    grid = config.grid_size if shape.grid is None else shape.grid
    try:
        return dataclasses.replace(
            config,
            layers=shape.layers,
            image_size=grid * shape.patch_size,
            ls_init_value=(config.ls_init_value or 0.1) if shape.has_layer_scale else None,
            use_abs_posemb=shape.grid is not None,
            use_ln_pre=shape.has_ln_pre,
            use_ln_post=shape.has_ln_post,
            pool_type="attn" if shape.has_attn_pool else "none",
            output_dim=shape.output_dim,
        )
    except ConfigError as error:
        raise WeightsError(f"the shapes make no vision tower: {error}") from error


def _count_blocks(keys: Iterable[str]) -> int:
    numbers = {int(found.group(1)) for key in keys if (found := _BLOCK.match(key))}
    # Numbering with a hole: count up to the hole, so that the strict load names what lies beyond.
    return next(n for n in range(len(numbers) + 1) if n not in numbers)


def _matrix(state: Mapping[str, Tensor], key: str) -> tuple[int, int]:
    tensor = _tensor(state, key, ndim=2)
    return tensor.shape[0], tensor.shape[1]


def _tensor(state: Mapping[str, Tensor], key: str, ndim: int) -> Tensor:
    if key not in state:
        raise WeightsError(f"the weight '{key}' is missing")
    tensor = state[key]
    if tensor.ndim != ndim or 0 in tensor.shape:
        raise WeightsError(f"'{key}' has shape {tuple(tensor.shape)}; expected {ndim} axes")
    return tensor
