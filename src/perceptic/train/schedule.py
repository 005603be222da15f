"""The learning rate as a pure function of the step: linear warm-up, then a half cosine."""

from __future__ import annotations

import math


def cosine_with_warmup(step: int, num_steps: int, peak: float, warmup_steps: int, final: float = 0.0) -> float:
    """Learning rate of `step` (from 0): reaches `peak` after `warmup_steps` and `final` after `num_steps`."""
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, num_steps - warmup_steps)
    return final + (peak - final) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
