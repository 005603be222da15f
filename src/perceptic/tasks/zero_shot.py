"""Zero-shot classification: labels in words become vectors, and the nearest names the picture (spec section 6.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from perceptic.errors import ConfigError
from perceptic.inference.encode import Encoder, unit_vectors

DEFAULT_TEMPLATES = ("{}", "a photo of a {}", "a picture of a {}")

Templates = Sequence[str] | Mapping[str, Sequence[str]]


def label_vectors(encoder: Encoder, labels: Sequence[str], templates: Templates = DEFAULT_TEMPLATES) -> Tensor:
    """One unit vector per label, (labels, E): the normalised mean of its normalised prompt embeddings.

    Args:
        templates: sentences with `{}` (or the benchmarks' `{c}`) where the label goes; or label -> whole prompts.

    Raises:
        ConfigError: no labels, a label twice, a template without a place for the label, or a model without text.
    """
    prompts = [_prompts(label, templates) for label in _checked(labels)]
    vectors = unit_vectors(encoder.encode_texts([prompt for of_label in prompts for prompt in of_label]))
    means = [of_label.mean(dim=0) for of_label in vectors.split([len(of_label) for of_label in prompts])]
    return unit_vectors(torch.stack(means))


def fill(template: str, label: str) -> str:
    """A template with the label in its place. Raises ConfigError if it has none."""
    for place in ("{}", "{c}"):
        if place in template:
            return template.replace(place, label)
    raise ConfigError(f"template {template!r} has no place for the label: write {{}} where it goes")


def _prompts(label: str, templates: Templates) -> list[str]:
    if not isinstance(templates, Mapping):
        filled = [fill(template, label) for template in templates]
    elif label in templates:
        filled = list(templates[label])
    else:
        raise ConfigError(f"no prompts are given for the label {label!r}")
    if not filled:
        raise ConfigError("templates is empty: give at least one, for example '{}'")
    return filled


def _checked(labels: Sequence[str]) -> Sequence[str]:
    if isinstance(labels, str) or not labels:
        raise ConfigError("labels must be a list of at least one text")
    seen: set[str] = set()
    for label in labels:
        if not label.strip():
            raise ConfigError("a label is empty")
        if label in seen:
            raise ConfigError(f"the label {label!r} is given twice")
        seen.add(label)
    return labels
