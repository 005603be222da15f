"""A model at work: a loaded bundle on a device that turns pixels and texts into embeddings, batch by batch.

Everything that leaves here is float32 on the CPU, whatever the model computes in.

Shapes: N items, F frames, S image side, E embedding size, L tokens, D tower width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from perceptic.configs import Preprocessing
from perceptic.errors import ConfigError, MissingDependencyError, OutputError
from perceptic.inference.compiled import accelerate
from perceptic.inference.fingerprint import fingerprint
from perceptic.inference.processors import has_fast_bfloat16
from perceptic.models.clip import CLIP
from perceptic.models.vision import VisionTransformer
from perceptic.text.clip_tokenizer import ClipTokenizer
from perceptic.weights.pretrained import ModelBundle, load_bundle

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
DTypeName = Literal["auto", "float32", "bfloat16", "float16"]
ResizeMethod = Literal["exact", "fast"]

_FINGERPRINT_SAMPLES = 4096


class Encoder:
    """A model ready to encode. Build it once with `load_encoder` and use it for many calls.

    Attributes:
        name: the model's name for people. tower: its vision tower. clip: the whole model, None for a bare tower.
        preprocessing: how pictures become its pixels. device, dtype: where and in what it computes.
        fingerprint: tells two models apart by all weights that are loaded, text tower and logit scale included.
        vision_fingerprint: tells vision towers apart, which alone decide the vectors of pictures: the same whether the
            text tower is loaded or not, and for models that share a vision tower.
    """

    def __init__(self, bundle: ModelBundle, device: torch.device, dtype: torch.dtype, consume: bool = False) -> None:
        """`consume` lets the bundle's model be taken apart, so that its weights are never held twice."""
        model = bundle.model.to(device=device, dtype=dtype).eval()
        self.name = bundle.name
        # Taken before weights are packed: they must be the same with and without.
        tower = model.visual if isinstance(model, CLIP) else model
        self.vision_fingerprint = fingerprint(tower, _FINGERPRINT_SAMPLES)
        self.fingerprint = self.vision_fingerprint if tower is model else fingerprint(model, _FINGERPRINT_SAMPLES)
        fast = _accelerated(model, device, dtype, consume)
        self.clip = fast if isinstance(fast, CLIP) else None
        self.tower: VisionTransformer = fast.visual if isinstance(fast, CLIP) else fast
        self.preprocessing: Preprocessing = bundle.preprocessing
        self.device = device
        self.dtype = dtype
        self._tokenizer = bundle.tokenizer

    @property
    def embedding_size(self) -> int:
        return self.tower.output_dim

    @property
    def logit_scale(self) -> float:
        """What cosine similarities are multiplied with before the softmax over texts."""
        return float(self.require_text("zero-shot labels").logit_scale.detach().float().exp())

    @torch.no_grad()
    def encode_pixels(self, pixels: Tensor, batch_size: int = 32) -> Tensor:
        """(N, 3, S, S) float pixels in [-1, 1] to (N, E) embeddings, not normalised.

        A tower without pooling (Lang, Spatial) has no published image embedding: the mean of its patch tokens stands
        for the picture, which ranks pictures by likeness and cannot be compared with texts.
        """
        parts = [self._encode_batch(batch) for batch in pixels.split(batch_size)]
        return torch.cat(parts) if parts else torch.empty(0, self.embedding_size)

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str], batch_size: int = 256) -> Tensor:
        """Texts to (N, E) embeddings, not normalised. Longer texts than the context are cut, as in training.

        Raises:
            ConfigError: the model has no text tower.
            TextError: it came without a vocabulary.
        """
        clip = self.require_text("text queries and labels")
        # A query is a person's text: "<end_of_text>" inside it is those letters, not a control token.
        ids = self.tokenizer(list(texts), clip.context_length, allow_special=False)
        parts = [clip.encode_text(batch.to(self.device)).float().cpu() for batch in ids.split(batch_size)]
        return torch.cat(parts) if parts else torch.empty(0, self.embedding_size)

    @torch.no_grad()
    def patch_features(self, pixels: Tensor, layer: int = -1) -> Tensor:
        """(1, 3, h, w) pixels to the patch tokens after block `layer` (0 the first, -1 the last), (rows, columns, D).

        Raises:
            ConfigError: no such layer.
        """
        rows, columns = self.tower.grid(pixels)
        tokens = self.tower.forward_features(
            pixels.to(self.device, self.dtype), norm=True, layer_idx=layer, strip_cls_token=True
        )
        features: Tensor = tokens[0].float().cpu().unflatten(0, (rows, columns))
        return features

    @property
    def tokenizer(self) -> ClipTokenizer:
        self.require_text("tokenising")
        assert self._tokenizer is not None
        return self._tokenizer

    def operations_per_picture(self) -> float:
        """Rough number of floating-point operations for one picture: two per weight of the blocks and token."""
        config = self.tower.config
        weights = config.layers * (4 * config.width**2 + 2 * config.width * config.mlp_width)
        return 2.0 * weights * (config.grid_size**2 + config.num_prefix_tokens)

    def require_text(self, purpose: str) -> CLIP:
        """The whole model. Raises ConfigError, naming the purpose, if there is only a vision tower."""
        if self.clip is None:
            raise ConfigError(
                f"{self.name} is a vision tower without a text tower: {purpose} need a PE-Core model, "
                "for example PE-Core-B16-224"
            )
        return self.clip

    def _encode_batch(self, pixels: Tensor) -> Tensor:
        features = self.tower(pixels.to(self.device, self.dtype))
        if self.tower.config.pool_type == "none":
            prefix = self.tower.config.num_prefix_tokens
            features = features[:, prefix:].mean(dim=1)
        embeddings: Tensor = features.float().cpu()
        return embeddings


