"""PerceptionLM gives the original's numbers: rotary tables, text, pictures among text, loss and gradients."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from perceptic.configs import VisionConfig
from perceptic.configs_plm import (
    PLM_CONFIGS,
    DecoderConfig,
    PerceptionLMConfig,
    default_image_token_id,
    ffn_fields,
    plm_config,
)
from perceptic.errors import ConfigError
from perceptic.models.kv_cache import KVCache, join
from perceptic.models.perception_lm import PerceptionLM
from perceptic.models.text_rope import rope_frequencies, text_rope_table

NAMES = ["tied_scaled", "untied_unscaled", "untied_scaled_oddgrid", "tied_unscaled_pool1"]
LOGITS, FEATURES, TABLE, LOSS = 2e-4, 5e-5, 1e-5, 1e-5


def build(goldens: Path, name: str) -> PerceptionLM:
    folder = goldens / "plm" / name
    fields = json.loads((folder / "params.json").read_text())["model"]
    known = {field.name for field in dataclasses.fields(DecoderConfig)}
    decoder = DecoderConfig.from_dict({key: value for key, value in fields.items() if key in known})
    vision = VisionConfig.from_dict(fields["vision_model"])
    token = default_image_token_id(decoder.vocab_size)
    model = PerceptionLM(PerceptionLMConfig(decoder, vision, fields["pooling_ratio"], token))
    state = torch.load(folder / "consolidated.pth", weights_only=True)
    state.pop("output.tied_module.weight", None)
    own = {k if k.startswith("vision_") else f"decoder.{k}": v.float() for k, v in state.items()}
    model.load_state_dict(own)
    return model.eval()


def inputs(goldens: Path, name: str) -> dict[str, Tensor]:
    return load_file(goldens / "plm" / name / "inputs.safetensors")


def expected(goldens: Path, name: str) -> dict[str, Tensor]:
    return load_file(goldens / "plm" / name / "expected.safetensors")


def real_chunks(goldens: Path, name: str, images: Tensor) -> Tensor:
    """The batch's chunks without the dummies of its text-only samples."""
    batch = json.loads((goldens / "plm" / name / "batch.json").read_text())
    kinds = [kind for kind, count in zip(batch["media_type"], batch["num_chunks"], strict=True) for _ in range(count)]
    return images[torch.tensor([kind != "text" for kind in kinds])]


