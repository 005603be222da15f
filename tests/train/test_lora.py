"""Adapters begin as nothing, train alone, travel alone, and end as part of the weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from perceptic.configs_plm import DecoderConfig
from perceptic.errors import ConfigError, TrainError
from perceptic.models.decoder import Decoder
from perceptic.train.lora import LoraSettings, add_lora, load_lora_state, lora_state, merge_lora

CONFIG = DecoderConfig(dim=32, n_layers=2, n_heads=4, n_kv_heads=2, vocab_size=64, multiple_of=32, weight_tying=True)
SETTINGS = LoraSettings(rank=4, alpha=8.0)


def decoder(dtype: torch.dtype = torch.float32) -> Decoder:
    torch.manual_seed(0)
    return Decoder(CONFIG).to(dtype)


def tokens() -> Tensor:
    return torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(1))


def trained(model: Decoder, steps: int = 5) -> list[float]:
    parameters = add_lora(model, SETTINGS)
    optimizer = torch.optim.AdamW(parameters, lr=0.02)
    x = tokens()
    target = torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(2))
    losses = []
    for _ in range(steps):
        loss = (model(x) - target).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def test_begins_at_the_model_as_it_is() -> None:
    model = decoder()
    before, names = model(tokens()), set(model.state_dict())
    parameters = add_lora(model, SETTINGS)
    assert torch.equal(model(tokens()), before)
    added = set(model.state_dict()) - names
    assert names < set(model.state_dict())
    assert added == set(lora_state(model))
    assert len(parameters) == len(added) == 2 * 7 * 2
    per_layer = 4 * (32 + 32 + 2 * (32 + 16) + 32 + 32 + 3 * (32 + CONFIG.ffn_width))
    assert sum(parameter.numel() for parameter in parameters) == 2 * per_layer


def test_trains_the_adapters_alone_and_merges() -> None:
    model = decoder()
    frozen = {name: value.clone() for name, value in model.state_dict().items()}
    losses = trained(model)
    assert losses[-1] < losses[0]
    assert all(torch.equal(model.state_dict()[name], value) for name, value in frozen.items())
    adapted = model(tokens())
    merge_lora(model)
    assert set(model.state_dict()) == set(frozen)
    torch.testing.assert_close(model(tokens()), adapted, atol=1e-5, rtol=1e-5)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not torch.equal(model.state_dict()["layers.0.attention.wq.weight"], frozen["layers.0.attention.wq.weight"])


def test_adapters_travel_alone() -> None:
    model = decoder()
    trained(model)
    other = decoder()
    add_lora(other, SETTINGS)
    load_lora_state(other, lora_state(model))
    assert torch.equal(other(tokens()), model(tokens()))


def test_other_adapters_are_refused() -> None:
    model, other = decoder(), decoder()
    add_lora(model, SETTINGS)
    add_lora(other, LoraSettings(rank=2))
    with pytest.raises(TrainError, match=r"is \(2, 32\) in the adapters and \(4, 32\) in the model"):
        load_lora_state(model, lora_state(other))
    with pytest.raises(TrainError, match="None in the adapters"):
        load_lora_state(model, {})


def test_bfloat16_weights_keep_fp32_adapters() -> None:
    model = decoder(torch.bfloat16)
    parameters = add_lora(model, SETTINGS)
    assert {parameter.dtype for parameter in parameters} == {torch.float32}
    y = model(tokens().bfloat16())
    assert y.dtype == torch.bfloat16
    y.float().square().mean().backward()
    assert all(parameter.grad is not None for parameter in parameters)
    merge_lora(model)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_chosen_layers() -> None:
    model = decoder()
    assert len(add_lora(model, LoraSettings(rank=1, layers=("wq",)))) == 4
    with pytest.raises(ConfigError, match="adapters already"):
        add_lora(model, SETTINGS)
    with pytest.raises(ConfigError, match="no linear layer named nothing"):
        add_lora(decoder(), LoraSettings(layers=("nothing",)))
    with pytest.raises(ConfigError, match="must be positive"):
        LoraSettings(rank=0)