def load_encoder(
    model: str | Path | ModelBundle | Encoder,
    *,
    needs_text: bool = False,
    device: str = "auto",
    dtype: DTypeName = "auto",
    method: ResizeMethod | None = None,
) -> Encoder:
    """Make a model ready to encode.

    Args:
        model: a zoo name, hub repository, folder or file; or a bundle; an `Encoder` is returned as it is, and the
            other arguments are ignored.
        needs_text: load the text tower too; without it pictures alone cost less memory and need no vocabulary.
        device: "auto" (an accelerator if torch sees one, else the CPU) or a torch device name.
        dtype: what the model computes in. "auto": bfloat16 if the weights were saved in it and the device has units
            for it, else float32.
        method: "exact" resizes as the model was trained, "fast" is up to one grey level off; None: as the model says.

    Raises:
        ConfigError: an unknown device or dtype, or `needs_text` and a model without a text tower.
        WeightsError: the model cannot be found or read.
        TextError: `needs_text`, and the model's vocabulary cannot be found.
    """
    if isinstance(model, Encoder):
        return model
    if dtype != "auto" and dtype not in DTYPES:
        raise ConfigError(f"dtype must be one of auto, {', '.join(DTYPES)}, not {dtype!r}")
    place = resolve_device(device)
    if isinstance(model, ModelBundle):
        bundle = model
    else:
        bundle = load_bundle(model, kind=None if needs_text else "vision", dtype=DTYPES.get(dtype))
    if method is not None:
        bundle = replace(bundle, preprocessing=bundle.preprocessing.replace(method=method))
    chosen = DTYPES[dtype] if dtype != "auto" else _natural_dtype(bundle, place)
    encoder = Encoder(bundle, place, chosen, consume=bundle is not model)
    if needs_text:
        encoder.require_text("text queries and labels")
    return encoder


def resolve_device(device: str) -> torch.device:
    """A device by name; "auto" takes CUDA, then Apple's MPS, then the CPU. Raises ConfigError if it is not there."""
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps") if torch.backends.mps.is_available() else torch.device("cpu")
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device '{device}' cannot be used here: {str(error).splitlines()[0]}") from error
    return place


def unit_vectors(vectors: Tensor) -> Tensor:
    """Rows scaled to length 1 (a zero row stays zero)."""
    return F.normalize(vectors, dim=-1)


def pool_frames(frame_vectors: Tensor, *, normalize_frames: bool) -> Tensor:
    """(F, E) raw frame embeddings to one unit vector (E,).

    With `normalize_frames` each frame counts alike (retrieval); without, the mean of the raw embeddings is normalised
    (classification). Spec section 6.2.
    """
    frames = unit_vectors(frame_vectors) if normalize_frames else frame_vectors
    return unit_vectors(frames.mean(dim=0))


def _natural_dtype(bundle: ModelBundle, device: torch.device) -> torch.dtype:
    saved = next(bundle.model.parameters()).dtype
    return torch.bfloat16 if saved == torch.bfloat16 and has_fast_bfloat16(device) else torch.float32


def _accelerated(
    model: CLIP | VisionTransformer, device: torch.device, dtype: torch.dtype, consume: bool
) -> CLIP | VisionTransformer:
    """The model packed for this CPU where that is possible, else as it is."""
    if device.type != "cpu" or dtype == torch.float16:
        return model
    try:
        if isinstance(model, CLIP):
            return accelerate(model, dtype=dtype, consume=consume)
        return accelerate(model, dtype=dtype, consume=consume)
    except (MissingDependencyError, OutputError):
        return model  # a processor without the units, or no place to keep compiled kernels
