"""Claim 18: a mean of frame embeddings cannot tell which way time runs."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from perceptic import world
from perceptic.data.augmentation import plain
from perceptic.data.world_source import channels_first
from perceptic.evaluate.claims.claim import Claim, Quantity, SeedResult, Setting
from perceptic.evaluate.classifiers import sweep_logistic
from perceptic.media.sampling import uniform_indices
from perceptic.train.world_report import load_clip

_NUM_CLIPS = 160
_NUM_FRAMES = 8
_DIRECTED: tuple[world.clip.EventKind, ...] = (
    "moves left",
    "moves right",
    "moves up",
    "moves down",
    "grows",
    "shrinks",
)


def run(seed: int, setting: Setting) -> SeedResult:
    """Clips forwards and backwards: which is which, from the mean of the frames and from their sequence?"""
    frames_NFE = _frame_embeddings(seed, setting)
    both = torch.cat([frames_NFE, frames_NFE.flip(1)])
    backwards = torch.arange(len(both)) // len(frames_NFE)
    # One kind of event: whether it goes the way it was sampled or backwards decides nothing by itself, so the label is
    # the direction of motion (left or up or smaller against right or down or larger).
    labels = backwards ^ torch.tensor(_first_directions(seed)).repeat(2)
    pooled = F.normalize(both.mean(dim=1), dim=-1)
    sequence = both.flatten(1)
    scores = {
        "mean of frames": _accuracy(pooled, labels, seed),
        "sequence of frames": _accuracy(sequence, labels, seed),
    }
    distance = float((pooled[: len(frames_NFE)] - pooled[len(frames_NFE) :]).abs().max())
    effects = {
        "direction from the mean of frames, above guessing": scores["mean of frames"] - 50.0,
        "direction from the sequence of frames, above guessing": scores["sequence of frames"] - 50.0,
    }
    return SeedResult(effects, {**scores, "largest difference of a clip's two embeddings": distance})


@torch.inference_mode()
def _frame_embeddings(seed: int, setting: Setting) -> Tensor:
    model, _ = load_clip(setting.model)
    model.eval()
    parts = []
    for index, clip in enumerate(_clips(seed)):
        wanted = uniform_indices(clip.num_frames, _NUM_FRAMES)
        pixels = channels_first(world.render_clip(clip, model.image_size, wanted))
        parts.append(F.normalize(model.encode_image(plain(pixels[None], model.image_size)[0]), dim=-1))
        setting.on_progress("clips", index + 1, _NUM_CLIPS)
    return torch.stack(parts)


def _clips(seed: int) -> list[world.Clip]:
    seeds = range(seed * 10**6, seed * 10**6 + _NUM_CLIPS)
    return [
        world.sample_clip(one, "validation", num_frames=16, num_objects=1, num_events=1, kinds=_DIRECTED)
        for one in seeds
    ]


def _first_directions(seed: int) -> list[int]:
    return [int(clip.events[0].kind in ("moves left", "moves up", "shrinks")) for clip in _clips(seed)]


def _accuracy(features: Tensor, labels: Tensor, seed: int) -> float:
    """Accuracy in percent of a linear probe; a clip and its reverse are always on the same side of the split."""
    clips = len(labels) // 2
    order = np.random.default_rng(seed).permutation(clips)
    test = torch.from_numpy(np.isin(np.arange(clips), order[: clips // 2])).repeat(2)
    fit = sweep_logistic(features[~test], labels[~test], 2, seed=seed)
    predicted = fit.classifier(features[test]).argmax(dim=1)
    return 100.0 * float((predicted == labels[test]).float().mean())


CLAIM = Claim(
    number=18,
    title="Mean pooling cannot see order",
    statement="A video's embedding is the mean of its frames', so a motion and its reverse are one point: opening or "
    "closing is a coin toss, before video finetuning and after it.",
    experiment=f"{_NUM_CLIPS} clips of one object that moves, grows or shrinks, each forwards and backwards: the same "
    f"{_NUM_FRAMES} frames in the two orders. A linear probe is asked for the direction (left, up, smaller against "
    "right, down, larger) from the mean of the frame embeddings and, as positive control, from their sequence.",
    quantities=(
        Quantity("direction from the mean of frames, above guessing", "points", "equal", margin=1.0),
        Quantity("direction from the sequence of frames, above guessing", "points", "above"),
    ),
    run=run,
    minutes=0.5,
    caveats="Seeds differ in the clips and the probe's split; the model is the bundled one. No further training is "
    "tried: equal inputs of the mean give equal outputs, whatever the weights.",
)
