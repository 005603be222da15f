"""What a PerceptionLM takes in memory, from its configuration and the headers of its files, before a weight is read.

Weights are counted exactly. Keys and values are exact for the tokens that are asked for. Working memory is what the
largest moment of a pass holds besides: in the tower, eight chunks in the middle of a block; in the decoder, a prompt
in the middle of a feed-forward. It is an estimate (docs/quantization.md compares it with measured peaks).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from perceptic.configs import VisionConfig
from perceptic.configs_plm import DecoderConfig, PerceptionLMConfig
from perceptic.errors import NotEnoughMemoryError
from perceptic.models.decoder import Decoder
from perceptic.models.quantized import QUANTIZATIONS, Quantization, parse_quantization, quantize_decoder
from perceptic.weights.available_memory import available_bytes
from perceptic.weights.checkpoint import open_checkpoint
from perceptic.weights.dtypes import dtype_name, parse_dtype
from perceptic.weights.loading import build_empty
from perceptic.weights.plm_card import count_plm_parameters, find_plm_card
from perceptic.weights.plm_folder import PLMFolder, read_plm_folder
from perceptic.weights.plm_quantized import is_packed
from perceptic.weights.plm_sources import find_plm_folder

# What `inference.prompts` and `inference.prefill` let through at once; a test holds them together.
CHUNKS_AT_ONCE = 8
ROWS_AT_ONCE = {"cpu": 1024, "other": 4096}


@dataclass(frozen=True)
class Workload:
    """What a model will hold at once.

    Attributes:
        num_tokens: of prompt and answer together, in each row.
        num_chunks: pictures, tiles and frames of one prompt.
        batch_size: rows that are answered together.
    """

    num_tokens: int = 0
    num_chunks: int = 0
    batch_size: int = 1


@dataclass(frozen=True)
class DeviceMemory:
    """The share of one device, in bytes. `available_bytes` None: unknown there."""

    device: str
    weights_bytes: int
    cache_bytes: int
    working_bytes: int
    available_bytes: int | None

    @property
    def needed_bytes(self) -> int:
        return self.weights_bytes + self.cache_bytes + self.working_bytes

    @property
    def fits(self) -> bool:
        """True also where nobody knows what is available."""
        return self.available_bytes is None or self.needed_bytes <= self.available_bytes

    def describe(self) -> str:
        """One phrase: what is needed, for what, and what is there."""
        parts = {"weights": self.weights_bytes, "cache": self.cache_bytes, "working": self.working_bytes}
        listed = ", ".join(f"{name} {_size(value)}" for name, value in parts.items() if value)
        there = "unknown" if self.available_bytes is None else _size(self.available_bytes)
        return f"{_size(self.needed_bytes)} on {self.device} ({listed}; available: {there})"


@dataclass(frozen=True)
class MemoryEstimate:
    """What loading a model and answering with it takes.

    Attributes:
        name: of the model. weights: how its decoder is stored, `bfloat16` or `int8`.
        devices: one, or the decoder's and the vision tower's.
    """

    name: str
    weights: str
    workload: Workload
    devices: tuple[DeviceMemory, ...]

    @property
    def needed_bytes(self) -> int:
        """On all devices together."""
        return sum(device.needed_bytes for device in self.devices)

    @property
    def fits(self) -> bool:
        return all(device.fits for device in self.devices)

    def describe(self) -> str:
        """One line for a person."""
        work = self.workload
        load = f" for {work.num_tokens:,} tokens" if work.num_tokens else ""
        load += f" and {work.num_chunks} chunks" if work.num_chunks else ""
        load += f" in each of {work.batch_size} rows" if work.batch_size > 1 else ""
        return f"{self.name} in {self.weights}{load} needs {' and '.join(d.describe() for d in self.devices)}"


def estimate_memory(
    source: str | Path | PLMFolder,
    *,
    dtype: torch.dtype | str | None = None,
    weights: str | Quantization | Mapping[str, str] | None = None,
    device: torch.device | str | None = None,
    vision_device: torch.device | str | None = None,
    workload: Workload | None = None,
    max_bytes: int | None = None,
) -> MemoryEstimate:
    """What a model will take. The arguments are those of `PerceptionLM.from_pretrained`.

    Args:
        source: a released model's name needs no files; others are found, and fetched, as for loading.
        workload: None for weights alone.
        max_bytes: what a device may be used for, if that is less than it has.

    Raises:
        WeightsError and its kinds: the folder has no readable headers.
        ConfigError: an unknown type or name of weights.
    """
    facts = _facts(source)
    target = parse_dtype(dtype) or facts.dtype
    quantization = facts.quantization or (None if weights is None else parse_quantization(weights))
    sizes = _weights_bytes(facts.config, target, quantization)
    work = workload or Workload()
    first, second = torch.device(device or "cpu"), torch.device(vision_device or device or "cpu")
    cache = _cache_bytes(facts.config.decoder, target, work)
    decoder = _Share(sizes.decoder, cache, _prefill(facts.config, target, work, first))
    tower = _Share(sizes.vision, 0, _tower(facts.config, target, work))
    if first == second:
        # The tower is done before the decoder starts: the larger moment counts.
        shares = {
            first: _Share(decoder.weights + tower.weights, decoder.cache, max(decoder.working, tower.working)),
        }
    else:
        shares = {first: decoder, second: tower}
    return MemoryEstimate(
        name=facts.name,
        weights=dtype_name(target) if quantization is None else quantization.name,
        workload=work,
        devices=tuple(
            DeviceMemory(str(where), share.weights, share.cache, share.working, _room(where, max_bytes))
            for where, share in shares.items()
        ),
    )


def check_memory(estimate: MemoryEstimate, remedies: str = "") -> None:
    """Refuse what cannot fit.

    Args:
        remedies: what the user of the caller can do, in the words of that caller; else the arguments of loading.

    Raises:
        NotEnoughMemoryError: what is needed, what is available and what would help.
    """
    short = [device for device in estimate.devices if not device.fits]
    if not short:
        return
    advice = [f"weights='{name}'" for name in _smaller(estimate.weights)]
    if estimate.workload.num_chunks > 1:
        advice.append("fewer tiles or frames")
    if estimate.workload.batch_size > 1:
        advice.append("a smaller batch")
    advice.append("another device, or two (vision_device=...)")
    raise NotEnoughMemoryError(
        f"{estimate.describe()}: it does not fit on {' and '.join(device.device for device in short)}. "
        f"What helps: {remedies or ', '.join(advice)}; check_memory=False loads it anyway"
    )


@dataclass(frozen=True)
class _Facts:
    name: str
    config: PerceptionLMConfig
    dtype: torch.dtype
    quantization: Quantization | None


@dataclass(frozen=True)
class _Share:
    """Bytes on one device."""

    weights: int
    cache: int
    working: int


@dataclass(frozen=True)
class _WeightsBytes:
    """`vision`: tower and projector."""

    vision: int
    decoder: int


def _facts(source: str | Path | PLMFolder) -> _Facts:
    folder = source if isinstance(source, PLMFolder) else None
    if folder is None:
        card = None if Path(str(source)).expanduser().exists() else find_plm_card(str(source))
        if card is not None:
            return _Facts(card.name, card.config, torch.bfloat16, None)
        folder = read_plm_folder(find_plm_folder(str(source)))
    widest: torch.dtype | None = None
    for file in folder.weights:
        for key, value in open_checkpoint(file).shapes.items():
            if value.is_floating_point() and not is_packed(key):
                widest = value.dtype if widest is None else torch.promote_types(widest, value.dtype)
    return _Facts(folder.path.resolve().name, folder.config, widest or torch.float32, folder.quantization)


def _weights_bytes(config: PerceptionLMConfig, dtype: torch.dtype, quantization: Quantization | None) -> _WeightsBytes:
    decoder = build_empty(Decoder, config.decoder)
    others = count_plm_parameters(config) - sum(value.numel() for value in decoder.parameters())
    if quantization is not None:
        decoder = quantize_decoder(decoder, quantization, consume=True)
    own = sum(
        value.nbytes if is_packed(key) else value.numel() * dtype.itemsize
        for key, value in decoder.state_dict().items()
    )
    return _WeightsBytes(vision=others * dtype.itemsize, decoder=own)


def _cache_bytes(config: DecoderConfig, dtype: torch.dtype, work: Workload) -> int:
    return config.kv_values_per_token * dtype.itemsize * work.num_tokens * work.batch_size


def _prefill(config: PerceptionLMConfig, dtype: torch.dtype, work: Workload, device: torch.device) -> int:
    """The middle of a feed-forward for the tokens of one turn, the rows of all, and the tokens of all chunks.

    Rows that were read alone are copied into one cache before they go on together: for a moment there are two.
    """
    decoder, at_once = config.decoder, ROWS_AT_ONCE["cpu" if device.type == "cpu" else "other"]
    per_token = dtype.itemsize * (2 * decoder.dim + 3 * decoder.ffn_width)
    rows = 2 * work.num_tokens * decoder.dim * dtype.itemsize
    copy = _cache_bytes(decoder, dtype, work) if work.batch_size > 1 else 0
    return per_token * min(work.num_tokens, at_once) + rows + copy + _features(config, dtype, work)


def _tower(config: PerceptionLMConfig, dtype: torch.dtype, work: Workload) -> int:
    """The middle of a block for the chunks of one turn, all pixels, and the tokens of all chunks."""
    vision, at_once = config.vision, min(work.num_chunks, CHUNKS_AT_ONCE)
    tokens = at_once * (vision.grid_size**2 + vision.num_prefix_tokens)
    pixels = 3 * vision.image_size**2
    pixel_bytes = 4 * pixels * work.num_chunks + dtype.itemsize * pixels * at_once
    return tokens * _block_bytes(vision, dtype) + pixel_bytes + 2 * _features(config, dtype, work)


def _block_bytes(config: VisionConfig, dtype: torch.dtype) -> int:
    """Of a token in a block: rotating queries and keys in float32, or the two sides of GELU."""
    attention = 7 * dtype.itemsize * config.width + 2 * 4 * config.width
    mlp = dtype.itemsize * (2 * config.width + 2 * config.mlp_width)
    return max(attention, mlp)


def _features(config: PerceptionLMConfig, dtype: torch.dtype, work: Workload) -> int:
    return work.num_chunks * config.tokens_per_chunk * config.decoder.dim * dtype.itemsize


def _room(device: torch.device, max_bytes: int | None) -> int | None:
    free = available_bytes(device)
    return max_bytes if free is None else free if max_bytes is None else min(free, max_bytes)


def _smaller(weights: str) -> list[str]:
    """The quantisations that take less."""
    names = list(QUANTIZATIONS)
    return names[names.index(weights) + 1 :] if weights in names else names


def _size(number: int) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e8 else f"{number / 1e6:.1f} MB"
