"""A PerceptionLM over several devices, from outside: its parts are moved, and hooks carry tokens from one to the next.

    place(model, {"vision_model": "cuda:1", "decoder": "cuda:0"})
    place(model, plan_device_map(model, {"cuda:0": 8e9, "cuda:1": 24e9}))

One device works at a time: this makes a model fit, not faster. Keys and values stay with their layer. Only results
cross: per step and boundary, one hidden row.

Shapes: B batch, L tokens, D width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from perceptic.errors import ConfigError, NotEnoughMemoryError
from perceptic.models.decoder import LayerCache
from perceptic.models.perception_lm import PerceptionLM
from perceptic.models.rope import RopeTable

DeviceMap = Mapping[str, torch.device | str]

_KEPT_FREE = 0.1  # of a device, for what tokens need while they pass


def parts_of(model: PerceptionLM) -> list[str]:
    """The modules that can be placed, in the order that tokens pass them.

    A tied head is the embedding's matrix: hidden states come back to it, and the last norm is with it.
    """
    layers = [f"decoder.layers.{index}" for index in range(len(model.decoder.layers))]
    tail = [] if model.config.decoder.weight_tying else ["decoder.norm", "decoder.output"]
    return ["vision_model", "vision_projector", "decoder.tok_embeddings", *layers, *tail]


def complete_device_map(model: PerceptionLM, device_map: DeviceMap) -> dict[str, torch.device]:
    """The device of every part, for a map that may name parts or what they begin with; the longest name counts.

    `{"": "cuda:0", "decoder.layers.3": "cuda:1"}` is complete: "" stands for all.

    Raises:
        ConfigError: a name that is no part of the model, a part without a device, or parts apart that share a weight.
    """
    parts = parts_of(model)
    unknown = [name for name in device_map if not any(_is_within(part, name) for part in parts)]
    if unknown:
        raise ConfigError(f"the device map names '{unknown[0]}', but the model's parts are {', '.join(parts)}")
    found: dict[str, torch.device] = {}
    for part in parts:
        names = [name for name in device_map if _is_within(part, name)]
        if not names:
            raise ConfigError(f"the device map says nothing about '{part}'; add it, or '' for everything else")
        found[part] = torch.device(device_map[max(names, key=len)])
    _check_together(found)
    return found | {"decoder.norm": found.get("decoder.norm", found["decoder.tok_embeddings"])}


def plan_device_map(
    model: PerceptionLM,
    budgets: Mapping[str, float],
    vision_device: torch.device | str | None = None,
    cache_bytes_per_layer: int = 0,
) -> dict[str, torch.device]:
    """Spread a model over as few devices as hold it, each loaded to the same share of its budget.

    Args:
        model: may be on the meta device.
        budgets: free bytes of each device, in the order of preference; a tenth of each is left free.
        vision_device: where tower and projector go; None is with the first parts of the decoder.
        cache_bytes_per_layer: keys and values that come with each layer.

    Raises:
        NotEnoughMemoryError: all devices together are too small.
    """
    parts = [part for part in parts_of(model) if vision_device is None or not part.startswith("vision_")]
    sizes = {part: _num_bytes(model.get_submodule(part)) for part in parts}
    for part in parts:
        if part.startswith("decoder.layers."):
            sizes[part] += cache_bytes_per_layer
    groups = _inseparable(parts)
    group_sizes = [sum(sizes[part] for part in group) for group in groups]
    rooms = {name: (1 - _KEPT_FREE) * budget for name, budget in budgets.items()}
    for number in range(1, len(rooms) + 1):
        names = list(rooms)[:number]
        placed = balance(group_sizes, [rooms[name] for name in names])
        if placed is not None:
            found = {part: names[place] for group, place in zip(groups, placed, strict=True) for part in group}
            if vision_device is not None:
                found |= {"vision_model": str(vision_device), "vision_projector": str(vision_device)}
            return complete_device_map(model, found)
    raise NotEnoughMemoryError(
        f"the model needs {sum(group_sizes) / 1e9:.1f} GB, more than {', '.join(rooms)} have free together "
        f"({sum(rooms.values()) / 1e9:.1f} GB); load it with weights='int8' or 'int4'"
    )


def balance(sizes: Sequence[float], rooms: Sequence[float]) -> list[int] | None:
    """Give runs of items to devices in order, so that the fullest is as little full as can be.

    Returns:
        The device of each item, none lower than the one before; None if they do not fit.
    """
    shares = sorted(
        {sum(sizes[start:stop]) / room for room in rooms if room > 0 for start, stop in _runs(len(sizes))} | {0.0}
    )
    best: list[int] | None = None
    low, high = 0, len(shares) - 1
    while low <= high:  # the fullest device holds some run: one of these shares is the least that works
        middle = (low + high) // 2
        placed = _fill_in_order(sizes, [shares[middle] * room for room in rooms])
        if placed is not None and shares[middle] <= 1:
            best, high = placed, middle - 1
        elif placed is not None:
            high = middle - 1
        else:
            low = middle + 1
    return best


def place(model: PerceptionLM, device_map: DeviceMap) -> PerceptionLM:
    """Move a model's parts and make its tokens follow them; the model itself is changed and returned.

    Calling it again with another map moves the parts again.

    Raises:
        ConfigError: as `complete_device_map`.
    """
    found = complete_device_map(model, device_map)
    for part, device in found.items():
        module = model.get_submodule(part)
        module.to(device)
        if part.startswith("decoder.") and part != "decoder.tok_embeddings":
            _follow(module, device)
    return model


class _Follow:
    """A hook before a module: its inputs come to its device. What came last is kept, layers share tables and masks."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(self._moved(value) for value in inputs)

    def _moved(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.to(self.device)
        if isinstance(value, RopeTable):
            return RopeTable(value.cos_LP.to(self.device), value.sin_LP.to(self.device))
        if isinstance(value, LayerCache):
            value.cache.move_layer(value.layer, self.device)
            visible = None if value.visible is None else value.visible.to(self.device)
            return dataclasses.replace(value, visible=visible)
        return value


def _follow(module: nn.Module, device: torch.device) -> None:
    for key, hook in list(module._forward_pre_hooks.items()):
        if isinstance(hook, _Follow):
            del module._forward_pre_hooks[key]
    module.register_forward_pre_hook(_Follow(device))


def _is_within(part: str, name: str) -> bool:
    return name == "" or part == name or part.startswith(f"{name}.")


def _check_together(found: Mapping[str, torch.device]) -> None:
    for group in _inseparable(list(found)):
        apart = [part for part in group if found[part] != found[group[0]]]
        if apart:
            raise ConfigError(
                f"the device map puts '{group[0]}' on {found[group[0]]} and '{apart[0]}' on {found[apart[0]]}; these "
                "must be on one device"
            )


def _inseparable(parts: Sequence[str]) -> list[list[str]]:
    """Parts in groups that must stay together, in order."""
    together = {
        "vision_projector": "vision_model",
        "decoder.layers.0": "decoder.tok_embeddings",
        "decoder.output": "decoder.norm",
    }
    groups: list[list[str]] = []
    for part in parts:
        partner = together.get(part)
        if groups and partner == groups[-1][-1]:
            groups[-1].append(part)
        else:
            groups.append([part])
    return groups


def _num_bytes(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))


def _runs(number: int) -> list[tuple[int, int]]:
    return [(start, stop) for start in range(number) for stop in range(start + 1, number + 1)]


def _fill_in_order(sizes: Sequence[float], rooms: Sequence[float]) -> list[int] | None:
    placed: list[int] = []
    device, left = 0, rooms[0] if rooms else 0.0
    for size in sizes:
        while size > left * (1 + 1e-12):
            device += 1
            if device == len(rooms):
                return None
            left = rooms[device]
        placed.append(device)
        left -= size
    return placed
