"""From an encoded picture or video with captions to what a contrastive step trains on.

Everything random is drawn from a generator of the sample's own, so that a sample looks the same whichever thread
decodes it and whenever, and different in every epoch.

Shapes: F frames, S image side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from perceptic.data.augmentation import Augmentation, augment
from perceptic.data.samples import CAPTION_LENGTHS, SampleError
from perceptic.data.units import RawPair
from perceptic.errors import MediaError
from perceptic.media.images import load_image
from perceptic.media.video import read_video

_DECODE_SCALE = 2


@dataclass(frozen=True, eq=False)
class Pair:
    """`pixels` float32 (F, 3, S, S) in [-1, 1], and the caption."""

    pixels: Tensor
    text: str


def same_text(text: str) -> str:
    """For captions of which nobody knows what becomes of left and right in a mirror."""
    return text


@dataclass(frozen=True)
class PairDecoder:
    """Reads, crops, varies, and chooses a caption.

    Attributes:
        num_frames: 1: pictures, and of videos the first frame. More: videos; a picture is a bad sample there.
        caption_shares: weight of each entry of CAPTION_LENGTHS.
        rewrite_flipped: the caption of a mirrored sample.
    """

    num_frames: int
    caption_shares: Mapping[str, float]
    augmentation: Augmentation
    rewrite_flipped: Callable[[str], str] = same_text

    def __call__(self, raw: RawPair, image_size: int, rng: np.random.Generator) -> Pair:
        """Decode one sample at a resolution. Raises SampleError if its medium cannot be read."""
        flip_draw, caption_draw = rng.random(2)
        may_flip = raw.is_flip_safe or self.augmentation.flip_unsafe
        is_flipped = bool(may_flip and flip_draw < self.augmentation.flip_share)
        text = self._caption(raw, caption_draw)
        if is_flipped and raw.is_flip_safe:
            text = self.rewrite_flipped(text)
        pixels = decode(raw, self.num_frames, _DECODE_SCALE * image_size)
        return Pair(augment([pixels], np.array([is_flipped]), image_size, self.augmentation, [rng])[0], text)

    def _caption(self, raw: RawPair, draw: float) -> str:
        weights = np.array([self.caption_shares.get(length, 0.0) for length in CAPTION_LENGTHS])
        return raw.captions[int(np.searchsorted(np.cumsum(weights) / weights.sum(), draw, side="right"))]


def decode(raw: RawPair, num_frames: int, decode_size: int | None = None) -> NDArray[np.uint8]:
    """uint8 RGB (F, 3, H, W) in the file's own size.

    Args:
        num_frames: spread evenly over a video.
        decode_size: see `load_image`: large photographs are decoded at a half, a quarter or an eighth as long as both
            sides keep this many pixels, which costs a fraction of the time.

    Raises:
        SampleError: not readable, or a picture where clips are wanted.
    """
    try:
        if raw.is_video:
            return read_video(raw.content, num_frames=num_frames).pixels.numpy()
        if num_frames > 1:
            raise SampleError(raw.where, "picture instead of a video", f"clips of {num_frames} frames are asked for")
        picture = np.asarray(load_image(raw.content, decode_size=decode_size))
        return np.ascontiguousarray(picture.transpose(2, 0, 1))[None]
    except MediaError as error:
        raise SampleError(raw.where, error.reason) from error
