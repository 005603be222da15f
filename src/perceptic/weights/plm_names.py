"""The names of PerceptionLM weights in the original's and in Hugging Face's format (perception-language-model spec
sections 1.4 and 1.6).

Ours are the modules' own: `decoder.`, `vision_model.`, `vision_projector.`; inside each part the original's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor

from perceptic.configs_plm import DecoderConfig, PerceptionLMConfig
from perceptic.weights.formats import TIMM_VISION_NAMES, VISION_NAMES
from perceptic.weights.names import Change, Pair, StateDict, pair, swapped, their_names, translate, with_prefixes

_LAYER = "decoder.layers.{i}."
_HF_LAYER = "model.language_model.layers.{i}."
_PROJECTOR = "vision_projector.projector."
_HF_PROJECTOR = "model.multi_modal_projector."

# Copies and tables that files may hold beside the weights.
_IGNORED = re.compile(r"output\.tied_module\.weight|.*\.self_attn\.rotary_emb\.inv_freq")
_HEADS = ("output.weight", "lm_head.weight", "decoder.output.weight")


def is_needed(key: str, config: PerceptionLMConfig) -> bool:
    """Whether a key of any format is a weight of the model: not a copy or a table, no head where it is tied."""
    return _IGNORED.fullmatch(key) is None and not (config.decoder.weight_tying and key in _HEADS)


def to_ours(state: Mapping[str, Tensor], pairs: Iterable[Pair], name: str) -> StateDict:
    """Their names to ours.

    Raises:
        WeightsError: keys that are not part of the format, or tensors that cannot be changed.
    """
    return translate(state, pairs, name)


def from_ours(state: Mapping[str, Tensor], pairs: Iterable[Pair]) -> StateDict:
    """Our names to theirs."""
    return translate(state, swapped(pairs), "perceptic")


def name_in_file(key: str, pairs: Iterable[Pair]) -> str:
    """Our key under the name a user finds in the file."""
    return their_names(key, pairs)[0]


def original_pairs() -> tuple[Pair, ...]:
    """The original: the decoder at the top level, everything else as here."""
    decoder = (
        "tok_embeddings.weight",
        "norm.weight",
        "output.weight",
        *(f"layers.{{i}}.attention.{name}.weight" for name in ("wq", "wk", "wv", "wo")),
        *(f"layers.{{i}}.feed_forward.{name}.weight" for name in ("w1", "w2", "w3")),
        "layers.{i}.attention_norm.weight",
        "layers.{i}.ffn_norm.weight",
    )
    projector = tuple(f"{_PROJECTOR}{layer}.{kind}" for layer in (0, 2) for kind in ("weight", "bias"))
    return (
        *(pair(f"decoder.{name}", name) for name in decoder),
        *(pair(name, name) for name in projector),
        *with_prefixes(VISION_NAMES, "vision_model.", "vision_model."),
    )


def huggingface_pairs(config: DecoderConfig) -> tuple[Pair, ...]:
    """Hugging Face: queries and keys have their rows permuted, for a rotation of halves instead of neighbours."""
    size = config.head_size
    plain = {
        "attention.wv": "self_attn.v_proj",
        "attention.wo": "self_attn.o_proj",
        "feed_forward.w1": "mlp.gate_proj",
        "feed_forward.w3": "mlp.up_proj",
        "feed_forward.w2": "mlp.down_proj",
        "attention_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
    }
    return (
        pair("decoder.tok_embeddings.weight", "model.language_model.embed_tokens.weight"),
        pair("decoder.norm.weight", "model.language_model.norm.weight"),
        pair("decoder.output.weight", "lm_head.weight"),
        *(
            pair(
                f"{_LAYER}attention.{ours}.weight",
                f"{_HF_LAYER}self_attn.{theirs}.weight",
                read=_neighbours_from_halves(size),
                write=_halves_from_neighbours(size),
            )
            for ours, theirs in (("wq", "q_proj"), ("wk", "k_proj"))
        ),
        *(pair(f"{_LAYER}{ours}.weight", f"{_HF_LAYER}{theirs}.weight") for ours, theirs in plain.items()),
        *(
            pair(f"{_PROJECTOR}{ours}.{kind}", f"{_HF_PROJECTOR}{theirs}.{kind}")
            for ours, theirs in (("0", "linear_1"), ("2", "linear_2"))
            for kind in ("weight", "bias")
        ),
        *with_prefixes(TIMM_VISION_NAMES, "vision_model.", "model.vision_tower.timm_model."),
    )


def _neighbours_from_halves(head_size: int) -> Change:
    """Row p * size/2 + j of each head becomes row 2j + p."""

    def change(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        (weight,) = tensors
        return (weight.unflatten(0, (-1, 2, head_size // 2)).transpose(1, 2).flatten(0, 2),)

    return change


def _halves_from_neighbours(head_size: int) -> Change:
    def change(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        (weight,) = tensors
        return (weight.unflatten(0, (-1, head_size // 2, 2)).transpose(1, 2).flatten(0, 2),)

    return change
