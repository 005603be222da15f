"""Parts of a model on several devices: maps are completed and balanced; tokens, tables and caches follow.

There is one real device here. The `meta` device stands for a second one at the end of the model: it computes shapes
only, and refuses to be mixed with the CPU, so that a tensor left behind is an error.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perceptic.configs_plm import plm_config
from perceptic.errors import ConfigError, NotEnoughMemoryError
from perceptic.inference.placement import balance, complete_device_map, parts_of, place, plan_device_map
from perceptic.models.kv_cache import KVCache, join
from perceptic.models.perception_lm import PerceptionLM
from perceptic.models.quantized import quantize
from perceptic.weights.loading import build_empty


def build(weight_tying: bool = False, layers: int = 4) -> PerceptionLM:
    torch.manual_seed(0)
    config = plm_config("PLM-Nano")
    decoder = config.decoder.replace(n_layers=layers, weight_tying=weight_tying)
    return PerceptionLM(config.replace(decoder=decoder, vision=config.vision.replace(layers=1))).eval()


def on(device: str, *names: str) -> dict[str, str]:
    return dict.fromkeys(names, device)


def test_a_map_is_completed() -> None:
    model = build()
    tail = on("cuda:1", "decoder.layers.3", "decoder.norm", "decoder.output")
    found = complete_device_map(model, {"": "cuda:0", **tail})
    assert set(found) == set(parts_of(model))
    assert {part for part, device in found.items() if device == torch.device("cuda:1")} == set(tail)
    assert parts_of(model)[-1] == "decoder.output"
    assert parts_of(build(weight_tying=True))[-1] == "decoder.layers.3"


@pytest.mark.parametrize(
    ("device_map", "message"),
    [
        ({"decoder": "cpu"}, "nothing about 'vision_model'"),
        ({"": "cpu", "decoder.layers.9": "cpu"}, r"names 'decoder\.layers\.9', but the model's parts are vision_model"),
        ({"": "cpu", "decoder.layers.1.attention": "meta"}, "names 'decoder.layers.1.attention'"),
        ({"": "cpu", "decoder.layers.0": "meta"}, "'decoder.tok_embeddings' on cpu and 'decoder.layers.0' on meta"),
        ({"": "cpu", "vision_projector": "meta"}, "must be on one device"),
    ],
)
def test_maps_that_cannot_be(device_map: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        complete_device_map(build(), device_map)


@torch.inference_mode()
def test_a_tied_head_stays_with_its_embedding() -> None:
    model = build(weight_tying=True)
    found = complete_device_map(model, {"": "meta", "decoder.tok_embeddings": "cpu", "decoder.layers.0": "cpu"})
    assert found["decoder.norm"] == torch.device("cpu")
    with pytest.raises(ConfigError, match=r"names 'decoder\.norm'"):
        complete_device_map(model, {"": "cpu", "decoder.norm": "meta"})
    place(model, {"": "cpu"})
    assert model(torch.arange(4)[None]).shape == (1, 4, 2048)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(0, 20), min_size=1, max_size=9),
    st.lists(st.integers(1, 40), min_size=1, max_size=3),
)
def test_balance_is_the_best_there_is(sizes: list[int], rooms: list[int]) -> None:
    def fullest(placed: list[int]) -> float:
        return max(
            sum(size for size, device in zip(sizes, placed, strict=True) if device == number) / room
            for number, room in enumerate(rooms)
        )

    def all_ways(items: int, first: int = 0) -> list[list[int]]:
        if items == 0:
            return [[]]
        return [[device, *rest] for device in range(first, len(rooms)) for rest in all_ways(items - 1, device)]

    best = min(map(fullest, all_ways(len(sizes))))
    placed = balance(sizes, rooms)
    if best > 1:
        assert placed is None
    else:
        assert placed is not None
        assert placed == sorted(placed)
        assert fullest(placed) == pytest.approx(best)


def test_a_model_is_spread_by_memory() -> None:
    model = build_empty(PerceptionLM, plm_config("Perception-LM-8B"))
    one = plan_device_map(model, {"cuda:0": 45e9, "cuda:1": 80e9})
    assert set(one.values()) == {torch.device("cuda:0")}  # no more devices than needed
    model.bfloat16()
    two = plan_device_map(model, {"cuda:0": 12e9, "cuda:1": 12e9}, cache_bytes_per_layer=10_000_000)
    sizes = {
        device: sum(
            value.nbytes
            for part, where in two.items()
            if str(where) == device
            for value in model.get_submodule(part).parameters()
        )
        for device in ("cuda:0", "cuda:1")
    }
    assert sum(sizes.values()) == sum(value.nbytes for value in model.parameters())
    assert max(sizes.values()) < 10.8e9
    layers = [str(two[f"decoder.layers.{index}"]) for index in range(32)]
    assert layers == sorted(layers)
    apart = plan_device_map(model, {"cuda:0": 18e9}, vision_device="cpu")
    assert (apart["vision_model"], apart["vision_projector"]) == (torch.device("cpu"), torch.device("cpu"))
    with pytest.raises(NotEnoughMemoryError, match=r"more than cuda:0, cuda:1 have free together \(14\.4 GB\)"):
        plan_device_map(model, {"cuda:0": 8e9, "cuda:1": 8e9})
    tied = plan_device_map(build_empty(PerceptionLM, plm_config("Perception-LM-1B")).bfloat16(), on_two())
    assert tied["decoder.norm"] == tied["decoder.tok_embeddings"]


def on_two() -> dict[str, float]:
    return {"cuda:0": 2.2e9, "cuda:1": 2.2e9}


TAIL = on("cpu", "") | on("meta", "decoder.layers.2", "decoder.layers.3", "decoder.norm", "decoder.output")


@pytest.mark.parametrize("weights", [None, "int4"])
@torch.inference_mode()
def test_tokens_follow_to_another_device(weights: str | None) -> None:
    model = build() if weights is None else quantize(build(), weights)
    place(model, TAIL)
    ids = torch.arange(6)[None]
    assert model(ids).is_meta
    assert model.decoder.device == torch.device("cpu")
    cache = KVCache.empty(model.config.decoder, 1, 4)
    extended = model.decoder.extend(model.decoder.embed(ids), cache)
    assert model.decoder.logits(extended.hidden_BLD).shape == (1, 6, 2048)
    devices = [extended.cache.keys(layer).device.type for layer in range(4)]
    assert devices == ["cpu", "cpu", "meta", "meta"]
    assert extended.cache.values(3).is_meta
    again = model.decoder.extend(model.decoder.embed(ids), extended.cache)  # with a mask: earlier columns are visible
    assert again.hidden_BLD.is_meta
    both = join([again.cache, extended.cache])  # with padding
    stepped = model.decoder.extend(model.decoder.embed(torch.tensor([[1], [2]])), both)
    assert stepped.hidden_BLD.shape == (2, 1, 256)
    assert stepped.cache.rows([1]).keys(3).shape[0] == 1


@torch.inference_mode()
def test_placing_again_forgets_the_last_map() -> None:
    model = build()
    ids, pixels = (
        torch.tensor([[1, *[model.config.image_token_id] * model.tokens_per_chunk, 5]]),
        torch.zeros(1, 3, 64, 64),
    )
    wanted = model(ids, pixels)
    place(model, {"": "cpu"})
    place(model, {"": "cpu"})
    assert torch.equal(model(ids, pixels), wanted)
    assert len(model.decoder.norm._forward_pre_hooks) == 1
    place(model, TAIL)
    assert model(ids, pixels).is_meta


@torch.inference_mode()
def test_the_tower_on_another_device() -> None:
    model = build()
    place(model, {"": "cpu", "vision_model": "meta", "vision_projector": "meta"})
    assert model.encode_chunks(torch.zeros(2, 3, 64, 64)).is_meta
    assert model(torch.arange(4)[None]).device.type == "cpu"
