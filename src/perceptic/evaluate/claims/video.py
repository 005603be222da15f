"""Claim 15: video finetuning helps retrieval of videos most, and that of pictures too."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perceptic import world
from perceptic.evaluate.claims.claim import Claim, Quantity, SeedResult, Setting
from perceptic.evaluate.claims.mini import Arm, trained
from perceptic.train.world_report import Encoders, load_clip, recall_at_1, render_clips, render_scenes, top1

_COUNT = 300
_SEED = 17

CLIPS = Arm("clips", recipe="video")
PICTURES = Arm("pictures", ("phases.0.data=images", "phases.0.batch_size=256"), recipe="video")


@dataclass(frozen=True)
class _Held:
    """Held-out clips and pictures with their long captions, and the shape of single objects in both."""

    clips: NDArray[np.uint8]
    clip_texts: tuple[str, ...]
    single_clips: NDArray[np.uint8]
    clip_shapes: tuple[int, ...]
    pictures: NDArray[np.uint8]
    picture_texts: tuple[str, ...]
    single_pictures: NDArray[np.uint8]
    picture_shapes: tuple[int, ...]


def run(seed: int, setting: Setting) -> SeedResult:
    """The same model after as many steps and frames of clips as of single pictures."""
    found = {arm.name: _measure(str(trained(arm, seed, setting))) for arm in (CLIPS, PICTURES)}
    gain = {name: found["clips"][name] - found["pictures"][name] for name in found["clips"]}
    effects = {
        **gain,
        "gain in video retrieval above that in video classification": gain["video retrieval"]
        - gain["video classification"],
    }
    return SeedResult(
        effects, {f"{arm}: {name}": value for arm, values in found.items() for name, value in values.items()}
    )


def _measure(folder: str) -> dict[str, float]:
    model, tokenizer = load_clip(folder)
    encoders = Encoders(model.eval(), tokenizer)
    held = _held(model.image_size)
    classifier = encoders.classifier(world.prompts("shape")).T

    def retrieval(pixels: NDArray[np.uint8], texts: tuple[str, ...]) -> float:
        return sum(recall_at_1(texts, encoders.texts(texts), encoders.media(pixels))) / 2

    return {
        "video retrieval": retrieval(held.clips, held.clip_texts),
        "video classification": top1(encoders.media(held.single_clips) @ classifier, held.clip_shapes),
        "picture retrieval": retrieval(held.pictures, held.picture_texts),
        "picture classification": top1(encoders.media(held.single_pictures) @ classifier, held.picture_shapes),
    }


@functools.cache
def _held(size: int) -> _Held:
    seeds = range(_SEED * 10**6, _SEED * 10**6 + _COUNT)
    clips = [world.sample_clip(one, "validation") for one in seeds]
    single = [world.sample_clip(one, "validation", num_objects=1, num_events=1) for one in seeds]
    scenes = [world.sample_scene(one, "validation") for one in seeds]
    labelled = list(world.zero_shot_scenes("validation", _COUNT, seed=_SEED))
    return _Held(
        render_clips(clips, size),
        tuple(world.clip_captions(clip, one).long for clip, one in zip(clips, seeds, strict=True)),
        render_clips(single, size),
        tuple(world.SHAPES.index(clip.scene.objects[0].shape) for clip in single),
        render_scenes(scenes, size),
        tuple(world.captions(scene, one).long for scene, one in zip(scenes, seeds, strict=True)),
        render_scenes([item.scene for item in labelled], size),
        tuple(item.labels["shape"] for item in labelled),
    )


CLAIM = Claim(
    number=15,
    title="Video finetuning helps retrieval more than classification",
    statement="22 million captioned videos raise video retrieval by 11.1, image retrieval by 4.0, video "
    "classification by 3.9 and Rob6 by 0.6.",
    experiment="The bundled model goes on for 60 steps at 5e-5: on 32 clips of 8 frames a step, or on 256 pictures "
    f"a step. Recall at 1 (both directions, long captions) and zero-shot shape accuracy among {_COUNT} held-out "
    "clips and pictures. Effect: clips minus pictures.",
    quantities=(
        Quantity("video retrieval", "points", "above"),
        Quantity("gain in video retrieval above that in video classification", "points", "above"),
        Quantity("video classification", "points", "above", decides=False),
        Quantity("picture retrieval", "points", "above", decides=False),
        Quantity("picture classification", "points", "above", decides=False),
    ),
    run=run,
    minutes=12.0,
    caveats="The starting point is not image-only: the bundled model has seen 80 steps of clips. Against the papers' "
    "image-only model the comparison has as many frames, so that the gain is not one of more training.",
)
