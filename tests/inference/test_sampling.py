"""What can be drawn, and with which probability, is what the original draws from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from perceptic.errors import ConfigError
from perceptic.inference.sampling import GenerationOptions, choose, filtered_probabilities, penalized


def test_goldens(goldens: Path) -> None:
    folder = goldens / "plm" / "untied_unscaled"
    logits = load_file(folder / "expected.safetensors")["text_short.logits"][0, -1]
    cases = json.loads((folder / "sampling.json").read_text())["cases"]
    assert len(cases) > 10
    for case in cases:
        options = GenerationOptions(temperature=case["temperature"], top_p=case.get("top_p"), top_k=case.get("top_k"))
        probabilities = filtered_probabilities(logits, options)
        support = probabilities.nonzero().flatten().tolist()
        assert len(support) == case["support_size"], case
        if case["support"] is not None:
            assert support == case["support"]
        assert probabilities.max().item() == pytest.approx(case["max_prob"], abs=1e-5)
        assert probabilities.sum().item() == pytest.approx(1.0, abs=1e-5)


LOGITS = torch.log(torch.tensor([0.4, 0.3, 0.15, 0.1, 0.05]))


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"top_k": 2}, [0, 1]),
        ({"top_k": 99}, [0, 1, 2, 3, 4]),
        ({"top_p": 0.0}, [0]),
        ({"top_p": 0.5}, [0, 1]),
        ({"top_p": 1.0}, [0, 1, 2, 3, 4]),
        ({"min_p": 0.3}, [0, 1, 2]),
        ({"min_p": 1.0}, [0]),
        ({"top_k": 3, "min_p": 0.5}, [0, 1]),
        ({"temperature": 1e-4}, [0]),
    ],
)
def test_filters(fields: dict[str, float], kept: list[int]) -> None:
    options = GenerationOptions.from_dict({"temperature": 1.0, **fields})
    probabilities = filtered_probabilities(LOGITS, options)
    assert probabilities.nonzero().flatten().tolist() == kept


def test_ties_at_the_kth_place_are_kept() -> None:
    logits = torch.tensor([2.0, 1.0, 1.0, 1.0, 0.0])
    probabilities = filtered_probabilities(logits, GenerationOptions(temperature=1.0, top_k=2))
    assert probabilities.nonzero().flatten().tolist() == [0, 1, 2, 3]


def test_penalty() -> None:
    logits = torch.tensor([2.0, -2.0, 1.0])
    assert penalized(logits, [0, 1, 0], 2.0).tolist() == [1.0, -4.0, 1.0]
    assert penalized(logits, [], 2.0) is logits
    assert logits.tolist() == [2.0, -2.0, 1.0]
    options = GenerationOptions(repetition_penalty=3.0)
    assert choose(logits, options, [0], torch.Generator()) == 2


def test_draws_follow_the_distribution() -> None:
    options, generator = GenerationOptions(temperature=1.0, top_k=3), torch.Generator().manual_seed(5)
    draws = torch.tensor([choose(LOGITS, options, (), generator) for _ in range(4000)])
    frequencies = draws.bincount(minlength=5) / len(draws)
    wanted = filtered_probabilities(LOGITS, options)
    assert (frequencies - wanted).abs().max() < 0.03  # four standard deviations


@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=2, max_size=40),
    st.floats(1e-3, 50),
    st.one_of(st.none(), st.integers(1, 50)),
    st.one_of(st.none(), st.floats(0, 1)),
    st.one_of(st.none(), st.floats(0, 1)),
)
def test_a_distribution_always_comes_out(
    values: list[float], temperature: float, top_k: int | None, top_p: float | None, min_p: float | None
) -> None:
    logits = torch.tensor(values)
    options = GenerationOptions(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    probabilities = filtered_probabilities(logits, options)
    assert probabilities.isfinite().all()
    assert probabilities.sum().item() == pytest.approx(1.0, abs=1e-4)
    # One of the most probable tokens is always among them (several may be equal after rounding).
    unfiltered = filtered_probabilities(logits, GenerationOptions(temperature=temperature))
    assert unfiltered[probabilities > 0].max() == unfiltered.max()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"top_k": 2.0}, "top_k"),
        ({"top_p": 1.5}, "top_p"),
        ({"min_p": -0.1}, "min_p"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"stop": ("",)}, "stop"),
        ({"stop": (3,)}, "stop"),
        ({"topk": 3}, "did you mean 'top_k'"),
    ],
)
def test_bad_options(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GenerationOptions.from_dict(fields)


def test_one_stop_string_may_be_given_bare() -> None:
    assert GenerationOptions(stop="\n\n").stop == ("\n\n",)  # type: ignore[arg-type]
    assert GenerationOptions.from_dict({"stop": ["a", "b"]}).stop == ("a", "b")


@given(
    st.integers(300, 3000),
    st.floats(0, 1),
    st.sampled_from([0.05, 1.0, 20.0]),
)
def test_top_p_of_large_vocabularies(size: int, top_p: float, temperature: float) -> None:
    logits = torch.randn(size, generator=torch.Generator().manual_seed(size))
    options = GenerationOptions(temperature=temperature, top_p=top_p)
    actual = filtered_probabilities(logits, options)
    ordered, order = (logits / temperature).softmax(-1).sort(descending=True)
    before = ordered.cumsum(-1) - ordered
    # Sums of floats in another order may decide differently about tokens at the very edge.
    assert bool((actual[order[before < top_p - 1e-5]] > 0).all())
    assert bool((actual[order[before > top_p + 1e-5]] == 0).all())
    kept_mass = ordered[actual[order] > 0].sum().item()
    assert kept_mass >= min(top_p, 1.0) - 1e-5
    assert actual.sum().item() == pytest.approx(1.0, abs=1e-5)
