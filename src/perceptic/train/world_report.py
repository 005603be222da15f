"""How well an image-text model knows the synthetic world: zero-shot labels, retrieval, clips, out-of-distribution.

Zero-shot classification follows spec 6.1 (prompt embeddings normalised, averaged over templates, normalised); retrieval
is recall at 1 without reweighting (spec 6.3). Scenes come from splits and seeds that training never draws.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from perceptic import world
from perceptic.data.augmentation import plain
from perceptic.data.world_source import channels_first
from perceptic.errors import WeightsError
from perceptic.media.sampling import uniform_indices
from perceptic.models.clip import CLIP
from perceptic.text.clip_tokenizer import ClipTokenizer
from perceptic.weights.pretrained import load_bundle
from perceptic.world.clip_captioning import ACTION_WORDS

_ROWS_AT_ONCE: Final = 100
_NUM_FRAMES: Final = 8
_CLIP_TEMPLATES: Final = ("a shape {c}", "an object {c}", "a video of how a shape {c}", "a clip where a shape {c}")


@dataclass(frozen=True)
class Measure:
    """One number in percent. `chance` is what guessing gives, `aim` what was hoped for (None: no aim was set)."""

    name: str
    value: float
    chance: float
    aim: float | None = None


@dataclass(frozen=True)
class Encoders:
    """A model's two towers as functions to unit vectors."""

    model: CLIP
    tokenizer: ClipTokenizer

    @torch.inference_mode()
    def media(self, pixels_NFCHW: NDArray[np.uint8]) -> Tensor:
        """uint8 (N, F, 3, H, W) to (N, E); a clip's raw frame embeddings are averaged before normalising."""
        parts = []
        for start in range(0, len(pixels_NFCHW), _ROWS_AT_ONCE):
            frames = plain(pixels_NFCHW[start : start + _ROWS_AT_ONCE], self.model.image_size)
            parts.append(F.normalize(self.model.encode_video(frames), dim=-1))
        return torch.cat(parts)

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """N texts to (N, E)."""
        ids_NL = self.tokenizer(list(texts))
        longest = int(ids_NL.argmax(dim=-1).max()) + 1  # padding after the last end of text changes nothing
        rows = ids_NL[:, :longest].split(_ROWS_AT_ONCE)
        return torch.cat([self.model.encode_text(ids, normalize=True) for ids in rows])

    def classifier(self, prompts: Sequence[Sequence[str]]) -> Tensor:
        """(classes, E): the normalised mean of each class's prompts."""
        vectors = self.texts([text for texts in prompts for text in texts])
        parts = vectors.split([len(texts) for texts in prompts])
        return torch.stack([F.normalize(part.mean(dim=0), dim=-1) for part in parts])


def load_clip(source: str) -> tuple[CLIP, ClipTokenizer]:
    """A CLIP model and its tokenizer from a name or a folder. Raises WeightsError when it has no text tower."""
    bundle = load_bundle(source, kind="clip", dtype=torch.float32)
    if not isinstance(bundle.model, CLIP) or bundle.tokenizer is None:
        raise WeightsError(f"{source}: has no text tower; name a PE-Core model")
    return bundle.model, bundle.tokenizer


def report(model: CLIP, tokenizer: ClipTokenizer, *, count: int = 1000, seed: int = 11) -> list[Measure]:
    """Every measure over `count` scenes or clips each; about two minutes on one core at 1,000.

    Args:
        model: in eval mode, fp32. tokenizer: its own.
        count: scenes per measure. seed: which ones.
    """
    encoders = Encoders(model, tokenizer)
    parts: list[Callable[[Encoders, int, int], list[Measure]]] = [_labels, _pictures, _clips, _foreign]
    with torch.inference_mode():
        return [measure for part in parts for measure in part(encoders, count, seed)]


def zero_shot(
    encoders: Encoders, split: str, attributes: Sequence[str], count: int, seed: int, variant: str | None = None
) -> dict[str, float]:
    """Top-1 accuracy in percent per attribute over one-object scenes; key "shuffled" has the first one's with the
    labels permuted, which must be at chance."""
    labelled = list(world.zero_shot_scenes(split, count, seed=seed, variant=variant))
    media = encoders.media(render_scenes([item.scene for item in labelled], encoders.model.image_size))
    results: dict[str, float] = {}
    for attribute in attributes:
        scores = media @ encoders.classifier(world.prompts(attribute)).T
        labels = [item.labels[attribute] for item in labelled]
        results[attribute] = top1(scores, labels)
        results.setdefault("shuffled", top1(scores, np.random.default_rng(seed).permutation(labels).tolist()))
    return results


def top1(scores: Tensor, labels: Sequence[int]) -> float:
    """Share of rows of (N, classes) whose largest score is at the label, in percent."""
    return 100.0 * float((scores.argmax(dim=1) == torch.tensor(labels)).float().mean())


def recall_at_1(texts: Sequence[str], text_vectors: Tensor, media_vectors: Tensor) -> tuple[float, float]:
    """Text-to-media and media-to-text recall at 1 in percent; text i describes medium i.

    Identical texts share their positives (spec 6.3).
    """
    scores = text_vectors @ media_vectors.T

    def share(nearest: list[int]) -> float:
        return 100.0 * sum(texts[found] == text for found, text in zip(nearest, texts, strict=True)) / len(texts)

    return share(scores.argmax(dim=1).tolist()), share(scores.argmax(dim=0).tolist())


def render_scenes(scenes: Sequence[world.Scene], size: int) -> NDArray[np.uint8]:
    """(N, 1, 3, size, size)."""
    return np.stack([channels_first(world.render_pixels(scene, size)[None]) for scene in scenes])


