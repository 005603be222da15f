"""The README of a saved PerceptionLM, and what is known of the released ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from perceptic.configs_plm import PLM_CONFIGS, PerceptionLMConfig
from perceptic.models.perception_lm import PerceptionLM

LICENCE = "FAIR Noncommercial Research License (with the Llama 3 Community License for the decoder)"


@dataclass(frozen=True)
class PLMCard:
    """A released PerceptionLM: where it is published and under which licence."""

    name: str
    config: PerceptionLMConfig
    repo_id: str
    licence: str


PLM_CARDS = {
    name: PLMCard(name, PLM_CONFIGS[name], f"facebook/{name}", LICENCE)
    for name in ("Perception-LM-1B", "Perception-LM-3B", "Perception-LM-8B")
}


def find_plm_card(name: str) -> PLMCard | None:
    """The card of a name such as `Perception-LM-1B`, `plm-1b` or `facebook/Perception-LM-1B`; None if there is none."""
    plain = name.rpartition("/")[2].lower().replace("_", "-")
    if plain.startswith("plm-"):
        plain = plain.replace("plm-", "perception-lm-", 1)
    return next((card for card in PLM_CARDS.values() if card.name.lower() == plain), None)


def count_plm_parameters(config: PerceptionLMConfig) -> int:
    """Distinct parameters of a model of this architecture; nothing is allocated."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in PerceptionLM(config).parameters())


def write_plm_card(name: str, config: PerceptionLMConfig) -> str:
    """Markdown with the header the hub reads."""
    decoder, vision = config.decoder, config.vision
    return f"""---
library_name: perceptic
pipeline_tag: image-text-to-text
---

# {name}

A PerceptionLM with {count_plm_parameters(config):,} parameters: a decoder of {decoder.n_layers} layers of width
{decoder.dim} behind a vision tower of {vision.layers} layers of width {vision.width}, for chunks of
{vision.image_size} px and {config.tokens_per_chunk} tokens each.

```python
import perceptic

plm = perceptic.PerceptionLM.from_pretrained("{name}")
```

Add here: what it was trained on, what it is good and bad at, and its licence.
"""
