"""A contact sheet: the first pictures and clips of a world with their captions."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from perceptic.files import atomic_path
from perceptic.world.captioning import captions
from perceptic.world.clip import Clip, Event
from perceptic.world.clip_captioning import clip_captions
from perceptic.world.clip_rendering import render_clip
from perceptic.world.clip_sampling import sample_clip
from perceptic.world.export_chunks import WorldSettings
from perceptic.world.rendering import render_pixels
from perceptic.world.sampling import sample_scene

_TILE: Final = 192
_COLUMNS: Final = 6
_CAPTION_HEIGHT: Final = 92
_FRAMES: Final = 8
_PAPER: Final = (252, 252, 250)
_INK: Final = (40, 40, 44)


def write_overview(path: Path, settings: WorldSettings, *, num_images: int = 24, num_clips: int = 6) -> None:
    """Draw the sheet from the settings alone (nothing is read back) and write it as PNG.

    Raises:
        OutputError: the file cannot be written.
    """
    sheet = draw_overview(settings, num_images=num_images, num_clips=num_clips)
    with atomic_path(path) as temporary:
        sheet.save(temporary)


def draw_overview(settings: WorldSettings, *, num_images: int = 24, num_clips: int = 6) -> Image.Image:
    """The sheet: pictures with their medium captions, then clips as eight frames with theirs and their event times."""
    num_images, num_clips = min(num_images, settings.num_images), min(num_clips, settings.num_videos)
    rows = -(-num_images // _COLUMNS)
    strip = _TILE * _COLUMNS // _FRAMES
    height = rows * (_TILE + _CAPTION_HEIGHT) + num_clips * (strip + 44) + 8
    sheet = Image.new("RGB", (_TILE * _COLUMNS, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for place in range(num_images):
        left, top = place % _COLUMNS * _TILE, place // _COLUMNS * (_TILE + _CAPTION_HEIGHT)
        _draw_picture(sheet, draw, settings, place, left, top)
    for place in range(num_clips):
        _draw_clip(sheet, draw, settings, place, rows * (_TILE + _CAPTION_HEIGHT) + place * (strip + 44), strip)
    return sheet


def _draw_picture(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, settings: WorldSettings, index: int, left: int, top: int
) -> None:
    seed = settings.world_seed(index)
    scene = sample_scene(seed, settings.split)
    picture = Image.fromarray(render_pixels(scene, settings.size))
    sheet.paste(picture.resize((_TILE - 6, _TILE - 6), Image.Resampling.NEAREST), (left + 3, top + 3))
    _write(draw, captions(scene, seed).medium, left + 4, top + _TILE, 30)


def _draw_clip(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, settings: WorldSettings, index: int, top: int, side: int
) -> None:
    seed = settings.world_seed(index)
    clip = sample_clip(seed, settings.split, num_frames=settings.num_frames)
    chosen = [int(place * (clip.num_frames - 1) / (_FRAMES - 1)) for place in range(_FRAMES)]
    for place, pixels in enumerate(render_clip(clip, settings.size, chosen)):
        picture = Image.fromarray(pixels).resize((side - 4, side - 4), Image.Resampling.NEAREST)
        sheet.paste(picture, (place * side + 2, top + 2))
    times = "   ".join(_times(clip, event) for event in clip.events)
    _write(draw, f"{clip_captions(clip, seed).medium}\n{times}", 4, top + side + 2, 200)


def _times(clip: Clip, event: Event) -> str:
    return f"{event.kind} {clip.start_seconds(event):.2f}-{clip.end_seconds(event):.2f} s"


def _write(draw: ImageDraw.ImageDraw, text: str, left: int, top: int, columns: int) -> None:
    lines = [line for part in text.splitlines() for line in textwrap.wrap(part, columns)]
    draw.multiline_text((left, top), "\n".join(lines[:7]), fill=_INK, font=ImageFont.load_default(12), spacing=1)
