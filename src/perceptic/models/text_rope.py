"""Rotary position embedding of the decoder as a pure function of positions (spec 1.3 and 2.2).

Neighbouring channels are pairs, as in the vision tower. Everything is fp32 on purpose: at positions in the thousands
the rounding of position * frequency is visible, and the released models were made with it.

Shapes: B batch, L tokens, K head size, P = K/2 rotated pairs.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from perceptic.configs_plm import DecoderConfig
from perceptic.models.rope import RopeTable


def rope_frequencies(config: DecoderConfig, device: torch.device | None = None) -> Tensor:
    """Radians per position of each pair, (P,) fp32, with Llama 3's scaling where the configuration has one.

    Scaling divides the frequencies of wavelengths beyond the old context by `rope_scale_factor`, leaves short ones
    alone and blends between.
    """
    exponents = torch.arange(0, config.head_size, 2, dtype=torch.float32, device=device) / config.head_size
    frequencies_P = 1.0 / config.rope_theta**exponents
    if config.rope_scale_factor == 1:
        return frequencies_P
    wavelengths_P = 2 * math.pi / frequencies_P
    blend_P = (config.old_context_len / wavelengths_P - config.low_freq_factor) / (
        config.high_freq_factor - config.low_freq_factor
    )
    scaled_P = frequencies_P / config.rope_scale_factor
    blended_P = (1 - blend_P) * scaled_P + blend_P * frequencies_P
    long_P = wavelengths_P > config.old_context_len / config.low_freq_factor
    short_P = wavelengths_P < config.old_context_len / config.high_freq_factor
    return torch.where(short_P, frequencies_P, torch.where(long_P, scaled_P, blended_P))


def text_rope_table(positions: Tensor, config: DecoderConfig) -> RopeTable:
    """Cosine and sine for integer positions (L,) or (B, L); image tokens count like any other."""
    angles = positions[..., None].float() * rope_frequencies(config, positions.device)
    return RopeTable(cos_LP=angles.cos(), sin_LP=angles.sin())
