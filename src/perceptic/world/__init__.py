"""A seeded, procedural world of pictures and short clips with exact words, masks, depth, tracks and answers.

    scene = sample_scene(7)                     # plain frozen data
    pixels = render_pixels(scene, 64)           # (64, 64, 3) uint8, the same on every machine
    words = captions(scene, 7)                  # words.short, words.medium, words.long

Needs numpy, Pillow and PyAV only; torch is never imported.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perceptic.world.caption_noise import CaptionNoise
    from perceptic.world.captioning import Captions, captions, count_tokens, label_caption
    from perceptic.world.charts import Chart
    from perceptic.world.clip import EVENT_KINDS, Clip, Event, flip_clip, is_clip_flip_safe, reverse_clip, scene_at
    from perceptic.world.clip_captioning import action_phrase, clip_captions
    from perceptic.world.clip_rendering import RenderedClip, render_clip, render_clip_annotated
    from perceptic.world.clip_sampling import sample_clip
    from perceptic.world.counting import count_descriptions
    from perceptic.world.dense_captions import Segment, dense_segments
    from perceptic.world.encoding import mp4_bytes, png_bytes
    from perceptic.world.export import export_world
    from perceptic.world.export_chunks import WorldSettings
    from perceptic.world.ood import OOD_VARIANTS, out_of_distribution
    from perceptic.world.question import Question
    from perceptic.world.question_answer import questions
    from perceptic.world.rendering import Box, Rendered, render, render_pixels
    from perceptic.world.sampling import LAYOUTS, sample_scene
    from perceptic.world.scene import (
        Background,
        Scene,
        SceneObject,
        Sign,
        Style,
        flip_scene,
        holds,
        is_flip_safe,
        location,
        main_relation,
    )
    from perceptic.world.vocabulary import (
        COLOURS,
        HELDOUT_PAIRS,
        HELDOUT_WORDS,
        SEEN_PAIRS,
        SHAPES,
        SIZES,
        SPLITS,
        TEXTURES,
        WORDS,
    )
    from perceptic.world.wording import SYNONYMS, flip_caption
    from perceptic.world.zero_shot import CLASS_NAMES, TEMPLATES, ZeroShotScene, prompts, zero_shot_scenes

__all__ = [
    "CLASS_NAMES",
    "COLOURS",
    "EVENT_KINDS",
    "HELDOUT_PAIRS",
    "HELDOUT_WORDS",
    "LAYOUTS",
    "OOD_VARIANTS",
    "SEEN_PAIRS",
    "SHAPES",
    "SIZES",
    "SPLITS",
    "SYNONYMS",
    "TEMPLATES",
    "TEXTURES",
    "WORDS",
    "Background",
    "Box",
    "CaptionNoise",
    "Captions",
    "Chart",
    "Clip",
    "Event",
    "Question",
    "Rendered",
    "RenderedClip",
    "Scene",
    "SceneObject",
    "Segment",
    "Sign",
    "Style",
    "WorldSettings",
    "ZeroShotScene",
    "action_phrase",
    "captions",
    "clip_captions",
    "count_descriptions",
    "count_tokens",
    "dense_segments",
    "export_world",
    "flip_caption",
    "flip_clip",
    "flip_scene",
    "holds",
    "is_clip_flip_safe",
    "is_flip_safe",
    "label_caption",
    "location",
    "main_relation",
    "mp4_bytes",
    "out_of_distribution",
    "png_bytes",
    "prompts",
    "questions",
    "render",
    "render_clip",
    "render_clip_annotated",
    "render_pixels",
    "reverse_clip",
    "sample_clip",
    "sample_scene",
    "scene_at",
    "zero_shot_scenes",
]

_NAMES = {
    "caption_noise": ("CaptionNoise",),
    "captioning": (
        "Captions",
        "captions",
        "count_tokens",
        "label_caption",
    ),
    "charts": ("Chart",),
    "clip": (
        "Clip",
        "EVENT_KINDS",
        "Event",
        "flip_clip",
        "is_clip_flip_safe",
        "reverse_clip",
        "scene_at",
    ),
    "clip_captioning": (
        "action_phrase",
        "clip_captions",
    ),
    "clip_rendering": (
        "RenderedClip",
        "render_clip",
        "render_clip_annotated",
    ),
    "clip_sampling": ("sample_clip",),
    "counting": ("count_descriptions",),
    "dense_captions": (
        "Segment",
        "dense_segments",
    ),
    "encoding": (
        "mp4_bytes",
        "png_bytes",
    ),
    "export": ("export_world",),
    "export_chunks": ("WorldSettings",),
    "ood": (
        "OOD_VARIANTS",
        "out_of_distribution",
    ),
    "question": ("Question",),
    "question_answer": ("questions",),
    "rendering": (
        "Box",
        "Rendered",
        "render",
        "render_pixels",
    ),
    "sampling": (
        "LAYOUTS",
        "sample_scene",
    ),
    "scene": (
        "Background",
        "Scene",
        "SceneObject",
        "Sign",
        "Style",
        "flip_scene",
        "holds",
        "is_flip_safe",
        "location",
        "main_relation",
    ),
    "vocabulary": (
        "COLOURS",
        "HELDOUT_PAIRS",
        "HELDOUT_WORDS",
        "SEEN_PAIRS",
        "SHAPES",
        "SIZES",
        "SPLITS",
        "TEXTURES",
        "WORDS",
    ),
    "wording": ("SYNONYMS", "flip_caption"),
    "zero_shot": (
        "CLASS_NAMES",
        "TEMPLATES",
        "ZeroShotScene",
        "prompts",
        "zero_shot_scenes",
    ),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    # PEP 562: the world's parts load when first used, so that importing perceptic stays fast.
    if name not in _HOMES:
        raise AttributeError(f"module 'perceptic.world' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"perceptic.world.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
