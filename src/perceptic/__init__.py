"""perceptic: Perception Encoder and Perception Language Model.

    clip = perceptic.CLIP.from_pretrained("PE-Core-L14-336")
    tower = perceptic.VisionTransformer.from_pretrained("PE-Spatial-B16-512")
    perceptic.classify("cat.jpg", ["a dog", "a cat"], model="PE-Core-B16-224")
    perceptic.ask("holiday.mp4", "What happens here?", model="Perception-LM-1B").text

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
        NetworkError,
        NotEnoughMemoryError,
        OutputError,
        PercepticError,
        TextError,
        TrainError,
        WeightsError,
        WeightsNotFoundError,
    )
    from perceptic.inference.encode import Encoder, load_encoder
    from perceptic.inference.sampling import GenerationOptions
    from perceptic.media.images import load_image
    from perceptic.media.preprocess import ImageTransform
    from perceptic.media.video import read_video
    from perceptic.tasks.ask import ask
    from perceptic.tasks.assistant import Assistant
    from perceptic.tasks.caption import caption
    from perceptic.tasks.classify import classify
    from perceptic.tasks.describe import dense_describe, describe
    from perceptic.tasks.embed import embed
    from perceptic.tasks.locate import locate
    from perceptic.tasks.seeing import Seeing
    from perceptic.tasks.show import show
    from perceptic.tasks.similar import similar
    from perceptic.text.clip_tokenizer import ClipTokenizer
    from perceptic.weights.plm_pretrained import PerceptionLM
    from perceptic.weights.pretrained import CLIP, TextTransformer, VisionTransformer

_HOMES = {
    "Assistant": "tasks.assistant",
    "CLIP": "weights.pretrained",
    "ClipConfig": "configs",
    "ClipTokenizer": "text.clip_tokenizer",
    "ConfigError": "errors",
    "DataError": "errors",
    "Encoder": "inference.encode",
    "GenerationOptions": "inference.sampling",
    "HubError": "errors",
    "ImageTransform": "media.preprocess",
    "MediaError": "errors",
    "MissingDependencyError": "errors",
    "NetworkError": "errors",
    "NotEnoughMemoryError": "errors",
    "OutputError": "errors",
    "PercepticError": "errors",
    "PerceptionLM": "weights.plm_pretrained",
    "Preprocessing": "configs",
    "Seeing": "tasks.seeing",
    "TextConfig": "configs",
    "TextError": "errors",
    "TextTransformer": "weights.pretrained",
    "TrainError": "errors",
    "VisionConfig": "configs",
    "VisionTransformer": "weights.pretrained",
    "WeightsError": "errors",
    "WeightsNotFoundError": "errors",
    "ask": "tasks.ask",
    "caption": "tasks.caption",
    "classify": "tasks.classify",
    "dense_describe": "tasks.describe",
    "describe": "tasks.describe",
    "embed": "tasks.embed",
    "load_encoder": "inference.encode",
    "load_image": "media.images",
    "locate": "tasks.locate",
    "read_video": "media.video",
    "show": "tasks.show",
    "similar": "tasks.similar",
}
_MODULES = ("transforms", "world", "zoo")

__all__ = [
    "CLIP",
    "Assistant",
    "ClipConfig",
    "ClipTokenizer",
    "ConfigError",
    "DataError",
    "Encoder",
    "GenerationOptions",
    "HubError",
    "ImageTransform",
    "MediaError",
    "MissingDependencyError",
    "NetworkError",
    "NotEnoughMemoryError",
    "OutputError",
    "PercepticError",
    "PerceptionLM",
    "Preprocessing",
    "Seeing",
    "TextConfig",
    "TextError",
    "TextTransformer",
    "TrainError",
    "VisionConfig",
    "VisionTransformer",
    "WeightsError",
    "WeightsNotFoundError",
    "__version__",
    "ask",
    "caption",
    "classify",
    "dense_describe",
    "describe",
    "embed",
    "load_encoder",
    "load_image",
    "locate",
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
