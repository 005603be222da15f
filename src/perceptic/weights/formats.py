"""The checkpoint formats: one small object each, both directions (perception-encoder spec sections 3.2 to 3.4).

Between formats a state dict has perceptic's names: `visual.<name>` for the vision tower, `text.<name>` for the text
tower, `logit_scale`; inside a tower the names are the original's. No format needs a permutation of weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from perceptic.errors import WeightsError
from perceptic.weights.names import (
    Change,
    Pair,
    StateDict,
    count_known,
    name_some,
    pair,
    swapped,
    their_names,
    translate,
    with_prefixes,
)

FormatName = Literal["original", "timm", "open_clip", "perceptic"]

Tower = Literal["vision", "text"]

PREFIXES: dict[Tower, str] = {"vision": "visual.", "text": "text."}
LOGIT_SCALE = "logit_scale"


def _same(*names: str) -> tuple[Pair, ...]:
    return tuple(pair(name, name) for name in names)


def _with_bias(name: str) -> tuple[str, str]:
    return f"{name}.weight", f"{name}.bias"


_BLOCK_NAMES = (
    "attn.in_proj_weight",
    "attn.in_proj_bias",
    *_with_bias("attn.out_proj"),
    *_with_bias("ln_1"),
    *_with_bias("ln_2"),
    *_with_bias("mlp.c_fc"),
    *_with_bias("mlp.c_proj"),
)
_POOL_NAMES = (
    "probe",
    "attn.in_proj_weight",
    "attn.in_proj_bias",
    *_with_bias("attn.out_proj"),
    *_with_bias("layernorm"),
    *_with_bias("mlp.c_fc"),
    *_with_bias("mlp.c_proj"),
)

# Every name of a vision tower, original on both sides.
VISION_NAMES = (
    *_same("class_embedding", "positional_embedding", "proj", "conv1.weight"),
    *_same(*_with_bias("ln_pre"), *_with_bias("ln_post")),
    *_same(*(f"transformer.resblocks.{{i}}.{name}" for name in _BLOCK_NAMES)),
    *_same("transformer.resblocks.{i}.ls_1.gamma", "transformer.resblocks.{i}.ls_2.gamma"),
    *_same(*(f"attn_pool.{name}" for name in _POOL_NAMES)),
)
# Every name of a text tower.
TEXT_NAMES = (
    *_same("token_embedding.weight", "positional_embedding", "text_projection", *_with_bias("ln_final")),
    *_same(*(f"transformer.resblocks.{{i}}.{name}" for name in _BLOCK_NAMES)),
)


def _drop_leading_ones(ndim: int) -> Change:
    """Their `ndim` axes without the leading ones; any other shape passes unchanged and fails the shape check."""

    def change(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        (tensor,) = tensors
        while tensor.ndim > ndim and tensor.shape[0] == 1:
            tensor = tensor[0]
        return (tensor,)

    return change


def _add_leading_ones(ndim: int) -> Change:
    def change(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        (tensor,) = tensors
        return (tensor.reshape((1,) * (ndim - tensor.ndim) + tuple(tensor.shape)),)

    return change


def _fuse(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """Query rows, then key and value rows (spec 3.4: rows 0..W and W..3W)."""
    query, key_value = tensors
    if query.ndim == 0 or key_value.shape != (2 * query.shape[0], *query.shape[1:]):
        raise ValueError("the key-value rows must be twice the query rows")
    if query.is_meta:
        # The first `cat` on the meta device would make PyTorch import its compiler, which takes 2 s.
        dtype = torch.promote_types(query.dtype, key_value.dtype)
        return (query.new_empty((3 * query.shape[0], *query.shape[1:]), dtype=dtype),)
    return (torch.cat([query, key_value]),)


def _split(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    (fused,) = tensors
    width = fused.shape[0] // 3
    return fused[:width].contiguous(), fused[width:].contiguous()


def _head_to_projection(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    weight, bias = tensors
    if weight.ndim != 2:
        raise ValueError("the head must be a matrix")
    if not bias.is_meta and bool(bias.count_nonzero()):
        # The projection has no bias. A trained classifier on top of the tower is not an embedding.
        raise ValueError("head.bias is not zero: this is a fine-tuned classifier, not the published projection")
    return (weight.T.contiguous(),)


def _projection_to_head(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    (projection,) = tensors
    return projection.T.contiguous(), torch.zeros_like(projection[0])


_BLOCK, _TIMM_BLOCK = "transformer.resblocks.{i}.", "blocks.{i}."

# Our names of a vision tower (left) and timm's (right).
TIMM_VISION_NAMES = (
    pair("class_embedding", "cls_token", read=_drop_leading_ones(1), write=_add_leading_ones(3)),
    pair("positional_embedding", "pos_embed", read=_drop_leading_ones(2), write=_add_leading_ones(3)),
    pair("conv1.weight", "patch_embed.proj.weight"),
    pair("ln_pre.weight", "norm_pre.weight"),
    pair("ln_pre.bias", "norm_pre.bias"),
    pair(_BLOCK + "ln_1.weight", _TIMM_BLOCK + "norm1.weight"),
    pair(_BLOCK + "ln_1.bias", _TIMM_BLOCK + "norm1.bias"),
    pair(_BLOCK + "ln_2.weight", _TIMM_BLOCK + "norm2.weight"),
    pair(_BLOCK + "ln_2.bias", _TIMM_BLOCK + "norm2.bias"),
    pair(_BLOCK + "attn.in_proj_weight", _TIMM_BLOCK + "attn.qkv.weight"),
    pair(_BLOCK + "attn.in_proj_bias", _TIMM_BLOCK + "attn.qkv.bias"),
    pair(_BLOCK + "attn.out_proj.weight", _TIMM_BLOCK + "attn.proj.weight"),
    pair(_BLOCK + "attn.out_proj.bias", _TIMM_BLOCK + "attn.proj.bias"),
    pair(_BLOCK + "mlp.c_fc.weight", _TIMM_BLOCK + "mlp.fc1.weight"),
    pair(_BLOCK + "mlp.c_fc.bias", _TIMM_BLOCK + "mlp.fc1.bias"),
    pair(_BLOCK + "mlp.c_proj.weight", _TIMM_BLOCK + "mlp.fc2.weight"),
    pair(_BLOCK + "mlp.c_proj.bias", _TIMM_BLOCK + "mlp.fc2.bias"),
    pair(_BLOCK + "ls_1.gamma", _TIMM_BLOCK + "gamma_1"),
    pair(_BLOCK + "ls_2.gamma", _TIMM_BLOCK + "gamma_2"),
    pair("ln_post.weight", "norm.weight"),
    pair("ln_post.bias", "norm.bias"),
    pair("attn_pool.probe", "attn_pool.latent"),
    pair("attn_pool.attn.in_proj_weight", ("attn_pool.q.weight", "attn_pool.kv.weight"), read=_fuse, write=_split),
    pair("attn_pool.attn.in_proj_bias", ("attn_pool.q.bias", "attn_pool.kv.bias"), read=_fuse, write=_split),
    pair("attn_pool.attn.out_proj.weight", "attn_pool.proj.weight"),
    pair("attn_pool.attn.out_proj.bias", "attn_pool.proj.bias"),
    pair("attn_pool.layernorm.weight", "attn_pool.norm.weight"),
    pair("attn_pool.layernorm.bias", "attn_pool.norm.bias"),
    pair("attn_pool.mlp.c_fc.weight", "attn_pool.mlp.fc1.weight"),
    pair("attn_pool.mlp.c_fc.bias", "attn_pool.mlp.fc1.bias"),
    pair("attn_pool.mlp.c_proj.weight", "attn_pool.mlp.fc2.weight"),
    pair("attn_pool.mlp.c_proj.bias", "attn_pool.mlp.fc2.bias"),
    pair("proj", ("head.weight", "head.bias"), read=_head_to_projection, write=_projection_to_head),
)


@dataclass(frozen=True)
class Layout:
    """One set of names within a format: which towers it holds, the keys that prove it, the name table."""

    towers: frozenset[Tower]
    proof: frozenset[str]
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class Format:
    """One naming scheme with one or more layouts. Strict in both directions: an unknown key is an error."""

    name: FormatName
    layouts: tuple[Layout, ...]

    def to_perceptic(self, state: Mapping[str, Tensor], all_keys: Set[str] | None = None) -> StateDict:
        """Their names to ours; tensors are views of theirs wherever possible.

        Args:
            all_keys: the keys of the whole file where `state` is only a part of it (they decide the layout).

        Raises:
            WeightsError: keys that are not part of this format, or tensors that cannot be changed.
        """
        return translate(state, self._layout_of_keys(all_keys or state.keys()).pairs, self.name)

    def from_perceptic(self, state: Mapping[str, Tensor]) -> StateDict:
        """Our names to theirs.

        Raises:
            WeightsError: this format cannot hold these towers.
        """
        towers = towers_in(state)
        for layout in self.layouts:
            if layout.towers == towers:
                return translate(state, swapped(layout.pairs), "perceptic")
        holds = " or ".join(" + ".join(sorted(layout.towers, reverse=True)) for layout in self.layouts)
        raise WeightsError(f"the {self.name} format holds {holds}, not {' + '.join(sorted(towers, reverse=True))}")

    def their_names(self, key: str, their_keys: Set[str]) -> tuple[str, ...]:
        """Our key under the names it has (or would have) in a file with `their_keys`."""
        return their_names(key, self._layout_of_keys(their_keys).pairs)

    def _layout_of_keys(self, keys: Set[str]) -> Layout:
        proven = [layout for layout in self.layouts if layout.proof <= keys]
        return proven[0] if proven else max(self.layouts, key=lambda layout: count_known(keys, layout.pairs))


def detect(keys: Set[str]) -> Format:
    """The format of a file with these keys (spec 3.4), wrappers and `module.` already removed.

    The proving key decides; where it is missing, the format that knows most keys, so that the message about a
    damaged file can name what is missing.

    Raises:
        WeightsError: not a Perception Encoder in any known format; the first keys are named.
    """
    candidates = [(layout, form) for form in FORMATS.values() for layout in form.layouts]
    candidates.sort(key=lambda candidate: -len(candidate[0].proof))  # our CLIP layout proves more than the original's
    for layout, form in candidates:
        if layout.proof <= keys:
            return form
    best, form = max(candidates, key=lambda candidate: count_known(keys, candidate[0].pairs))
    if 2 * count_known(keys, best.pairs) <= len(keys):
        raise WeightsError(
            f"no Perception Encoder in a known format ({', '.join(FORMATS)}); "
            f"its keys begin with: {name_some(sorted(keys))}"
        )
    return form


def towers_in(state: Mapping[str, Tensor]) -> frozenset[Tower]:
    """Which towers a state dict with perceptic's names has."""
    return frozenset(tower for tower, prefix in PREFIXES.items() if any(key.startswith(prefix) for key in state))


