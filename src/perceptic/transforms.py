"""The two functions that examples for the original Perception Encoder import from its `transforms` module.

    import perceptic.transforms as transforms
    preprocess = transforms.get_image_transform(model.image_size)
    tokenizer = transforms.get_text_tokenizer(model.context_length)

Saved models carry their own preprocessing and vocabulary; new code takes them from there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from perceptic.media.preprocess import ImageTransform
    from perceptic.text.clip_tokenizer import ClipTokenizer

__all__ = ["get_image_transform", "get_text_tokenizer"]


def get_image_transform(
    image_size: int, center_crop: bool = False, interpolation: Literal["bilinear", "bicubic"] = "bilinear"
) -> ImageTransform:
    """A callable from a PIL image to a float32 tensor (3, image_size, image_size) in [-1, 1] (spec 4).

    Args:
        image_size: side in pixels, `model.image_size`.
        center_crop: resize the shorter side and cut out the middle, instead of squashing to a square.
        interpolation: a name, or torchvision's `InterpolationMode` of that name.

    Raises:
        ConfigError: a size that is not positive, or another interpolation.
    """
    from perceptic.configs import Preprocessing
    from perceptic.media.preprocess import ImageTransform

    return ImageTransform(
        Preprocessing(
            image_size=image_size,
            resize_mode="center_crop" if center_crop else "squash",
            interpolation=getattr(interpolation, "value", interpolation),
        )
    )


def get_text_tokenizer(context_length: int) -> ClipTokenizer:
    """CLIP's tokenizer with rows of `context_length` ids (`model.context_length`: 32, or 72 for PE-Core-G).

    Raises:
        TextError: a length below 2, or CLIP's vocabulary found neither in an installed open_clip_torch nor on the hub.
    """
    from perceptic.text.clip_tokenizer import ClipTokenizer

    return ClipTokenizer.find(context_length=context_length)
