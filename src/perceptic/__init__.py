"""perceptic: Perception Encoder and Perception Language Model.

    clip = perceptic.CLIP.from_pretrained("PE-Core-L14-336")
    tower = perceptic.VisionTransformer.from_pretrained("PE-Spatial-B16-512")
    perceptic.classify("cat.jpg", ["a dog", "a cat"], model="PE-Core-B16-224")

The names are looked up when they are first used: `import perceptic` imports neither torch nor any codec.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from perceptic.__about__ import __version__

if TYPE_CHECKING:
    from perceptic import transforms, world, zoo
    from perceptic.configs import ClipConfig, Preprocessing, TextConfig, VisionConfig
    from perceptic.errors import (
        ConfigError,
        DataError,
        HubError,
        MediaError,
        MissingDependencyError,
        OutputError,
        PercepticError,
        TextError,
        TrainError,
        WeightsError,
        WeightsNotFoundError,
    )
    from perceptic.inference.encode import Encoder, load_encoder
    from perceptic.media.images import load_image
    from perceptic.media.preprocess import ImageTransform
    from perceptic.media.video import read_video
    from perceptic.tasks.classify import classify
    from perceptic.tasks.embed import embed
    from perceptic.tasks.show import show
    from perceptic.tasks.similar import similar
    from perceptic.text.clip_tokenizer import ClipTokenizer
    from perceptic.weights.plm_pretrained import PerceptionLM
    from perceptic.weights.pretrained import CLIP, TextTransformer, VisionTransformer

_HOMES = {
    "CLIP": "weights.pretrained",
    "ClipConfig": "configs",
    "ClipTokenizer": "text.clip_tokenizer",
    "ConfigError": "errors",
    "DataError": "errors",
    "Encoder": "inference.encode",
    "HubError": "errors",
    "ImageTransform": "media.preprocess",
    "MediaError": "errors",
    "MissingDependencyError": "errors",
    "OutputError": "errors",
    "PercepticError": "errors",
    "PerceptionLM": "weights.plm_pretrained",
    "Preprocessing": "configs",
    "TextConfig": "configs",
    "TextError": "errors",
    "TextTransformer": "weights.pretrained",
    "TrainError": "errors",
    "VisionConfig": "configs",
    "VisionTransformer": "weights.pretrained",
    "WeightsError": "errors",
    "WeightsNotFoundError": "errors",
    "classify": "tasks.classify",
    "embed": "tasks.embed",
    "load_encoder": "inference.encode",
    "load_image": "media.images",
    "read_video": "media.video",
    "show": "tasks.show",
    "similar": "tasks.similar",
}
_MODULES = ("transforms", "world", "zoo")

__all__ = [
    "CLIP",
    "ClipConfig",
    "ClipTokenizer",
    "ConfigError",
    "DataError",
    "Encoder",
    "HubError",
    "ImageTransform",
    "MediaError",
    "MissingDependencyError",
    "OutputError",
    "PercepticError",
    "PerceptionLM",
    "Preprocessing",
    "TextConfig",
    "TextError",
    "TextTransformer",
    "TrainError",
    "VisionConfig",
    "VisionTransformer",
    "WeightsError",
    "WeightsNotFoundError",
    "__version__",
    "classify",
    "embed",
    "load_encoder",
    "load_image",
    "read_video",
    "show",
    "similar",
    "transforms",
    "world",
    "zoo",
]


def __getattr__(name: str) -> Any:
    """PEP 562: import a public name's home on first use and keep the name."""
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
