"""Files in, frame embeddings out, with decoding and the model at work at the same time.

Threads decode and resize ahead (Pillow, PyAV and torch release the interpreter lock in their loops); the caller's
thread runs the model on whole batches. What waits between them is uint8, a quarter of the float pixels.

Shapes: F frames (1 for an image), S image side, E embedding size.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from perceptic.configs import Preprocessing
from perceptic.inference.core_share import CoreShare, torch_threads
from perceptic.inference.encode import Encoder
from perceptic.media.collection import MediaFile
from perceptic.media.cores import usable_cores
from perceptic.media.images import load_image
from perceptic.media.prefetch import Failure, decode_stream
from perceptic.media.preprocess import ImageTransform
from perceptic.media.video import read_video

DEFAULT_BATCH_SIZE = 32
DEFAULT_NUM_FRAMES = 8
_LARGE_BATCH_OPERATIONS = 1e11  # about a second on one core


@dataclass(frozen=True)
class LoadedMedia:
    """A decoded and resized file. `pixels` uint8 (F, 3, S, S); `width` and `height` are the file's own."""

    pixels: Tensor
    width: int
    height: int
    frame_seconds: tuple[float, ...]  # where the frames lie in a video; empty for an image


@dataclass(frozen=True)
class EncodedMedia:
    """A file and its raw frame embeddings, float32 (F, E), not normalised."""

    file: MediaFile
    media: LoadedMedia
    frame_vectors: Tensor


@dataclass(frozen=True)
class Progress:
    """How far a run is: `done` of `total` files, `failed` of them unreadable."""

    done: int
    failed: int
    total: int


OnProgress = Callable[[Progress], None]


def ignore_progress(progress: Progress) -> None:
    """The default of `on_progress`."""


class MediaLoader:
    """Callable that turns a `MediaFile` into `LoadedMedia` with one model's preprocessing."""

    def __init__(self, preprocessing: Preprocessing, num_frames: int = DEFAULT_NUM_FRAMES) -> None:
        self.transform = ImageTransform(preprocessing)
        self.num_frames = num_frames

    def __call__(self, file: MediaFile) -> LoadedMedia:
        """Raises MediaError for a file that cannot be read."""
        if file.kind == "image":
            image = load_image(file.path)
            return LoadedMedia(self.transform.pixels(image)[None], image.width, image.height, ())
        frames = read_video(file.path, num_frames=self.num_frames)
        height, width = frames.pixels.shape[-2:]
        return LoadedMedia(self.transform.frame_pixels(frames), width, height, tuple(frames.seconds.tolist()))


def encode_media(
    encoder: Encoder,
    files: Sequence[MediaFile],
    *,
    num_frames: int = DEFAULT_NUM_FRAMES,
    batch_size: int = DEFAULT_BATCH_SIZE,
    on_progress: OnProgress = ignore_progress,
) -> Iterator[EncodedMedia | Failure]:
    """Encode files in batches of about `batch_size` frames. A bad file comes out as a `Failure`, at once.

    Results come as they get ready, so that a long video does not hold up the pictures behind it. `on_progress` is
    called when the consumer has taken a result and asks for the next.
    """
    results = _encode_media(encoder, files, num_frames, batch_size)
    failed = 0
    for done, result in enumerate(results, start=1):
        failed += isinstance(result, Failure)
        yield result
        on_progress(Progress(done, failed, len(files)))


def _encode_media(
    encoder: Encoder, files: Sequence[MediaFile], num_frames: int, batch_size: int
) -> Iterator[EncodedMedia | Failure]:
    load = MediaLoader(encoder.preprocessing, num_frames)
    batcher = _Batcher(encoder, load.transform, batch_size)  # before torch is held to one thread
    workers = usable_cores()
    # A whole next batch must be able to wait, or the model waits for the part of it that had no room.
    ahead = batch_size + 2 * workers
    with torch_threads(1):
        for result in decode_stream(files, load, workers=workers, ahead=ahead, ordered=False):
            if isinstance(result, Failure):
                yield result
            else:
                yield from batcher.add(result.file, result.value)
        yield from batcher.flush(all_cores=True)


class _Batcher:
    """Gathers decoded files to batches for the model and shares the cores between it and the decoders."""

    def __init__(self, encoder: Encoder, transform: ImageTransform, batch_size: int) -> None:
        self._encoder = encoder
        self._transform = transform
        self._batch_size = batch_size
        self._cores = torch.get_num_threads()
        # A trial with one thread would last for minutes with a model of billions of parameters.
        small = encoder.operations_per_picture() * batch_size < _LARGE_BATCH_OPERATIONS
        self._share = CoreShare(self._cores, start=1 if small else self._cores)
        self._waiting: list[tuple[MediaFile, LoadedMedia]] = []
        self._num_waiting = 0
        self._last_batch_end = time.monotonic()

    def add(self, file: MediaFile, media: LoadedMedia) -> Iterator[EncodedMedia]:
        self._waiting.append((file, media))
        self._num_waiting += media.pixels.shape[0]
        if self._num_waiting >= self._batch_size:
            yield from self.flush()

    def flush(self, all_cores: bool = False) -> Iterator[EncodedMedia]:
        """Encode what has gathered; with `all_cores` when no decoder is at work any more."""
        waiting, self._waiting, self._num_waiting = self._waiting, [], 0
        if not waiting:
            return
        started = time.monotonic()
        with torch_threads(self._cores if all_cores else self._share.threads):
            pixels = torch.cat([media.pixels for _, media in waiting])
            vectors = self._encoder.encode_pixels(self._transform.normalize(pixels), self._batch_size)
        ended = time.monotonic()
        self._share.record(len(pixels), started - self._last_batch_end, ended - started)
        self._last_batch_end = ended
        parts = vectors.split([media.pixels.shape[0] for _, media in waiting])
        for (file, media), frame_vectors in zip(waiting, parts, strict=True):
            yield EncodedMedia(file, media, frame_vectors)