_BOTH: frozenset[Tower] = frozenset({"vision", "text"})
_VISION: frozenset[Tower] = frozenset({"vision"})
_TEXT: frozenset[Tower] = frozenset({"text"})


def _layout(
    towers: frozenset[Tower], *proof: str, vision: tuple[str, tuple[Pair, ...]] | None = None, text: str | None = None
) -> Layout:
    """A layout from their prefix and table of the vision tower, and their prefix of the text tower."""
    pairs: tuple[Pair, ...] = ()
    if vision is not None:
        pairs += with_prefixes(vision[1], ours=PREFIXES["vision"], theirs=vision[0])
    if text is not None:
        pairs += with_prefixes(TEXT_NAMES, ours=PREFIXES["text"], theirs=text)
    if towers == _BOTH:
        pairs += (pair(LOGIT_SCALE, LOGIT_SCALE, read=_drop_leading_ones(0)),)
    return Layout(towers, frozenset(proof), pairs)


OPEN_CLIP = Format(
    "open_clip",
    (
        _layout(
            _BOTH,
            "visual.trunk.patch_embed.proj.weight",
            vision=("visual.trunk.", TIMM_VISION_NAMES),
            text="text.",
        ),
    ),
)
TIMM = Format("timm", (_layout(_VISION, "patch_embed.proj.weight", vision=("", TIMM_VISION_NAMES)),))
# Bare towers have the same names in our files and in the original's.
_BARE = (
    _layout(_VISION, "conv1.weight", vision=("", VISION_NAMES)),
    _layout(_TEXT, "token_embedding.weight", text=""),
)
PERCEPTIC = Format(
    "perceptic",
    (
        _layout(
            _BOTH,
            "visual.conv1.weight",
            "text.token_embedding.weight",
            vision=("visual.", VISION_NAMES),
            text="text.",
        ),
        *_BARE,
    ),
)
# The text tower of the original lies at the top level; Lang and Spatial files may have `visual.` or not.
ORIGINAL = Format(
    "original", (_layout(_BOTH, "visual.conv1.weight", vision=("visual.", VISION_NAMES), text=""), *_BARE)
)

# In the order of detection. Bare towers look alike in the original and in ours; messages then say "original".
FORMATS: dict[FormatName, Format] = {
    "open_clip": OPEN_CLIP,
    "timm": TIMM,
    "original": ORIGINAL,
    "perceptic": PERCEPTIC,
}
