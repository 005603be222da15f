"""The README of a saved PerceptionLM, and what is known of the released ones. Plain data, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from perceptic.configs_plm import PLM_CONFIGS, DecoderConfig, PerceptionLMConfig
from perceptic.zoo import HubFile, count_vision_parameters

# PLM-Nano lies in this package. Without weights only its tokenizer does.
NANO_NAME = "PLM-Nano"
NANO_FOLDER = Path(__file__).parents[1] / "assets" / NANO_NAME.lower()

LICENCE = "FAIR Noncommercial Research License (with the Llama 3 Community License for the decoder)"


@dataclass(frozen=True)
class PLMCard:
    """A released PerceptionLM: where it is published and under which licence."""

    name: str
    config: PerceptionLMConfig
    repo_id: str
    licence: str

    @property
    def config_file(self) -> HubFile:
        """The file that says what the model is; where it is, the rest is or was on its way."""
        return HubFile(self.repo_id, "config.json")


PLM_CARDS = {
    name: PLMCard(name, PLM_CONFIGS[name], f"facebook/{name}", LICENCE)
    for name in ("Perception-LM-1B", "Perception-LM-3B", "Perception-LM-8B")
}


def has_nano_weights() -> bool:
    """Whether this package brings weights of PLM-Nano."""
    return (NANO_FOLDER / "config.json").is_file()


def find_plm_card(name: str) -> PLMCard | None:
    """The card of a name such as `Perception-LM-1B`, `plm-1b` or `facebook/Perception-LM-1B`; None if there is none."""
    plain = name.rpartition("/")[2].lower().replace("_", "-")
    if plain.startswith("plm-"):
        plain = plain.replace("plm-", "perception-lm-", 1)
    return next((card for card in PLM_CARDS.values() if card.name.lower() == plain), None)


def count_plm_parameters(config: PerceptionLMConfig) -> int:
    """Distinct parameters of a model of this architecture, by arithmetic (no network is built)."""
    dim = config.decoder.dim
    projector = (config.vision.width + 1) * dim + (dim + 1) * dim
    return count_vision_parameters(config.vision) + projector + _count_decoder(config.decoder)


def _count_decoder(config: DecoderConfig) -> int:
    heads = config.n_heads + config.num_kv_heads
    attention = 2 * config.dim * heads * config.head_size
    layer = attention + 3 * config.dim * config.ffn_width + 2 * config.dim
    embeddings = config.vocab_size * config.dim * (1 if config.weight_tying else 2)
    return embeddings + config.n_layers * layer + config.dim


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
