"""Claim 13: the last layer of a contrastive model is poor at saying where things are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from perceptic import world
from perceptic.data.augmentation import plain
from perceptic.data.world_source import channels_first
from perceptic.evaluate.claims.claim import Claim, Curve, Quantity, SeedResult, Setting
from perceptic.evaluate.layers_features import intermediate_maps
from perceptic.train.world_report import load_clip

_SIZES = {"train": 1200, "choose": 300, "test": 400}
_STEPS, _BATCH, _RATE, _WIDTH = 400, 64, 3e-3, 96


@dataclass(frozen=True)
class _Asked:
    """Pictures asked for one of their objects by colour and shape: pixels (N, S, S, 3), names (N, 2), boxes (N, 4) as
    left, top, right, bottom in [0, 1]."""

    pixels: NDArray[np.uint8]
    names: Tensor
    boxes: Tensor


class PointingHead(nn.Module):
    """Which patch shows the named object: the likeness of every frozen patch to the words for colour and shape."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, _WIDTH)
        self.colours = nn.Embedding(len(world.COLOURS), _WIDTH)
        self.shapes = nn.Embedding(len(world.SHAPES), _WIDTH)

    def forward(self, patches_BPD: Tensor, names_B2: Tensor) -> Tensor:
        """(B, P, D) patches and (B, 2) colour and shape numbers to scores (B, P)."""
        query = self.colours(names_B2[:, 0]) + self.shapes(names_B2[:, 1])
        keys: Tensor = self.project(self.norm(patches_BPD))
        return torch.einsum("bpd,bd->bp", keys, query) / math.sqrt(_WIDTH)


def run(seed: int, setting: Setting) -> SeedResult:
    """Pointing accuracy of a head on every layer; the layer is chosen on pictures of its own, and scored on others."""
    model, _ = load_clip(setting.model)
    tower = model.eval().visual
    parts = {name: _asked(name, count, seed, tower.image_size) for name, count in _SIZES.items()}
    layers = range(tower.config.layers)
    maps = {name: _maps(tower, part.pixels, layers) for name, part in parts.items()}
    chosen, tested, control = [], [], 0.0
    for layer in layers:
        features = {name: maps[name][layer] for name in parts}
        head = _fit(features["train"], parts["train"], seed)
        chosen.append(_accuracy(head, features["choose"], parts["choose"]))
        tested.append(_accuracy(head, features["test"], parts["test"]))
        if layer == layers[-1]:
            order = torch.from_numpy(np.random.default_rng(seed).permutation(len(parts["test"].names)))
            control = _accuracy(head, features["test"], parts["test"], names=parts["test"].names[order])
        setting.on_progress("heads", layer + 1, len(layers))
    best = int(np.argmax(chosen[:-1]))
    scores = {f"layer {layer + 1}": value for layer, value in enumerate(tested)}
    effects = {"best earlier layer above the last one": tested[best] - tested[-1]}
    curve = Curve("pointing", tuple(float(layer + 1) for layer in layers), tuple(tested))
    return SeedResult(effects, {**scores, "last layer, names exchanged (control)": control}, (curve,))


def _asked(name: str, count: int, seed: int, size: int) -> _Asked:
    split = "train" if name == "train" else "validation"
    first = {"train": 0, "choose": 10**5, "test": 2 * 10**5}[name] + seed * 10**6
    pixels, names, boxes = [], [], []
    for one in range(first, first + count):
        scene = world.sample_scene(one, split, layout="objects", num_objects=2 + one % 3, text_fraction=0.0)
        shown = world.render(scene, size)
        visible = [place for place, box in enumerate(shown.boxes) if box is not None]
        place = visible[one % len(visible)]
        item, box = scene.objects[place], shown.boxes[place]
        assert box is not None
        pixels.append(shown.pixels)
        names.append((tuple(world.COLOURS).index(item.colour), world.SHAPES.index(item.shape)))
        boxes.append([edge / size for edge in box.xyxy])
    return _Asked(np.stack(pixels), torch.tensor(names), torch.tensor(boxes))


@torch.inference_mode()
def _maps(tower: nn.Module, pixels: NDArray[np.uint8], layers: range) -> list[Tensor]:
    """For every layer (N, P, D) half-precision patches."""
    parts: list[list[Tensor]] = []
    for start in range(0, len(pixels), 64):
        frames = channels_first(pixels[start : start + 64])
        batch = plain(frames[:, None], frames.shape[-1])[:, 0]
        parts.append([m.flatten(1, 2).half() for m in intermediate_maps(tower, batch, layers)])  # type: ignore[arg-type]
    return [torch.cat([part[layer] for part in parts]) for layer in layers]


def _fit(patches: Tensor, asked: _Asked, seed: int) -> PointingHead:
    """A head that spreads its likeness over the patches as the object's box lies over them."""
    wanted = box_shares(asked.boxes, math.isqrt(patches.shape[1]))
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        head = PointingHead(patches.shape[-1])
        optimizer = torch.optim.AdamW(head.parameters(), _RATE, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=_STEPS, pct_start=0.1)
        for _ in range(_STEPS):
            rows = torch.randint(len(patches), (_BATCH,))
            scores = head(patches[rows].float(), asked.names[rows])
            loss = -(wanted[rows] * scores.log_softmax(dim=1)).sum(dim=1).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
    return head.eval()


@torch.inference_mode()
def _accuracy(head: PointingHead, patches: Tensor, asked: _Asked, names: Tensor | None = None) -> float:
    """Share in percent of the pictures in which the middle of the likeliest patch lies in the object's box."""
    best = head(patches.float(), asked.names if names is None else names).argmax(dim=1)
    side = math.isqrt(patches.shape[1])
    point = torch.stack([best % side, best // side], dim=1).add(0.5) / side
    inside = (point >= asked.boxes[:, :2]) & (point <= asked.boxes[:, 2:])
    return 100.0 * float(inside.all(dim=1).float().mean())


def box_shares(boxes: Tensor, side: int) -> Tensor:
    """How a box (B, 4) is spread over a grid of side x side patches: (B, P), summing to 1."""
    edges = torch.arange(side + 1) / side
    low, high = edges[:-1], edges[1:]
    across, down = (
        (torch.minimum(high, boxes[:, axis + 2, None]) - torch.maximum(low, boxes[:, axis, None])).clamp_min(0)
        for axis in (0, 1)
    )
    shares = (down[:, :, None] * across[:, None, :]).flatten(1)
    return shares / shares.sum(dim=1, keepdim=True)


CLAIM = Claim(
    number=13,
    title="The last layer is poor at grounding",
    statement="Frozen PE core G under a language model: RefCOCO accuracy 39.1 from the last layer, 68.7 from layer 38.",
    experiment="Scenes of two to four objects; a small head compares every frozen patch with the words for an object's "
    "colour and shape and points at the likeliest. Effect: how often the point lies in the named object's box, for the "
    "best earlier layer, chosen on pictures of its own, minus the last layer.",
    quantities=(Quantity("best earlier layer above the last one", "points", "above"),),
    run=run,
    minutes=0.6,
    caveats="The head stands in for the language model: it learns the words itself, and points instead of giving "
    "coordinates (a head that was to give boxes learned nothing from 1,200 pictures). One trained model of six layers; "
    "seeds differ in scenes and head.",
    curve_axes=("layer", "named object pointed at, %"),
)
