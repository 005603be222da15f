"""How far two models' ideas of the next token are apart: what fewer bits cost, as numbers.

Shapes: L positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

_POSITIONS_AT_ONCE = 128


@dataclass(frozen=True)
class Agreement:
    """Of a model with a reference, over positions.

    Attributes:
        top1: the fraction of positions where both have the same most probable token.
        mean_kl: of the reference's distribution from the model's, in nats; 0 is equal.
    """

    positions: int
    top1: float
    mean_kl: float


def agreement(reference_LV: Tensor, logits_LV: Tensor) -> Agreement:
    """Compare logits (..., V) of the same positions; computed in float32, a slice of positions at a time."""
    reference_LV, logits_LV = reference_LV.flatten(0, -2), logits_LV.flatten(0, -2)
    assert reference_LV.shape == logits_LV.shape, f"{tuple(reference_LV.shape)} against {tuple(logits_LV.shape)}"
    same, divergence = 0, 0.0
    with torch.inference_mode():
        parts = zip(reference_LV.split(_POSITIONS_AT_ONCE), logits_LV.split(_POSITIONS_AT_ONCE), strict=True)
        for reference, logits in parts:
            same += int((reference.argmax(-1) == logits.argmax(-1)).sum())
            wanted, found = reference.float().log_softmax(-1), logits.float().log_softmax(-1)
            divergence += float((wanted.exp() * (wanted - found)).sum())
    positions = len(reference_LV)
    return Agreement(positions, same / positions, divergence / positions)


def combined(parts: Iterable[Agreement]) -> Agreement:
    """Several together, each position counted alike."""
    listed = list(parts)
    positions = sum(part.positions for part in listed)
    return Agreement(
        positions,
        sum(part.top1 * part.positions for part in listed) / positions,
        sum(part.mean_kl * part.positions for part in listed) / positions,
    )
