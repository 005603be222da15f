"""LAMB against its published equations, which parameters decay, and what a fresh decoder trains with."""

import copy
import math

import pytest
import torch
from torch import nn

from perceptic.configs_plm import DecoderConfig, plm_config
from perceptic.errors import ConfigError
from perceptic.models.decoder import Decoder
from perceptic.models.perception_lm import PerceptionLM
from perceptic.train.mimetic import begin_mimetic
from perceptic.train.muon import Muon
from perceptic.train.optimizers import Lamb, decay_groups, make_optimizer


def reference_lamb(weight, gradients, lr, betas, eps, weight_decay, max_trust):
    """Algorithm 2 of arXiv 1904.00962 on nested lists, one number at a time."""
    rows = [list(map(float, row)) for row in weight]
    first = [[0.0] * len(row) for row in rows]
    second = [[0.0] * len(row) for row in rows]
    for step, gradient in enumerate(gradients, start=1):
        direction = []
        for i, row in enumerate(rows):
            line = []
            for j, value in enumerate(row):
                g = float(gradient[i][j])
                first[i][j] = betas[0] * first[i][j] + (1 - betas[0]) * g
                second[i][j] = betas[1] * second[i][j] + (1 - betas[1]) * g * g
                m = first[i][j] / (1 - betas[0] ** step)
                v = second[i][j] / (1 - betas[1] ** step)
                line.append(m / (math.sqrt(v) + eps) + weight_decay * value)
            direction.append(line)
        weight_norm = math.sqrt(sum(x * x for row in rows for x in row))
        step_norm = math.sqrt(sum(x * x for row in direction for x in row))
        trust = min(weight_norm / step_norm, max_trust)
        rows = [
            [x - lr * trust * d for x, d in zip(row, line, strict=False)]
            for row, line in zip(rows, direction, strict=False)
        ]
    return torch.tensor(rows)


@pytest.mark.parametrize("scale", [0.1, 50.0])
def test_lamb_equals_the_published_algorithm(scale):
    torch.manual_seed(0)
    weight = nn.Parameter(scale * torch.randn(3, 4, dtype=torch.float64))
    gradients = [torch.randn(3, 4, dtype=torch.float64) for _ in range(4)]
    expected = reference_lamb(weight.tolist(), [g.tolist() for g in gradients], 0.01, (0.9, 0.95), 1e-6, 0.05, 10.0)
    optimizer = Lamb([weight], lr=0.01, weight_decay=0.05)
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
    assert torch.allclose(weight.detach().float(), expected.float(), rtol=1e-6, atol=1e-7)


def test_undecayed_parameters_take_a_plain_adam_step():
    one, two = (nn.Parameter(torch.tensor([1.0, -2.0])) for _ in range(2))
    lamb, adam = Lamb([one], lr=0.1), torch.optim.Adam([two], lr=0.1, betas=(0.9, 0.95), eps=1e-6)
    for _ in range(3):
        one.grad = two.grad = torch.tensor([0.3, 0.7])
        lamb.step()
        adam.step()
    assert torch.allclose(one, two)


def test_only_matrices_decay():
    model = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    model.register_parameter("logit_scale", nn.Parameter(torch.zeros(())))
    decayed, plain = decay_groups(model, 0.05)
    assert [tuple(p.shape) for p in decayed["params"]] == [(2, 3)]
    assert sorted(tuple(p.shape) for p in plain["params"]) == [(), (2,), (2,), (2,)]
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.05, 0.0)


def test_the_recipe_names_choose_the_class():
    model = nn.Linear(2, 2)
    assert isinstance(make_optimizer("lamb", model, (0.9, 0.95), 1e-6, 0.05), Lamb)
    assert isinstance(make_optimizer("adamw", model, (0.9, 0.95), 1e-6, 0.05), torch.optim.AdamW)


def test_lamb_state_survives_a_round_trip():
    torch.manual_seed(0)
    gradients = [torch.randn(2, 2) for _ in range(4)]

    def steps(weight, optimizer, chosen):
        for gradient in chosen:
            weight.grad = gradient.clone()
            optimizer.step()

    straight = nn.Parameter(torch.ones(2, 2))
    steps(straight, Lamb([straight], weight_decay=0.1), gradients)
    begun = nn.Parameter(torch.ones(2, 2))
    before = Lamb([begun], weight_decay=0.1)
    steps(begun, before, gradients[:2])
    resumed = nn.Parameter(begun.detach().clone())
    after = Lamb([resumed], weight_decay=0.1)
    after.load_state_dict(before.state_dict())
    steps(resumed, after, gradients[2:])
    assert torch.equal(straight, resumed)


