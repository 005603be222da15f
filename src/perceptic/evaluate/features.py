"""Frozen features of pictures and videos: read, hashed, decoded in threads, encoded in batches, kept by content.

Shapes: N items, F frames (1 for a picture), L tokens, D width, E embedding size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from perceptic.configs import Preprocessing
from perceptic.errors import ConfigError, DataError
from perceptic.evaluate.feature_cache import FeatureCache, content_key, keys_digest
from perceptic.inference.encode import Encoder, unit_vectors
from perceptic.media.collection import MediaFile, MediaKind
from perceptic.media.images import load_image
from perceptic.media.prefetch import Failure, decode_stream
from perceptic.media.preprocess import ImageTransform
from perceptic.media.video import read_video

Pooling = Literal["embedding", "mean", "class", "tokens"]
OnCount = Callable[[int, int], None]


@dataclass(frozen=True)
class Medium:
    """A picture or video of a data set, wherever its bytes lie. `name` is unique in its data set."""

    name: str
    kind: MediaKind
    read: Callable[[], bytes]


@dataclass(frozen=True)
class FeatureSpec:
    """Which features.

    Attributes:
        layer: a block (0 the first, -1 the last), its tokens normalised by the tower's last norm; None for the
            model's own embedding, after pooling and projection.
        pooling: "embedding" needs layer None; of a block: "mean" of the patch tokens, its "class" token, or all
            "tokens" (F, L, D), class token first.
        num_frames: of a video. resize_mode: another way to the model's square; None: the model's own.
        mirror: left becomes right.
    """

    layer: int | None = None
    pooling: Pooling = "embedding"
    num_frames: int = 8
    resize_mode: Literal["squash", "center_crop"] | None = None
    mirror: bool = False

    def __post_init__(self) -> None:
        if (self.layer is None) != (self.pooling == "embedding"):
            raise ConfigError(
                f"pooling '{self.pooling}' does not go with layer {self.layer}: a block has mean, class, tokens"
            )

    def preprocessing(self, encoder: Encoder) -> Preprocessing:
        """The encoder's, with this resize mode."""
        own = encoder.preprocessing
        return own if self.resize_mode is None else own.replace(resize_mode=self.resize_mode)

    def recipe(self, encoder: Encoder, kind: MediaKind) -> dict[str, Any]:
        """Everything that decides the features of a medium, as JSON values."""
        values = {name: value for name, value in asdict(self).items() if name not in ("num_frames", "resize_mode")}
        return {
            **values,
            "kind": kind,
            "num_frames": self.num_frames if kind == "video" else 1,
            "weights": encoder.vision_fingerprint,
            "preprocessing": asdict(self.preprocessing(encoder)),
            "dtype": str(encoder.dtype).removeprefix("torch."),
            "device": encoder.device.type,
        }


@dataclass(frozen=True)
class Features:
    """Features of the media that could be read.

    Attributes:
        frames: for each of them (F, E), (F, D) or (F, L, D), not normalised.
        kept: their numbers among the media that were given. failures: name -> reason of the others.
        digest: of the bytes of all media that were read, in order.
    """

    frames: list[NDArray[Any]]
    kept: NDArray[np.int64]
    failures: dict[str, str]
    digest: str

    def vectors(self, *, normalize_frames: bool = False) -> Tensor:
        """(N, E) unit vectors: the mean over frames of raw (classification) or unit (retrieval) vectors, normalised."""
        means = []
        for value in self.frames:
            frames = torch.from_numpy(np.asarray(value, dtype=np.float32))
            means.append((unit_vectors(frames) if normalize_frames else frames).mean(dim=0))
        return unit_vectors(torch.stack(means))


def extract(
    encoder: Encoder,
    media: Sequence[Medium],
    spec: FeatureSpec,
    *,
    cache: Path | None = None,
    batch_size: int = 32,
    on_count: OnCount = lambda done, total: None,
) -> Features:
    """Features of media in their order; what the cache knows is not decoded again.

    Ctrl-C keeps what was computed. A medium that cannot be read is left out and listed.

    Raises:
        ConfigError: no such layer. DataError: not one medium could be read, or two have one name.
    """
    if len({medium.name for medium in media}) != len(media):
        raise DataError("two media of the data set have one name")
    found: dict[int, NDArray[Any]] = {}
    keys: dict[int, bytes] = {}
    failures: dict[str, str] = {}
    for kind in ("image", "video"):
        of_kind = [number for number, medium in enumerate(media) if medium.kind == kind]
        if not of_kind:
            continue
        store = FeatureCache(cache, spec.recipe(encoder, kind))
        worker = _Worker(encoder, spec, store, batch_size, [media[number] for number in of_kind])
        try:
            for index, key, value in worker.results():
                if isinstance(value, str):
                    failures[media[of_kind[index]].name] = value
                else:
                    found[of_kind[index]], keys[of_kind[index]] = value, key
                on_count(len(found) + len(failures), len(media))
        finally:
            store.flush()
    if not found:
        first = next(iter(failures.items()), ("", "there is none"))
        raise DataError(f"not one picture or video could be read; the first: {first[0]}: {first[1]}")
    kept = sorted(found)
    digest = keys_digest([keys[number] for number in kept])
    return Features([found[number] for number in kept], np.array(kept, dtype=np.int64), failures, digest)


