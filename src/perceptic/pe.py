"""The original's entry module under our roof: `import perceptic.pe as pe`.

Code written for the original runs with only its import lines changed:

    import perceptic.pe as pe
    import perceptic.transforms as transforms

    model = pe.CLIP.from_config("PE-Core-L14-336", pretrained=True)
    preprocess = transforms.get_image_transform(model.image_size)
    tokenizer = transforms.get_text_tokenizer(model.context_length)
    image_features, text_features, logit_scale = model(image, text)

Two differences, both on purpose: wrong weights are an error, not a printed line; and `encode_video(normalize=True)`
returns unit vectors (`normalize="frames"` is the original's value).
"""

from __future__ import annotations

from perceptic.configs import TextConfig, VisionConfig
from perceptic.models.layers import AttentionPool, SelfAttention
from perceptic.weights.pretrained import CLIP, TextTransformer, VisionTransformer

AttentionPooling = AttentionPool  # the original's name

__all__ = [
    "CLIP",
    "AttentionPooling",
    "SelfAttention",
    "TextConfig",
    "TextTransformer",
    "VisionConfig",
    "VisionTransformer",
]
