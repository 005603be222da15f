"""Patch features as maps: their principal components, and their likeness to a point or a text.

Pure functions of tensors. Shapes: R rows, C columns of patches, D feature size, E embedding size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from perceptic.errors import ConfigError
from perceptic.inference.encode import Encoder, unit_vectors

_BLUR_SIGMA = 1.0


def principal_components(features_RCD: Tensor, num_components: int = 3, blur: bool = True) -> Tensor:
    """The strongest components of the patch features, (R, C, num_components), each scaled to [0, 1].

    With `blur` the features are first averaged with their 3 x 3 Gaussian blur, which suppresses single patches that
    carry global information instead of what lies under them (training-recipes section 5.4). Signs are fixed, so equal
    features give equal maps; scaling ignores the outermost 2 % on both sides.
    """
    rows, columns, _ = features_RCD.shape
    smooth = 0.5 * features_RCD + 0.5 * gaussian_blur(features_RCD) if blur else features_RCD
    centred = (smooth - smooth.mean(dim=(0, 1))).flatten(0, 1).double()
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    directions = directions[:num_components]
    strongest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
    scores = centred @ (directions * strongest.sign()).T
    if scores.shape[1] < num_components:  # fewer patches than components
        scores = F.pad(scores, (0, num_components - scores.shape[1]))
    components: Tensor = stretch(scores).float().unflatten(0, (rows, columns))
    return components


def gaussian_blur(features_RCD: Tensor) -> Tensor:
    """3 x 3 Gaussian blur with sigma 1; the border is repeated outwards."""
    offsets = torch.tensor([-1.0, 0.0, 1.0])
    line = torch.exp(-(offsets**2) / (2 * _BLUR_SIGMA**2))
    kernel = (line[:, None] * line[None, :]) / line.sum() ** 2
    maps_D1RC = F.pad(features_RCD.permute(2, 0, 1)[:, None], (1, 1, 1, 1), mode="replicate")
    return F.conv2d(maps_D1RC, kernel[None, None].to(features_RCD)).squeeze(1).permute(1, 2, 0)


def similarity_to_point(features_RCD: Tensor, x: float, y: float) -> Tensor:
    """Cosine of every patch with the patch under a point, (R, C). `x` and `y` are fractions of width and height."""
    rows, columns, _ = features_RCD.shape
    row, column = min(int(y * rows), rows - 1), min(int(x * columns), columns - 1)
    units = unit_vectors(features_RCD)
    return units @ units[row, column]


def similarity_to_text(encoder: Encoder, features_RCD: Tensor, text: str) -> Tensor:
    """Cosine of every patch with a text, (R, C), for the last block's normalised features of a PE-Core model.

    A patch has no embedding of its own: the model pools all of them into one. Here each patch is pooled as if it were
    the only one. Attention over one token returns that token's value, so this is the pool's value and output
    projections, its MLP and the final projection, applied to every patch (the idea of MaskCLIP, arXiv 2112.01071).

    Raises:
        ConfigError: a model without a text tower.
    """
    text_E = unit_vectors(encoder.encode_texts([text]))[0]
    return unit_vectors(dense_embeddings(encoder, features_RCD)) @ text_E


@torch.no_grad()
def dense_embeddings(encoder: Encoder, features_RCD: Tensor) -> Tensor:
    """Each patch pooled and projected alone, (R, C, E), not normalised. Raises ConfigError without attention pool."""
    tower = encoder.tower
    if tower.config.pool_type != "attn":
        raise ConfigError(f"{encoder.name} has no attention pool: texts can be compared with PE-Core models only")
    tokens_N1D = features_RCD.flatten(0, 1)[:, None].to(encoder.device, encoder.dtype)
    embeddings_NE = tower.project(tower.pool(tokens_N1D)).float().cpu()
    embeddings_RCE: Tensor = embeddings_NE.unflatten(0, features_RCD.shape[:2])
    return embeddings_RCE


def stretch(values: Tensor, ignore: float = 0.02) -> Tensor:
    """Each column of (N, K) scaled to [0, 1] between its low and high quantile; a constant column becomes 0.5."""
    low = values.quantile(ignore, dim=0)
    high = values.quantile(1 - ignore, dim=0)
    span = high - low
    scaled = (values - low) / span.clamp_min(torch.finfo(values.dtype).tiny)
    return torch.where(span > 1e-12, scaled.clamp(0, 1), 0.5)