@dataclass(frozen=True)
class _Read:
    """A medium's key and either its known features or its pixels, uint8 (F, 3, S, S)."""

    key: bytes
    known: NDArray[Any] | None = None
    pixels: Tensor | None = None


class _Worker:
    """Reads and decodes in threads, encodes in this one."""

    def __init__(
        self, encoder: Encoder, spec: FeatureSpec, store: FeatureCache, batch_size: int, media: Sequence[Medium]
    ) -> None:
        self._encoder, self._spec, self._store, self._batch_size = encoder, spec, store, batch_size
        self._media = list(media)
        self._transform = ImageTransform(spec.preprocessing(encoder))
        self._waiting: list[tuple[int, _Read]] = []

    def results(self) -> Iterator[tuple[int, bytes, NDArray[Any] | str]]:
        """Number, key and features of each medium, or the reason why it has none."""
        # The stream hands on files; a medium may lie inside a tar or a table, so its number stands for its path.
        files = [MediaFile(Path(str(index)), medium.kind) for index, medium in enumerate(self._media)]
        for result in decode_stream(files, self._read, ordered=False):
            index = int(result.file.path.name)
            if isinstance(result, Failure):
                yield index, b"", result.error.reason
            elif result.value.known is not None:
                yield index, result.value.key, result.value.known
            else:
                self._waiting.append((index, result.value))
                if self._num_waiting() >= self._batch_size:
                    yield from self._flush()
        yield from self._flush()

    def _read(self, file: MediaFile) -> _Read:
        medium = self._media[int(file.path.name)]
        content = medium.read()
        key = content_key(content)
        known = self._store.get(key)
        return _Read(key, known) if known is not None else _Read(key, pixels=self._pixels(content, medium.kind))

    def _pixels(self, content: bytes, kind: MediaKind) -> Tensor:
        if kind == "image":
            pixels = self._transform.pixels(load_image(content))[None]
        else:
            pixels = self._transform.frame_pixels(read_video(content, num_frames=self._spec.num_frames))
        return pixels.flip(-1) if self._spec.mirror else pixels

    def _num_waiting(self) -> int:
        return sum(len(read.pixels) for _, read in self._waiting if read.pixels is not None)

    def _flush(self) -> Iterator[tuple[int, bytes, NDArray[Any]]]:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        parts = [read.pixels for _, read in waiting if read.pixels is not None]
        pixels = self._transform.normalize(torch.cat(parts))
        values = encode_layer(self._encoder, pixels, self._spec, self._batch_size).split([len(part) for part in parts])
        for (index, read), value in zip(waiting, values, strict=True):
            array = value.numpy()
            self._store.add(read.key, array)
            yield index, read.key, array


@torch.no_grad()
def encode_layer(encoder: Encoder, pixels: Tensor, spec: FeatureSpec, batch_size: int = 32) -> Tensor:
    """(N, 3, S, S) pixels to (N, E) float32, (N, D) float32, or all tokens (N, L, D) float16.

    Raises:
        ConfigError: no such layer, or a class token of a tower that has none.
    """
    if spec.layer is None:
        return encoder.encode_pixels(pixels, batch_size)
    prefix = encoder.tower.config.num_prefix_tokens
    if spec.pooling == "class" and not prefix:
        raise ConfigError(f"{encoder.name} has no class token; take pooling mean")
    parts = []
    for batch in pixels.split(batch_size):
        tokens = (
            encoder.tower.forward_features(batch.to(encoder.device, encoder.dtype), norm=True, layer_idx=spec.layer)
            .float()
            .cpu()
        )
        if spec.pooling == "tokens":
            parts.append(tokens.half())
        else:
            parts.append(tokens[:, 0] if spec.pooling == "class" else tokens[:, prefix:].mean(dim=1))
    return torch.cat(parts)
