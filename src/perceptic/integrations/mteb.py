"""Perception Encoders as models of mteb (version 2): pictures and texts into one space.

    import mteb
    from perceptic.integrations.mteb import register
    register()                                            # mteb has no entry points: say so once
    model = mteb.get_model("perceptic/PE-Core-B16-224")
    mteb.evaluate(model, mteb.get_tasks(["CIFAR10ZeroShot"]))

`PercepticEncoder("a-folder")` may be given to `mteb.evaluate` as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from perceptic import zoo
from perceptic.__about__ import __version__
from perceptic.errors import ConfigError
from perceptic.inference.encode import Encoder, load_encoder, unit_vectors
from perceptic.media.preprocess import ImageTransform
from perceptic.optional import require

require("mteb", "an encoder for mteb")
from mteb.models.abs_encoder import AbsEncoder  # noqa: E402  (said how to install it first)
from mteb.models.model_meta import ModelMeta, ScoringFunction  # noqa: E402

ORGANISATION = "perceptic"
_CHANNELS = 3


class PercepticEncoder(AbsEncoder):  # type: ignore[misc]  # the package has no types
    """An encoder in mteb's words.

    Args:
        model_name: a zoo name (with or without `perceptic/` before it), hub repository, folder or file.
        revision: taken and left alone; weights are named by their source.
        device, dtype: as in `load_encoder`.

    Raises:
        ConfigError: a model without a text tower. WeightsError: it cannot be found or read.
    """

    def __init__(
        self, model_name: str, revision: str | None = None, device: str | None = None, dtype: Any = "auto", **_: Any
    ) -> None:
        source = model_name.removeprefix(f"{ORGANISATION}/")
        self.model: Encoder = load_encoder(source, needs_text=True, device=device or "auto", dtype=dtype)
        self.transform = ImageTransform(self.model.preprocessing)
        self.mteb_model_meta = meta_of(source, self.model)

    @torch.inference_mode()
    def encode(self, inputs: Any, *, task_metadata: Any = None, **_: Any) -> Tensor:
        """Batches of `text`, `image` or both to unit vectors (N, E), float32; both are added and scaled to length 1.

        Raises:
            ConfigError: batches of neither.
        """
        parts = [self._batch(batch) for batch in inputs]
        return torch.cat(parts) if parts else torch.empty(0, self.model.embedding_size)

    def _batch(self, batch: dict[str, Any]) -> Tensor:
        found = []
        if batch.get("text") is not None:
            found.append(unit_vectors(self.model.encode_texts(list(batch["text"]))))
        if batch.get("image") is not None:
            pixels = torch.stack([self.transform(_picture(image)) for image in batch["image"]])
            found.append(unit_vectors(self.model.encode_pixels(pixels)))
        if not found:
            raise ConfigError(f"mteb gave {', '.join(map(str, batch))}; perceptic encodes text and image")
        return unit_vectors(torch.stack(found).sum(dim=0))


def register() -> list[str]:
    """Make every model of the zoo that has a text tower known to `mteb.get_model`. Returns their names."""
    from mteb.models.model_implementations import MODEL_REGISTRY

    names = []
    for card in zoo.cards():
        if card.text is not None:
            meta = _meta(card.name, card.parameters, card.text.output_dim, card.text.context_length)
            MODEL_REGISTRY[meta.name] = meta
            names.append(str(meta.name))
    return names


def meta_of(source: str, encoder: Encoder) -> Any:
    """What mteb wants to know of a loaded model."""
    clip = encoder.require_text("texts")
    parameters = sum(weight.numel() for weight in clip.parameters())
    return _meta(encoder.name or source, parameters, encoder.embedding_size, clip.context_length)


def _meta(name: str, parameters: int, size: int, context: int) -> Any:
    loader: Callable[..., Any] = partial(PercepticEncoder)
    return ModelMeta(
        loader=loader,
        name=f"{ORGANISATION}/{name}",
        revision=__version__,
        release_date=None,
        languages=["eng-Latn"],
        n_parameters=parameters,
        memory_usage_mb=None,
        max_tokens=context,
        embed_dim=size,
        license=None,
        open_weights=True,
        public_training_code=None,
        public_training_data=None,
        framework=["PyTorch"],
        similarity_fn_name=ScoringFunction.COSINE,
        use_instructions=False,
        training_datasets=None,
        modalities=["image", "text"],
    )


def _picture(image: Any) -> Any:
    """RGB; mteb may hand over a tensor (3, H, W) of uint8 or [0, 1]."""
    if isinstance(image, Tensor):
        from PIL import Image

        pixels = image if image.dtype == torch.uint8 else (image.float() * 255).round().clamp(0, 255).to(torch.uint8)
        if pixels.ndim != _CHANNELS or pixels.shape[0] != _CHANNELS:
            raise ConfigError(f"a picture is (3, H, W), not {tuple(pixels.shape)}")
        return Image.fromarray(pixels.permute(1, 2, 0).contiguous().cpu().numpy())
    return image.convert("RGB")