class TinyLanguageModel(nn.Module):
    """Names as a PerceptionLM's."""

    def __init__(self) -> None:
        super().__init__()
        config = DecoderConfig(dim=16, n_layers=2, n_heads=2, n_kv_heads=1, vocab_size=32, multiple_of=16)
        self.decoder = Decoder(config)


def test_muon_takes_the_matrices_of_decoder_blocks_and_goes_on_from_a_checkpoint() -> None:
    def model_and_optimizer() -> tuple[TinyLanguageModel, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = TinyLanguageModel()
        return model, make_optimizer("muon", model, (0.9, 0.98), 1e-8, 0.01)

    def train(model: TinyLanguageModel, optimizer: torch.optim.Optimizer, seeds: range) -> None:
        for seed in seeds:
            ids = torch.randint(32, (2, 12), generator=torch.Generator().manual_seed(seed))
            optimizer.zero_grad()
            logits = model.decoder.logits(model.decoder(model.decoder.tok_embeddings(ids)))
            nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
            optimizer.step()

    model, optimizer = model_and_optimizer()
    by_muon = [p for group in optimizer.param_groups if group.get("muon") for p in group["params"]]
    assert len(by_muon) == 2 * 7
    assert all(p.ndim == 2 for p in by_muon)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))
    train(model, optimizer, range(2))
    state = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    train(model, optimizer, range(2, 4))
    resumed, its_optimizer = model_and_optimizer()
    resumed.load_state_dict(state[0])
    its_optimizer.load_state_dict(state[1])
    train(resumed, its_optimizer, range(2, 4))
    for ours, theirs in zip(resumed.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_muon_takes_the_matrices_of_the_tower_too_and_no_other() -> None:
    config = plm_config("PLM-Nano")
    model = PerceptionLM(config)
    groups = make_optimizer("muon", model, (0.9, 0.98), 1e-8, 0.01, {"vision_model.": 0.5}).param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    by_muon = {names[id(p)]: group["rate"] for group in groups if group.get("muon") for p in group["params"]}
    assert len(by_muon) == 7 * config.decoder.n_layers + 4 * config.vision.layers
    for name, rate in by_muon.items():
        assert "layers." in name or "resblocks." in name
        assert rate == (1.0 if name.startswith("vision_model.") else 2.0)


def test_muon_of_many_matrices_is_that_of_torch() -> None:
    """Together as one by one, to the rounding of bf16: wide, tall and square, one without a gradient at first."""
    shapes = [(8, 24), (8, 24), (24, 8), (16, 16), (16, 16), (8, 24)]

    def matrices() -> list[nn.Parameter]:
        generator = torch.Generator().manual_seed(0)
        return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]

    ours, theirs = matrices(), matrices()
    optimizers = (
        Muon(ours, lr=0.02, weight_decay=0.1),
        torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
    )
    for step in range(3):
        generator = torch.Generator().manual_seed(step + 1)
        for index, shape in enumerate(shapes):
            gradient = None if (step, index) == (0, 1) else torch.randn(shape, generator=generator)
            ours[index].grad = theirs[index].grad = gradient
        for optimizer in optimizers:
            optimizer.step()
    for one, other, begun in zip(ours, theirs, matrices(), strict=True):
        torch.testing.assert_close(one, other, atol=2e-3, rtol=0)
        assert (one - begun).abs().max() > 0.02


def test_muon_without_blocks_is_refused() -> None:
    with pytest.raises(ConfigError, match="PerceptionLM's blocks"):
        make_optimizer("muon", nn.Linear(4, 4), (0.9, 0.95), 1e-8, 0.0)


def test_mimetic_attention_looks_for_its_like() -> None:
    torch.manual_seed(0)
    decoder = Decoder(DecoderConfig(dim=64, n_layers=1, n_heads=4, n_kv_heads=2, vocab_size=32, multiple_of=16))
    begin_mimetic(decoder)
    attention = decoder.layers[0].attention
    x = torch.randn(20, 64)
    scores = attention.wq(x)[:, :16] @ attention.wk(x)[:, :16].T
    assert (scores.argmax(dim=1) == torch.arange(20)).float().mean() > 0.9
    # What a head passes on points where it came from.
    passed = attention.wo(attention.wv(x).unflatten(1, (2, 1, 16)).expand(-1, -1, 2, -1).flatten(1))
    assert (nn.functional.cosine_similarity(passed, x) > 0.4).all()
