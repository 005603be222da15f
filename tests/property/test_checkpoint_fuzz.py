"""Damaged checkpoints: a typed error, or a load that is exact. Never a crash, never a half-random model.

A changed byte inside a tensor cannot be seen without reading whole files, so that "exact" means: the loaded weights
differ from those that were written in at most as many bytes as the mutation changed. A shifted, exchanged or invented
tensor differs in many more.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from perceptic.configs import ClipConfig, TextConfig, VisionConfig
from perceptic.errors import PercepticError
from perceptic.weights.formats import FORMATS, Format
from perceptic.weights.names import StateDict
from perceptic.weights.pretrained import CLIP, VisionTransformer

CONFIG = ClipConfig(
    VisionConfig(
        patch_size=4,
        width=8,
        layers=2,
        heads=2,
        mlp_ratio=2.0,
        output_dim=6,
        image_size=8,
        use_cls_token=True,
        attn_pooler_heads=2,
    ),
    TextConfig(context_length=4, width=8, heads=2, layers=1, output_dim=6, vocab_size=20),
)
CONTAINERS = ("safetensors", "zip", "legacy")
Model = CLIP | VisionTransformer
# Writes the damaged file and returns what a load may give, and how many bytes of it may differ.
Mutation = Callable[[random.Random, StateDict, str, Path], tuple[StateDict, int]]


def make_model() -> CLIP:
    torch.manual_seed(0)
    model = CLIP(CONFIG)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape))
    return model


def write(state: StateDict, container: str, path: Path, wrapper: str | None = None) -> None:
    if container == "safetensors":
        save_file({key: value.contiguous().clone() for key, value in state.items()}, path)
        return
    content: Any = state if wrapper is None else {wrapper: state, "epoch": 1}
    torch.save(content, path, _use_new_zipfile_serialization=container == "zip")


def change_bytes(path: Path, change: Callable[[bytearray], bytes | bytearray]) -> None:
    path.write_bytes(change(bytearray(path.read_bytes())))


def flip_bytes(rng: random.Random, state: StateDict, container: str, path: Path) -> tuple[StateDict, int]:
    """Anywhere, or in the first and last kilobyte, where the structure is."""
    write(state, container, path, rng.choice([None, "state_dict", "model"]))
    count = rng.choice([1, 1, 4, 64])

    def flip(content: bytearray) -> bytearray:
        for _ in range(count):
            where = rng.choice(
                [rng.randrange(len(content)), rng.randrange(1024), len(content) - 1 - rng.randrange(1024)]
            )
            content[where] ^= rng.randrange(1, 256)
        return content

    change_bytes(path, flip)
    return state, count


def truncate(rng: random.Random, state: StateDict, container: str, path: Path) -> tuple[StateDict, int]:
    write(state, container, path)
    change_bytes(path, lambda content: content[: rng.randrange(len(content))])
    return state, 0


def grow(rng: random.Random, state: StateDict, container: str, path: Path) -> tuple[StateDict, int]:
    write(state, container, path)
    where = rng.choice(["front", "back", "middle"])
    extra = rng.randbytes(rng.choice([1, 8, 100]))

    def insert(content: bytearray) -> bytes:
        at = {"front": 0, "back": len(content), "middle": rng.randrange(len(content))}[where]
        return bytes(content[:at]) + extra + bytes(content[at:])

    change_bytes(path, insert)
    return state, 0


def swap_blocks(rng: random.Random, state: StateDict, container: str, path: Path) -> tuple[StateDict, int]:
    """Two stretches exchanged, as a broken download resumes."""
    write(state, container, path)
    size = rng.choice([16, 64, 512])

    def swap(content: bytearray) -> bytearray:
        a, b = rng.randrange(len(content) - size), rng.randrange(len(content) - size)
        content[a : a + size], content[b : b + size] = content[b : b + size], content[a : a + size]
        return content

    change_bytes(path, swap)
    return state, 2 * size


def rename_key(rng: random.Random, state: StateDict, container: str, path: Path) -> tuple[StateDict, int]:
    key = rng.choice(sorted(state))
    new = rng.choice([key + "x", key[1:], "module." + key, key.replace("0", "7"), key.replace(".", "..", 1), "", "{i}"])
    changed = {new if name == key else name: value for name, value in state.items()}
    write(changed, container, path)
    return changed, 0


def drop_or_add_key(rng: random.Random, state: StateDict, container: str, path: Path) -> tuple[StateDict, int]:
    changed = dict(state)
    if rng.random() < 0.5:
        del changed[rng.choice(sorted(state))]
    else:
        changed[rng.choice(["extra", "visual.extra.weight", "blocks.9.norm1.weight"])] = torch.zeros(3)
    write(changed, container, path)
    return changed, 0


def reshape(rng: random.Random, state: StateDict, container: str, path: Path) -> tuple[StateDict, int]:
    key = rng.choice(sorted(state))
    value = state[key]
    new = rng.choice(
        [
            value[None],
            value.flatten(),
            value.reshape(-1)[:-1] if value.ndim else value[None],
            torch.zeros(0),
            torch.zeros(2, *value.shape),
            value.mT.contiguous() if value.ndim == 2 else value[None, None],
        ]
    )
    changed = {**state, key: new}
    write(changed, container, path)
    return changed, 0


def retype(rng: random.Random, state: StateDict, container: str, path: Path) -> tuple[StateDict, int]:
    keys = sorted(state) if rng.random() < 0.3 else [rng.choice(sorted(state))]
    dtype = rng.choice([torch.int64, torch.bool, torch.uint8, torch.float16, torch.float64, torch.float8_e4m3fn])
    changed = {key: value.to(dtype) if key in keys else value for key, value in state.items()}
    write(changed, container, path)
    return changed, 0


def replace_content(rng: random.Random, state: StateDict, container: str, path: Path) -> tuple[StateDict, int]:
    """Another file under the same name."""
    magics = [b"PK\x03\x04", b"\x80\x02", b"\x80\x04", b"\x10\x00\x00\x00\x00\x00\x00\x00{", b"\xff\xd8\xff", b"{", b""]
    path.write_bytes(rng.choice(magics) + rng.randbytes(rng.choice([0, 7, 8, 9, 300])))
    return {}, 0


MUTATIONS: list[Mutation] = [
    flip_bytes,
    flip_bytes,
    flip_bytes,
    truncate,
    grow,
    swap_blocks,
    rename_key,
    drop_or_add_key,
    reshape,
    retype,
    replace_content,
]


@dataclass(frozen=True)
class Sample:
    """A damaged file, what is in it, and what loads it."""

    path: Path
    form: Format
    content: StateDict
    changed_bytes: int
    model_class: type[Model]


def make_sample(seed: int, folder: Path) -> Sample:
    rng = random.Random(seed)
    form = FORMATS[rng.choice(["original", "timm", "open_clip", "perceptic"])]  # type: ignore[index]
    state: StateDict = dict(make_model().state_dict())
    if form.name == "timm":
        state = {key: value for key, value in state.items() if key.startswith("visual.")}
    path = folder / f"w{seed}"
    mutate = rng.choice(MUTATIONS)
    content, changed_bytes = mutate(rng, form.from_perceptic(state), rng.choice(CONTAINERS), path)
    model_class: type[Model] = VisionTransformer if form.name == "timm" or rng.random() < 0.3 else CLIP
    return Sample(path, form, content, changed_bytes, model_class)


def count_differing_bytes(model: Model, case: Sample) -> int:
    prefix = "" if isinstance(model, CLIP) else "visual."
    written = case.form.to_perceptic({key.removeprefix("module."): value for key, value in case.content.items()})
    total = 0
    for key, value in model.state_dict().items():
        expected = written[prefix + key].to(value.dtype)
        total += int((as_bytes(value) != as_bytes(expected)).sum())
    return total


def as_bytes(tensor: torch.Tensor) -> torch.Tensor:
    # NaNs compare by their bits: a changed byte can make one.
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def check(seed: int, folder: Path) -> str:
    case = make_sample(seed, folder)
    config = CONFIG if case.model_class is CLIP else CONFIG.vision
    try:
        model = case.model_class.from_pretrained(case.path, config=config)
    except PercepticError as error:
        return "error" if str(case.path) in str(error) else f"the message does not name the file: {error}"
    if any(parameter.is_meta for parameter in model.parameters()):
        return "weights are missing"
    differing = count_differing_bytes(model, case)
    return (
        "exact" if differing <= case.changed_bytes else f"{differing} bytes differ, {case.changed_bytes} were changed"
    )


def run(seeds: range, folder: Path) -> Counter[str]:
    outcomes = {seed: check(seed, folder) for seed in seeds}
    assert {seed: outcome for seed, outcome in outcomes.items() if outcome not in ("error", "exact")} == {}
    return Counter(outcomes.values())


def test_damaged_checkpoints(tmp_path: Path) -> None:
    counts = run(range(60), tmp_path)
    # Both outcomes must occur, or the mutations are too weak or too strong to mean anything.
    assert counts["error"] >= 30
    assert counts["exact"] >= 3


@pytest.mark.slow
def test_many_damaged_checkpoints(tmp_path: Path) -> None:
    counts = run(range(1000, 1500), tmp_path)
    assert counts["error"] >= 250
    assert counts["exact"] >= 25


def test_inference_of_the_architecture_survives_too(tmp_path: Path) -> None:
    """Without a configuration the shapes are asked first: they may lie as well."""
    for seed in range(60):
        case = make_sample(seed, tmp_path)
        with pytest.raises(PercepticError):  # no model of the zoo is this small
            case.model_class.from_pretrained(case.path)
