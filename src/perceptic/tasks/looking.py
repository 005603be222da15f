"""From a medium to the chunks that a model sees: first its header alone, then its pixels.

Between the two stands the count of tokens, so that a prompt that cannot fit costs no decoding.

Shapes: C chunks, S tile size.
"""

from __future__ import annotations

import bisect
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image
from torch import Tensor

from perceptic.errors import ConfigError, MediaError
from perceptic.media.boxes import Box
from perceptic.media.chunks import ChunkTransform
from perceptic.media.frames import FrameReader
from perceptic.media.images import ImageSource, image_size, load_image
from perceptic.media.preprocess import image_to_tensor
from perceptic.media.regions import draw_box, draw_boxes
from perceptic.media.sampling import plm_indices, rounded_indices
from perceptic.media.video import open_video, read_chosen
from perceptic.tasks.fetching import fetch
from perceptic.tasks.media_parts import MediaPart, WebAddress
from perceptic.tasks.seeing import MediaSeen, View

# As in the original's demos of regions; frames take draw_boxes' own 4 pixels (spec 5.2 and 6.2).
_IMAGE_STROKE = 2


@dataclass(frozen=True)
class Looked:
    """What was seen and its chunks, float32 (C, 3, S, S) in [-1, 1]."""

    seen: MediaSeen
    chunks: Tensor


class OpenMedium(Protocol):
    """A medium whose header has been read."""

    @property
    def seen(self) -> MediaSeen:
        """What will be seen, as the header has it."""
        ...

    def look(self) -> Looked:
        """Decode. Raises MediaError; `seen` may differ from the header's where that was wrong."""
        ...


def open_medium(
    view: View, transform: ChunkTransform, tokens_per_chunk: int, stack: contextlib.ExitStack
) -> OpenMedium:
    """Read the header of a medium; an address on the web is fetched now.

    Args:
        stack: closes what stays open until then.

    Raises:
        MediaError: it cannot be had, is damaged as far as can be told, or the time range is outside of it.
    """
    part = view.part
    source: ImageSource = fetch(part.source.url) if isinstance(part.source, WebAddress) else part.source
    try:
        if isinstance(source, Path):
            _require_regular(source)
        if part.kind == "image":
            return _Picture(view, source, transform, tokens_per_chunk)
        if not isinstance(source, Path | bytes):
            raise MediaError(part.name, "is a decoded picture, not a video")
        video = stack.enter_context(open_video(source))
        return _Video(view, video, transform, tokens_per_chunk)
    except MediaError as error:
        raise _named(error, part) from None


class _Picture:
    def __init__(self, view: View, source: ImageSource, transform: ChunkTransform, tokens_per_chunk: int) -> None:
        self._view, self._source = view, source
        self._transform, self._tokens_per_chunk = transform, tokens_per_chunk
        size = image_size(source)
        self.seen = self._seen(size.width, size.height)

    def look(self) -> Looked:
        try:
            image = self._with_box(load_image(self._source))
        except MediaError as error:
            raise _named(error, self._view.part) from None
        chunks = self._transform(image, self._view.max_num_tiles)
        return Looked(self._seen(image.width, image.height), chunks)

    def _with_box(self, image: Image.Image) -> Image.Image:
        boxes = self._view.part.boxes
        if boxes is None:
            return image
        if not isinstance(boxes, Box):
            raise ConfigError(f"{self._view.part.name}: a picture has no frames to give boxes for; give one box")
        _require_inside(boxes, image.width, image.height, self._view.part)
        drawn = draw_box(image_to_tensor(image), boxes, stroke_width=_IMAGE_STROKE)
        return Image.fromarray(drawn.permute(1, 2, 0).contiguous().numpy())

    def _seen(self, width: int, height: int) -> MediaSeen:
        num_chunks = self._transform.num_chunks(width, height, self._view.max_num_tiles)
        name = self._view.part.name
        return MediaSeen(name, "image", width, height, num_chunks, num_chunks * self._tokens_per_chunk)


class _Video:
    def __init__(self, view: View, video: FrameReader, transform: ChunkTransform, tokens_per_chunk: int) -> None:
        self._view, self._video = view, video
        self._transform, self._tokens_per_chunk = transform, tokens_per_chunk
        self.seen = self._seen(self._choose())

    def look(self) -> Looked:
        try:
            frames = read_chosen(self._video, self._choose)
        except MediaError as error:
            raise _named(error, self._view.part) from None
        indices = frames.indices.tolist()
        pixels = self._with_boxes(frames.pixels, indices)
        return Looked(self._seen(indices), self._transform.frames(pixels))

    def _choose(self) -> list[int]:
        view, info, seconds = self._view, self._video.info, self._video.seconds
        start, end = view.start_seconds, view.end_seconds
        if start is not None and start > info.duration_seconds:
            raise MediaError(view.part.name, f"ends at {info.duration_seconds:.2f} s, before start_seconds={start:g}")
        if view.sampling == "uniform":
            chosen = _on_screen(seconds, start, end)
            return [chosen[i] for i in rounded_indices(len(chosen), min(view.num_frames, len(chosen)))]
        return plm_indices(len(seconds), info.frames_per_second, view.num_frames, start_seconds=start, end_seconds=end)

    def _with_boxes(self, pixels: Tensor, indices: Sequence[int]) -> Tensor:
        boxes, part = self._view.part.boxes, self._view.part
        if boxes is None:
            return pixels
        if isinstance(boxes, Mapping):
            if not any(boxes.get(index) for index in indices):
                known = ", ".join(map(str, sorted(boxes)[:8]))
                raise ConfigError(f"{part.name}: none of the frames seen has a box; boxes are given for {known}...")
            return draw_boxes(pixels, indices, boxes)
        _require_inside(boxes, pixels.shape[-1], pixels.shape[-2], part)
        return draw_boxes(pixels, indices, dict.fromkeys(indices, boxes))

    def _seen(self, indices: Sequence[int]) -> MediaSeen:
        info, seconds = self._video.info, self._video.seconds
        return MediaSeen(
            path=self._view.part.name,
            kind="video",
            width=info.width,
            height=info.height,
            num_chunks=len(indices),
            num_tokens=len(indices) * self._tokens_per_chunk,
            frame_seconds=tuple(seconds[index] for index in indices),
            frame_indices=tuple(indices),
            total_frames=len(seconds),
        )


def _on_screen(seconds: Sequence[float], start: float | None, end: float | None) -> range:
    """The frames on screen from one time to another, both included."""
    first = 0 if start is None else max(bisect.bisect_right(seconds, start) - 1, 0)
    last = len(seconds) - 1 if end is None else max(bisect.bisect_right(seconds, end) - 1, first)
    return range(first, last + 1)


def _require_inside(box: Box, width: int, height: int, part: MediaPart) -> None:
    if box.left >= width or box.top >= height or box.right < 0 or box.bottom < 0:
        raise ConfigError(f"{part.name}: the box {box} lies outside of its {width} x {height} pixels")


def _require_regular(path: Path) -> None:
    """A pipe would wait for ever, or be empty when it is read a second time."""
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise MediaError(path, "is not a regular file", "media are read in several passes; copy it to a file")
    except (OSError, ValueError) as error:
        raise MediaError(path, f"cannot be opened: {getattr(error, 'strerror', None) or error}") from error


def _named(error: MediaError, part: MediaPart) -> MediaError:
    """The error under the name that the writer of a message gave the medium."""
    return error if error.path == part.name else MediaError(part.name, error.reason)
