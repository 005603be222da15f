"""Telling two sets of weights apart without reading all of them."""

from __future__ import annotations

import hashlib

from torch import nn


def fingerprint(module: nn.Module, samples_per_tensor: int) -> str:
    """Hexadecimal digest of names, shapes and evenly spaced values of all tensors.

    Sampled, so that it costs milliseconds for billions of parameters; training moves every tensor.
    """
    digest = hashlib.sha256()
    for name, parameter in sorted(module.state_dict().items()):
        flat = parameter.detach().flatten()
        step = max(1, flat.numel() // samples_per_tensor)
        digest.update(f"{name}{tuple(parameter.shape)}".encode())
        digest.update(flat[::step].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:32]