def assert_close(actual: Tensor, wanted: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(actual, wanted, atol=tolerance, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_rotary_table(goldens: Path, name: str) -> None:
    model, wanted = build(goldens, name), expected(goldens, name)
    positions = inputs(goldens, name)["rope.positions"]
    table = text_rope_table(positions, model.config.decoder)
    near = positions <= 100
    for actual, key in ((table.cos_LP, "rope.cos"), (table.sin_LP, "rope.sin")):
        assert_close(actual[near], wanted[key][near], TABLE)
        assert_close(actual, wanted[key], 5e-4)


@pytest.mark.parametrize(
    ("head_size", "factor", "values"),
    [
        (64, 32, {14: 0.00321144611, 15: 0.00129054801, 16: 0.000429556705, 17: 9.70828623e-05, 31: 9.41830649e-08}),
        (128, 32, {28: 0.00321144611, 29: 0.00211840682, 30: 0.00129054801, 35: 2.38905304e-05, 63: 7.67231469e-08}),
        (128, 8, {28: 0.00321144611, 29: 0.00216657063, 30: 0.00137189368, 34: 0.000178507791, 63: 3.06892588e-07}),
        (128, 1, {29: 0.00261609908, 30: 0.0021311196, 35: 0.000764496974, 63: 2.4551407e-06}),
    ],
)
def test_rotary_frequencies(head_size: int, factor: float, values: dict[int, float]) -> None:
    config = DecoderConfig(
        dim=head_size,
        n_layers=1,
        n_heads=1,
        vocab_size=512,
        rope_theta=5e5,
        rope_scale_factor=factor,
        high_freq_factor=4,
    )
    frequencies = rope_frequencies(config)
    for pair, value in values.items():
        assert frequencies[pair].item() == pytest.approx(value, rel=2e-6)


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_text(goldens: Path, name: str) -> None:
    model, given, wanted = build(goldens, name), inputs(goldens, name), expected(goldens, name)
    assert_close(model(given["text_short.ids"]), wanted["text_short.logits"], LOGITS)
    logits = model(given["text_long.ids"])
    assert_close(logits[:, given["text_long.at"]], wanted["text_long.logits_at"], LOGITS)
    assert_close(logits.logsumexp(-1), wanted["text_long.logsumexp"], LOGITS)
    spread = model(given["text_spread.ids"], positions=given["text_spread.positions"])
    assert_close(spread, wanted["text_spread.logits"], LOGITS)


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_vision_tokens(goldens: Path, name: str) -> None:
    model, wanted = build(goldens, name), expected(goldens, name)
    images = inputs(goldens, name)["batch.images"]
    features = model.vision_model(images, strip_cls_token=True)
    assert_close(features, wanted["batch.vision_features"], FEATURES)
    assert_close(model.encode_chunks(images), wanted["batch.projected"], FEATURES)
    assert model.tokens_per_chunk == wanted["batch.projected"].shape[1]


@pytest.mark.parametrize("name", NAMES)
def test_pictures_among_text(goldens: Path, name: str) -> None:
    model, given, wanted = build(goldens, name), inputs(goldens, name), expected(goldens, name)
    logits = model(given["batch.input_ids"], real_chunks(goldens, name, given["batch.images"]))
    rows, positions = given["batch.select"].T
    assert_close(logits[rows, positions], wanted["batch.logits_select"], LOGITS)
    assert_close(logits.logsumexp(-1), wanted["batch.logsumexp"], LOGITS)
    log_probabilities = logits.log_softmax(-1).gather(-1, given["batch.labels"][..., None]).squeeze(-1)
    assert_close(log_probabilities, wanted["batch.label_logprob"], LOGITS)
    loss = F.cross_entropy(logits[given["batch.loss_mask"]], given["batch.labels"][given["batch.loss_mask"]])
    assert_close(loss.reshape(1), wanted["batch.loss"], LOSS)
    loss.backward()
    grads = json.loads((goldens / "plm" / name / "grads.json").read_text())["grads"]
    own = dict(model.named_parameters())
    assert len(own) == len(grads)
    for key, facts in grads.items():
        gradient = own[key if key.startswith("vision_") else f"decoder.{key}"].grad
        assert gradient is not None
        assert gradient.norm().item() == pytest.approx(facts["l2"], rel=1e-3)


@torch.inference_mode()
def test_bfloat16_keeps_the_best_token(goldens: Path) -> None:
    name = "tied_scaled"
    model, given, wanted = build(goldens, name).bfloat16(), inputs(goldens, name), expected(goldens, name)
    logits = model(given["batch.input_ids"], real_chunks(goldens, name, given["batch.images"]))
    rows, positions = given["batch.select"].T
    actual = logits[rows, positions].float()
    assert (actual - wanted["batch.logits_select_bf16"]).abs().max() < 0.15
    top = wanted["batch.logits_select"].topk(2, dim=-1).values
    clear = top[:, 0] - top[:, 1] > 0.2  # twice the difference that bfloat16 makes
    assert clear.sum() >= 16
    assert torch.equal(actual.argmax(-1)[clear], wanted["batch.logits_select"].argmax(-1)[clear])


def test_wrong_number_of_chunks(goldens: Path) -> None:
    model = build(goldens, "tied_scaled")
    size, token = model.image_size, model.config.image_token_id
    ids = torch.tensor([[1, *[token] * model.tokens_per_chunk, 2]])
    pixels = torch.zeros(1, 3, size, size)
    assert model(ids, pixels).shape == (1, ids.shape[1], model.config.decoder.vocab_size)
    for bad_ids, bad_pixels in ((ids, None), (ids, pixels.repeat(2, 1, 1, 1)), (ids[:, :-2], pixels)):
        with pytest.raises(ConfigError, match="image tokens"):
            model(bad_ids, bad_pixels)
    with pytest.raises(ConfigError, match="batch, tokens"):
        model(ids[0], pixels)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("steps", [[34], [1] * 34, [7, 1, 1, 20, 5]])
def test_cached_equals_uncached(goldens: Path, name: str, steps: list[int]) -> None:
    model = build(goldens, name)
    ids = inputs(goldens, name)["text_short.ids"]
    cache = KVCache.empty(model.config.decoder)
    hidden, start = [], 0
    with torch.inference_mode():
        for count in steps:
            extended = model.decoder.extend(model.embed(ids[:, start : start + count]), cache)
            hidden.append(extended.hidden_BLD)
            cache, start = extended.cache, start + count
        logits = model.decoder.logits(torch.cat(hidden, dim=1))
    assert cache.length == 34
    assert_close(logits, expected(goldens, name)["text_short.logits"], LOGITS)


def test_a_cache_is_a_value(goldens: Path) -> None:
    model = build(goldens, "untied_unscaled")
    ids = inputs(goldens, "untied_unscaled")["text_long.ids"][:, :300]

    @torch.inference_mode()
    def read(cache: KVCache, tokens: Tensor) -> tuple[Tensor, KVCache]:
        extended = model.decoder.extend(model.embed(tokens), cache)
        return extended.hidden_BLD, extended.cache

    _, stem = read(KVCache.empty(model.config.decoder, capacity=400), ids[:, :200])
    first, first_cache = read(stem, ids[:, 200:250])
    kept = first_cache.keys(0).clone()
    other, _ = read(stem, ids[:, 250:300])  # a second continuation of the same stem
    again, _ = read(stem, ids[:, 200:250])
    assert not torch.allclose(first, other)
    assert torch.equal(first, again)
    assert torch.equal(first_cache.keys(0), kept)
    whole, _ = read(KVCache.empty(model.config.decoder), ids[:, :250])
    assert_close(first, whole[:, 200:], LOGITS)
    cut, _ = read(first_cache.prefix(200), ids[:, 200:250])
    assert torch.equal(cut, first)


def test_joined_rows_equal_single_rows(goldens: Path) -> None:
    model = build(goldens, "tied_scaled")
    ids = inputs(goldens, "tied_scaled")["text_long.ids"]
    lengths = [5, 300, 17]
    with torch.inference_mode():
        caches, singles = [], []
        for length in lengths:
            cache = model.decoder.extend(model.embed(ids[:, :length]), KVCache.empty(model.config.decoder)).cache
            caches.append(cache)
            singles.append(model.decoder.extend(model.embed(ids[:, 400:403]), cache).hidden_BLD)
        joined = join(caches)
        together = model.decoder.extend(model.embed(ids[:, 400:403].expand(3, -1)), joined)
        for row, single in enumerate(singles):
            assert_close(together.hidden_BLD[row : row + 1], single, LOGITS)
        picked = together.cache.rows([2, 0])
        step = model.decoder.extend(model.embed(ids[:, 403:404].expand(2, -1)), picked).hidden_BLD
        single = model.decoder.extend(model.embed(ids[:, 400:404]), caches[2]).hidden_BLD[:, -1:]
        assert_close(step[:1], single, LOGITS)


@pytest.mark.parametrize(
    ("name", "vision", "projector", "decoder", "num_keys"),
    [
        ("Perception-LM-1B", 291_415_040, 6_295_552, 1_235_814_400, 477),
        ("Perception-LM-3B", 291_415_040, 12_589_056, 3_212_749_824, 585),
        ("Perception-LM-8B", 1_740_922_624, 23_076_864, 8_030_261_248, 957),
    ],
)
def test_parameter_counts(name: str, vision: int, projector: int, decoder: int, num_keys: int) -> None:
    with torch.device("meta"):
        model = PerceptionLM(plm_config(name))
    counts = [sum(p.numel() for p in part.parameters()) for part in model.children()]
    assert counts == [vision, projector, decoder]
    assert len(model.state_dict()) == num_keys
    assert model.tokens_per_chunk == 256


def test_nano_is_small() -> None:
    with torch.device("meta"):
        model = PerceptionLM(PLM_CONFIGS["PLM-Nano"])
    assert 3e6 < sum(p.numel() for p in model.decoder.parameters()) < 7e6
    assert model.tokens_per_chunk == 64


@pytest.mark.parametrize("name", PLM_CONFIGS)
def test_config_round_trip(name: str) -> None:
    config = PLM_CONFIGS[name]
    assert PerceptionLMConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("dim", "width"), [(2048, 8192), (3072, 8192), (4096, 14336), (64, 250), (64, 173), (256, 832)]
)
def test_ffn_fields(dim: int, width: int) -> None:
    fields = ffn_fields(dim, width)
    config = DecoderConfig(
        dim=dim,
        n_layers=1,
        n_heads=4,
        vocab_size=512,
        ffn_dim_multiplier=fields.ffn_dim_multiplier,
        multiple_of=fields.multiple_of,
    )
    assert config.ffn_width == width


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_heads": 3}, "not a multiple of n_heads"),
        ({"n_kv_heads": 3}, "n_kv_heads 3"),
        ({"dim": -1}, "positive integer"),
        ({"rope_theta": 0}, "rope_theta must be positive"),
        ({"head_dim": 5}, "even head size"),
        ({"heads": 4}, "did you mean 'n_heads'"),
    ],
)
def test_bad_decoder_configs(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DecoderConfig(dim=64, n_layers=1, n_heads=4, vocab_size=512).replace(**changes)
