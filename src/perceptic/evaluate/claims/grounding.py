"""Claim 13: the last layer of a contrastive model is poor at saying where things are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from perceptic import world
from perceptic.data.augmentation import plain
from perceptic.data.world_source import channels_first
from perceptic.evaluate.claims.claim import Claim, Curve, Quantity, SeedResult, Setting
from perceptic.evaluate.layers_features import intermediate_maps
from perceptic.train.world_report import load_clip

_SIZES = {"train": 1200, "choose": 300, "test": 400}
_STEPS, _BATCH, _RATE, _WIDTH = 600, 64, 2e-3, 96
_HIT = 0.5


@dataclass(frozen=True)
class _Asked:
    """Pictures asked for one of their objects by colour and shape: pixels (N, S, S, 3), names (N, 2), boxes (N, 4) as
    left, top, right, bottom in [0, 1]."""

    pixels: NDArray[np.uint8]
    names: Tensor
    boxes: Tensor


class BoxHead(nn.Module):
    """A named object's box from frozen patches: the name is a query that attends over patches and their places."""

    def __init__(self, width: int, num_patches: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, _WIDTH)
        self.places = nn.Parameter(torch.randn(num_patches, _WIDTH) * 0.02)
        self.colours = nn.Embedding(len(world.COLOURS), _WIDTH)
        self.shapes = nn.Embedding(len(world.SHAPES), _WIDTH)
        self.attention = nn.MultiheadAttention(_WIDTH, 4, batch_first=True)
        self.box = nn.Sequential(
            nn.LayerNorm(_WIDTH), nn.Linear(_WIDTH, 2 * _WIDTH), nn.GELU(), nn.Linear(2 * _WIDTH, 4)
        )

    def forward(self, patches_BPD: Tensor, names_B2: Tensor) -> Tensor:
        """(B, P, D) patches and (B, 2) colour and shape numbers to boxes (B, 4)."""
        keys = self.project(self.norm(patches_BPD)) + self.places
        query = (self.colours(names_B2[:, 0]) + self.shapes(names_B2[:, 1]))[:, None]
        found = self.attention(query, keys, keys, need_weights=False)[0][:, 0]
        centre_size = self.box(found + query[:, 0]).sigmoid()
        centre, half = centre_size[:, :2], centre_size[:, 2:] / 2
        return torch.cat([centre - half, centre + half], dim=1)


def run(seed: int, setting: Setting) -> SeedResult:
    """Box accuracy of a head on every layer; the layer is chosen on pictures of its own, and scored on others."""
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
    curve = Curve("boxes at IoU 0.5", tuple(float(layer + 1) for layer in layers), tuple(tested))
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


def _fit(patches: Tensor, asked: _Asked, seed: int) -> BoxHead:
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        head = BoxHead(patches.shape[-1], patches.shape[1])
        optimizer = torch.optim.AdamW(head.parameters(), _RATE, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=_STEPS, pct_start=0.1)
        for _ in range(_STEPS):
            rows = torch.randint(len(patches), (_BATCH,))
            boxes = head(patches[rows].float(), asked.names[rows])
            overlap = box_iou(boxes, asked.boxes[rows])
            loss = F.l1_loss(boxes, asked.boxes[rows]) * 4 + (1 - overlap).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
    return head.eval()


@torch.inference_mode()
def _accuracy(head: BoxHead, patches: Tensor, asked: _Asked, names: Tensor | None = None) -> float:
    """Share in percent of the boxes that overlap the true one by at least half."""
    boxes = head(patches.float(), asked.names if names is None else names)
    return 100.0 * float((box_iou(boxes, asked.boxes) >= _HIT).float().mean())


def box_iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of boxes (B, 4) in pairs, (B,)."""
    low, high = torch.maximum(first[:, :2], second[:, :2]), torch.minimum(first[:, 2:], second[:, 2:])
    shared = (high - low).clamp_min(0).prod(dim=1)
    areas = sum((box[:, 2:] - box[:, :2]).clamp_min(0).prod(dim=1) for box in (first, second))
    return shared / (areas - shared).clamp_min(1e-9)


CLAIM = Claim(
    number=13,
    title="The last layer is poor at grounding",
    statement="Frozen PE core G under a language model: RefCOCO accuracy 39.1 from the last layer, 68.7 from layer 38.",
    experiment="Scenes of two to four objects; a small head (one query, made of the words for colour and shape, "
    "attends over frozen patches) gives the named object's box. Effect: accuracy at IoU 0.5 of the best earlier "
    "layer, chosen on pictures of its own, minus that of the last layer.",
    quantities=(Quantity("best earlier layer above the last one", "points", "above"),),
    run=run,
    minutes=2.0,
    caveats="The head stands in for the language model: it learns the words itself. One trained model of six layers; "
    "seeds differ in scenes and head.",
    curve_axes=("layer", "boxes at IoU 0.5, %"),
)