def render_clips(clips: Sequence[world.Clip], size: int) -> NDArray[np.uint8]:
    """(N, 8, 3, size, size): frames evenly from first to last."""
    return np.stack(
        [channels_first(world.render_clip(clip, size, uniform_indices(clip.num_frames, _NUM_FRAMES))) for clip in clips]
    )


def _labels(encoders: Encoders, count: int, seed: int) -> list[Measure]:
    measures: list[Measure] = []
    for split, title, aim in (("validation", "seen pairs", 90.0), ("heldout_pairs", "unseen pairs", 75.0)):
        attributes = ("shape", "colour", "colour_shape", "texture", "size")
        values = zero_shot(encoders, split, attributes, count, seed)
        for attribute in attributes:
            chance = 100.0 / len(world.CLASS_NAMES[attribute])
            wanted = aim if attribute in ("shape", "colour") else None
            measures.append(Measure(f"{_words(attribute)}, {title}", values[attribute], chance, wanted))
        if split == "validation":
            measures.append(Measure("shape, labels shuffled (control)", values["shuffled"], 100.0 / len(world.SHAPES)))
    return measures


def _pictures(encoders: Encoders, count: int, seed: int) -> list[Measure]:
    measures: list[Measure] = []
    for split, title in (("validation", "pictures"), ("heldout_pairs", "pictures with unseen pairs")):
        seeds = range(seed * 10**6, seed * 10**6 + count)
        scenes = [world.sample_scene(index, split) for index in seeds]
        told = [world.captions(scene, index) for scene, index in zip(scenes, seeds, strict=True)]
        media = encoders.media(render_scenes(scenes, encoders.model.image_size))
        for length in ("long", "medium", "short") if split == "validation" else ("long",):
            aim = 50.0 if (split, length) == ("validation", "long") else None
            measures += _retrieval(encoders, title, length, [getattr(one, length) for one in told], media, aim)
    return measures


def _clips(encoders: Encoders, count: int, seed: int) -> list[Measure]:
    seeds = range(seed * 10**6, seed * 10**6 + count // 2)
    clips = [world.sample_clip(index, "validation") for index in seeds]
    texts = [world.clip_captions(clip, index).long for clip, index in zip(clips, seeds, strict=True)]
    media = encoders.media(render_clips(clips, encoders.model.image_size))
    measures = _retrieval(encoders, "clips", "long", texts, media, None)
    single = [world.sample_clip(index, "validation", num_objects=1, num_events=1) for index in seeds]
    forward = encoders.media(render_clips(single, encoders.model.image_size))
    shapes = [world.SHAPES.index(clip.scene.objects[0].shape) for clip in single]
    scores = forward @ encoders.classifier(world.prompts("shape")).T
    measures.append(Measure("shape of a clip's object", top1(scores, shapes), 100.0 / len(world.SHAPES)))
    kinds = encoders.classifier([action_prompts(kind) for kind in world.EVENT_KINDS])
    events = [world.EVENT_KINDS.index(clip.events[0].kind) for clip in single]
    measures.append(Measure("event of a clip", top1(forward @ kinds.T, events), 100.0 / len(world.EVENT_KINDS)))
    measures.append(_order_control(encoders, single, forward, kinds))
    return measures


def _order_control(encoders: Encoders, clips: list[world.Clip], forward: Tensor, kinds: Tensor) -> Measure:
    """Each clip with a direction, forwards and backwards: which of the two opposite events is it?

    A mean of frame embeddings is the same for both (but for the rounding of frame numbers), so one of each pair is
    right: 50 %, whatever was learned.
    """
    right = total = 0
    for index, clip in enumerate(clips):
        played_back = world.reverse_clip(clip)
        pair = [world.EVENT_KINDS.index(one.events[0].kind) for one in (clip, played_back)]
        if pair[0] == pair[1]:
            continue
        backward = encoders.media(render_clips([played_back], encoders.model.image_size))[0]
        for vector, truth in ((forward[index], 0), (backward, 1)):
            right += int((vector @ kinds[pair].T).argmax()) == truth
            total += 1
    return Measure("direction of time in a clip (control)", 100.0 * right / max(1, total), 50.0)


def _foreign(encoders: Encoders, count: int, seed: int) -> list[Measure]:
    measures: list[Measure] = []
    for variant in world.OOD_VARIANTS:
        values = zero_shot(encoders, "validation", ("shape", "colour"), count, seed, variant)
        for attribute in ("shape", "colour"):
            chance = 100.0 / len(world.CLASS_NAMES[attribute])
            measures.append(Measure(f"{attribute}, {variant.replace('_', ' ')}", values[attribute], chance))
    return measures


def _retrieval(
    encoders: Encoders, title: str, length: str, texts: list[str], media: Tensor, aim: float | None
) -> list[Measure]:
    to_media, to_text = recall_at_1(texts, encoders.texts(texts), media)
    among = f"R@1 among {len(texts):,} {title}, {length} captions"
    chance = 100.0 / len(texts)
    return [
        Measure(f"text to media {among}", to_media, chance, aim),
        Measure(f"media to text {among}", to_text, chance),
    ]


def action_prompts(kind: world.EventKind) -> list[str]:
    """Sentences that say of a clip what happens in it, for one kind of event."""
    # "turns" and "becomes" want a colour after them; the class is any change of colour.
    words = ("changes colour",) if kind == "changes colour" else ACTION_WORDS[kind]
    return [template.format(c=action) for template in _CLIP_TEMPLATES for action in words]


def _words(attribute: str) -> str:
    return "colour and shape" if attribute == "colour_shape" else attribute
