"""What tasks of lmms-eval show and ask for, in our words: media as parts of a message, settings as options."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from perceptic.errors import ConfigError
from perceptic.inference.sampling import GenerationOptions
from perceptic.tasks.media_parts import MediaPart, media_part

logger = logging.getLogger(__name__)
_DEFAULT_TOKENS = 256
_KNOWN_SETTINGS = frozenset(
    ("max_new_tokens", "max_gen_toks", "temperature", "top_p", "top_k", "num_beams", "do_sample", "until", "use_cache")
)


def media_of(visuals: Any) -> tuple[MediaPart, ...]:
    """What a task shows as parts of a message: pictures, paths of videos, or a list of frames.

    Frames come as one list within the list; each becomes one chunk, as the frames of a video do.

    Raises:
        ConfigError: anything else, such as sound.
    """
    found: list[MediaPart] = []
    for visual in visuals if isinstance(visuals, list | tuple) else [visuals]:
        if visual is None:
            continue
        if isinstance(visual, list | tuple):
            found += [MediaPart("image", _picture(frame), "frame", max_num_tiles=0) for frame in visual]
        elif isinstance(visual, Image.Image):
            found.append(MediaPart("image", _picture(visual), "picture"))
        elif isinstance(visual, str | Path):
            found.append(media_part(Path(visual)))
        else:
            raise ConfigError(f"lmms-eval shows a {type(visual).__name__}; perceptic sees pictures, frames and videos")
    return tuple(found)


def options_of(settings: Mapping[str, Any]) -> GenerationOptions:
    """A task's generation settings as ours. What has no counterpart here is logged and left out."""
    for name in set(settings) - _KNOWN_SETTINGS:
        logger.warning("generation setting %s=%r is not known to perceptic and is left out", name, settings[name])
    if (settings.get("num_beams") or 1) > 1:
        logger.warning("perceptic has no beam search; num_beams=%s is answered greedily", settings["num_beams"])
    until = settings.get("until") or ()
    is_drawn = settings.get("do_sample", True) and (settings.get("temperature") or 0) > 0
    return GenerationOptions(
        max_new_tokens=int(settings.get("max_new_tokens") or settings.get("max_gen_toks") or _DEFAULT_TOKENS),
        temperature=float(settings["temperature"]) if is_drawn else 0.0,
        top_p=settings.get("top_p") if is_drawn else None,
        top_k=settings.get("top_k") if is_drawn else None,
        stop=(until,) if isinstance(until, str) else tuple(until),
        seed=0,
    )


def _picture(value: Any) -> Image.Image:
    if not isinstance(value, Image.Image):
        raise ConfigError(f"a frame is a Pillow image, not {type(value).__name__}")
    return value.convert("RGB")
