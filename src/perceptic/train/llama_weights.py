"""The weights of a Llama language model, for a decoder to begin with: in Meta's folders or Hugging Face's."""

from __future__ import annotations

from pathlib import Path

import torch

from perceptic.configs_plm import DecoderConfig
from perceptic.errors import TrainError
from perceptic.models.decoder import Decoder
from perceptic.weights.checkpoint import open_checkpoint
from perceptic.weights.names import StateDict
from perceptic.weights.plm_names import huggingface_pairs, original_pairs, to_ours
from perceptic.weights.shards import find_shards

_TABLES = ("rope.freqs",)
_HEADS = ("output.weight", "lm_head.weight")


def begin_decoder(decoder: Decoder, folder: Path) -> None:
    """Give a decoder the weights in a folder: `consolidated*.pth`, or `model*.safetensors` with their index.

    Raises:
        TrainError: weights of another architecture, or a folder with neither. WeightsError: damaged files.
    """
    state = {
        name.removeprefix("decoder."): value.float()
        for name, value in _read(folder.expanduser(), decoder.config).items()
    }
    try:
        decoder.load_state_dict(state)
    except RuntimeError as error:
        raise TrainError(f"decoder_init: {folder} does not fit the recipe's decoder: {error}") from error


def _read(folder: Path, config: DecoderConfig) -> StateDict:
    files = sorted(folder.glob("consolidated*.pth"))
    is_original = bool(files)
    if not files and not any(folder.glob("model*.safetensors")):
        raise TrainError(f"decoder_init: {folder} has no Llama weights: consolidated*.pth or model*.safetensors")
    state: StateDict = {}
    for path in files or find_shards(folder):
        checkpoint = open_checkpoint(path)
        keys = [key for key in checkpoint.shapes if _is_needed(key, config)]
        state |= checkpoint.cast(keys, torch.float32)
    if is_original:
        return to_ours(state, original_pairs(), "original")
    return to_ours({_with_tower(key): value for key, value in state.items()}, huggingface_pairs(config), "huggingface")


def _is_needed(key: str, config: DecoderConfig) -> bool:
    return key not in _TABLES and not (config.weight_tying and key in _HEADS)


def _with_tower(key: str) -> str:
    """A language model's name as it is called in a PerceptionLM."""
    return key.replace("model.", "model.language_model.", 1) if key.startswith("model.") else key
