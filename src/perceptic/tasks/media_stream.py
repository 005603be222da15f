"""Files in, frame embeddings out, with decoding and the model at work at the same time.

Threads decode and resize ahead (Pillow, PyAV and torch release the interpreter lock in their loops); the caller's
thread runs the model on whole batches. What waits between them is uint8, a quarter of the float pixels.

Shapes: F frames (1 for an image), S image side, E embedding size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from perceptic.configs import Preprocessing
from perceptic.inference.encode import Encoder
from perceptic.media.collection import MediaFile
from perceptic.media.cores import usable_cores
from perceptic.media.images import load_image
from perceptic.media.prefetch import Failure, decode_stream
from perceptic.media.preprocess import ImageTransform
from perceptic.media.video import read_video

DEFAULT_BATCH_SIZE = 32
DEFAULT_NUM_FRAMES = 8


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
    waiting: list[tuple[MediaFile, LoadedMedia]] = []
    num_waiting = 0
    workers = usable_cores()
    # A whole next batch must be able to wait, or the model waits for the part of it that had no room.
    ahead = batch_size + 2 * workers
    for result in decode_stream(files, load, workers=workers, ahead=ahead, ordered=False):
        if isinstance(result, Failure):
            yield result
            continue
        waiting.append((result.file, result.value))
        num_waiting += result.value.pixels.shape[0]
        if num_waiting >= batch_size:
            yield from _encode_batch(encoder, load.transform, waiting, batch_size)
            waiting, num_waiting = [], 0
    if waiting:
        yield from _encode_batch(encoder, load.transform, waiting, batch_size)


def _encode_batch(
    encoder: Encoder, transform: ImageTransform, waiting: list[tuple[MediaFile, LoadedMedia]], batch_size: int
) -> Iterator[EncodedMedia]:
    pixels = torch.cat([media.pixels for _, media in waiting])
    vectors = encoder.encode_pixels(transform.normalize(pixels), batch_size)
    for (file, media), frame_vectors in zip(
        waiting, vectors.split([media.pixels.shape[0] for _, media in waiting]), strict=True
    ):
        yield EncodedMedia(file, media, frame_vectors)
