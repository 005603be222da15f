"""How probable a model finds a text: log-likelihoods of the tokens of a prompt (spec section 7).

Logits of a long prompt would take gigabytes (11,000 positions of 128,000 numbers), so they are made and dropped a
slice at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from perceptic.inference.prompts import Prompt, prompt_rows
from perceptic.models.perception_lm import PerceptionLM

_POSITIONS_AT_ONCE = 256


@dataclass(frozen=True)
class PromptScores:
    """For each token of a prompt but the first, given those before it.

    Attributes:
        log_probabilities: float32 (L - 1,).
        is_best: bool (L - 1,), whether it was the most probable token.
    """

    log_probabilities: Tensor
    is_best: Tensor


@torch.inference_mode()
def score_prompt(model: PerceptionLM, prompt: Prompt) -> PromptScores:
    """Log-likelihoods of a prompt's tokens, on the CPU."""
    hidden_LD = model.decoder(prompt_rows(model, prompt, 0))[0]
    targets = torch.tensor(prompt.token_ids[1:], device=hidden_LD.device)
    log_probabilities, is_best = [], []
    for hidden, wanted in zip(hidden_LD[:-1].split(_POSITIONS_AT_ONCE), targets.split(_POSITIONS_AT_ONCE), strict=True):
        logits = model.decoder.logits(hidden).float()
        log_probabilities.append(logits.log_softmax(-1).gather(-1, wanted[:, None])[:, 0].cpu())
        is_best.append((logits.argmax(-1) == wanted).cpu())
    return PromptScores(torch.cat(log_probabilities), torch.cat(is_best))
