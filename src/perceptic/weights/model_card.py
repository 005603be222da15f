"""The README of a saved model: what it is, how to load it, under which licence."""

from __future__ import annotations

from perceptic.configs import ClipConfig, TextConfig, VisionConfig
from perceptic.zoo import count_text_parameters, count_vision_parameters, matching_card

_KINDS = {"CLIP": "vision and text towers", "VisionTransformer": "vision tower", "TextTransformer": "text tower"}


def write_model_card(name: str, config: ClipConfig | VisionConfig | TextConfig) -> str:
    """Markdown with the header the hub reads. `name` is the folder's.

    A zoo model of the same architecture is named, but its licence is not taken over: the weights may be another
    person's.
    """
    match = matching_card(config)
    architecture = f"the architecture of {match.name}" if match else "an architecture of its own"
    return f"""---
library_name: perceptic
pipeline_tag: {"zero-shot-image-classification" if isinstance(config, ClipConfig) else "feature-extraction"}
---

# {name}

A Perception Encoder ({_kind(config)}, {_count(config):,} parameters) with {architecture}.

```python
import perceptic

model = perceptic.{_class_name(config)}.from_pretrained("{name}")
```

`config.json` has the architecture, `preprocessing.json` how pixels enter, `model.safetensors` the weights.
Add here: what it was trained on, what it is good and bad at, and its licence.
"""


def _kind(config: ClipConfig | VisionConfig | TextConfig) -> str:
    return _KINDS[_class_name(config)]


def _class_name(config: ClipConfig | VisionConfig | TextConfig) -> str:
    if isinstance(config, ClipConfig):
        return "CLIP"
    return "VisionTransformer" if isinstance(config, VisionConfig) else "TextTransformer"


def _count(config: ClipConfig | VisionConfig | TextConfig) -> int:
    if isinstance(config, ClipConfig):
        return count_vision_parameters(config.vision) + count_text_parameters(config.text) + 1
    if isinstance(config, VisionConfig):
        return count_vision_parameters(config)
    return count_text_parameters(config)
