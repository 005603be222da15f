"""Small pictures for reports."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from perceptic.errors import MediaError
from perceptic.media.collection import MediaKind
from perceptic.media.images import load_image
from perceptic.media.video import read_video

_SIDE = 160
_FRAMES = 3


def small_picture(source: Path | bytes | None, kind: MediaKind) -> bytes | None:
    """A picture, or first, middle and last frame of a video side by side, as PNG; None if it cannot be read."""
    if source is None:
        return None
    try:
        if kind == "image":
            pictures = [load_image(source)]
        else:
            frames = read_video(source, num_frames=_FRAMES).pixels
            pictures = [Image.fromarray(frame.permute(1, 2, 0).contiguous().numpy()) for frame in frames]
    except MediaError:
        return None
    for picture in pictures:
        picture.thumbnail((_SIDE, _SIDE))
    strip = Image.new("RGB", (sum(one.width for one in pictures), max(one.height for one in pictures)))
    left = 0
    for picture in pictures:
        strip.paste(picture, (left, 0))
        left += picture.width
    stream = io.BytesIO()
    strip.save(stream, "PNG")
    return stream.getvalue()
