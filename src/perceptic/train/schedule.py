"""The learning rate as a pure function of the step: linear warm-up, then a half cosine."""

from __future__ import annotations

import math


def cosine_with_warmup(
    step: int, num_steps: int, peak: float, warmup_steps: int, final: float = 0.0, *, from_zero: bool = False
) -> float:
    """Learning rate of `step` (from 0): reaches `peak` after `warmup_steps` and `final` after `num_steps`.

    Args:
        from_zero: the first step of the warm-up has learning rate 0, each later one what else the one before it has.
    """
    if step < warmup_steps:
        return peak * (step if from_zero else step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, num_steps - warmup_steps)
    return final + (peak - final) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
