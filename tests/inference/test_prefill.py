"""However a prompt is read - in parts, together with others, from where a cache ends - what comes of it is the same."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from perceptic.inference.generation import generate
from perceptic.inference.prefill import ROWS_AT_ONCE, groups_to_read, read_prompt, read_together
from perceptic.inference.prefix_cache import PrefixCache
from perceptic.inference.prompts import Prompt, encode_media, make_prompt
from perceptic.inference.sampling import GenerationOptions
from perceptic.weights.plm_pretrained import PerceptionLM


@dataclass(frozen=True)
class Asked:
    model: PerceptionLM
    prompts: list[Prompt]


@pytest.fixture(scope="module", params=["tied_scaled", "untied_scaled_oddgrid"])
def asked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    goldens, folder = Path(__file__).parents[1] / "goldens" / "plm", tmp_path_factory.mktemp(request.param)
    for file in ("params.json", "consolidated.pth"):
        shutil.copy(goldens / request.param / file, folder)
    shutil.copy(goldens / "tokenizer" / "tokenizer.model", folder)
    model = PerceptionLM.from_pretrained(folder, dtype="float32")
    cases = json.loads((goldens / request.param / "generation.json").read_text())["cases"]
    images = load_file(goldens / request.param / "inputs.safetensors")["gen.images"]
    return Asked(model, [make_prompt(model, case["prompt_ids"], images[: case["num_tiles"]]) for case in cases])


def test_parts_make_the_whole(asked: Asked) -> None:
    for prompt in asked.prompts:
        whole, parts = read_prompt(asked.model, prompt), read_prompt(asked.model, prompt, rows_at_once=7)
        torch.testing.assert_close(parts.logits_BV, whole.logits_BV, atol=1e-4, rtol=0)
        for layer in range(whole.cache.num_layers):
            torch.testing.assert_close(parts.cache.keys(layer), whole.cache.keys(layer), atol=1e-4, rtol=0)
            torch.testing.assert_close(parts.cache.values(layer), whole.cache.values(layer), atol=1e-4, rtol=0)


@pytest.mark.parametrize("rows_at_once", [None, 40])
def test_prompts_read_together_are_each_as_if_alone(asked: Asked, rows_at_once: int | None) -> None:
    together = read_together(asked.model, asked.prompts, rows_at_once=rows_at_once)
    assert len({len(prompt) for prompt in asked.prompts}) > 2
    for index, prompt in enumerate(asked.prompts):
        alone, cache = read_prompt(asked.model, prompt), together.cache.unpadded_row(index)
        torch.testing.assert_close(together.logits_BV[index], alone.logits_BV[0], atol=1e-4, rtol=0)
        assert cache.length == len(prompt)
        for layer in range(cache.num_layers):
            torch.testing.assert_close(cache.keys(layer), alone.cache.keys(layer), atol=1e-4, rtol=0)
            torch.testing.assert_close(cache.values(layer), alone.cache.values(layer), atol=1e-4, rtol=0)


def test_a_part_is_as_long_as_was_said(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = max(asked.prompts, key=len)
    rows: list[int] = []
    extend = asked.model.decoder.extend

    def counting(x: torch.Tensor, cache: Any) -> Any:
        rows.append(x.shape[0] * x.shape[1])
        return extend(x, cache)

    monkeypatch.setattr(asked.model.decoder, "extend", counting)
    read_prompt(asked.model, prompt, rows_at_once=10)
    assert sum(rows) == len(prompt)
    assert max(rows) <= 10
    assert min(rows) >= max(rows) - 1
    rows.clear()
    read_together(asked.model, asked.prompts, rows_at_once=60)
    assert max(rows) <= 60


def test_logits_of_one_position_are_made(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    positions: list[int] = []
    logits = asked.model.decoder.logits

    def counting(hidden: torch.Tensor) -> torch.Tensor:
        positions.append(hidden.numel() // hidden.shape[-1])
        return logits(hidden)

    monkeypatch.setattr(asked.model.decoder, "logits", counting)
    read_prompt(asked.model, max(asked.prompts, key=len), rows_at_once=16)
    read_together(asked.model, asked.prompts)
    assert positions == [1, len(asked.prompts)]


def test_a_second_question_needs_no_tower_and_few_rows(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = asked.model, asked.model.tokenizer
    assert tokenizer is not None
    seen = max(asked.prompts, key=lambda prompt: prompt.num_image_tokens(len(prompt)))
    assert seen.pixels is not None
    question = tokenizer.encode(" And what is behind it?")
    follow = make_prompt(model, [*seen.token_ids[:-2], *question], seen.pixels)
    wanted = read_prompt(model, follow).logits_BV
    cache, chunks, rows = PrefixCache(), [], []
    encode, extend = model.encode_chunks, model.decoder.extend
    monkeypatch.setattr(model, "encode_chunks", lambda pixels: (chunks.append(len(pixels)), encode(pixels))[1])
    monkeypatch.setattr(model.decoder, "extend", lambda x, c: (rows.append(x.shape[1]), extend(x, c))[1])
    generate(model, tokenizer, [seen], GenerationOptions(max_new_tokens=1), prefix_cache=cache)
    assert (chunks, rows) == ([len(seen.pixels)], [len(seen)])
    read = read_prompt(model, follow, cache)
    assert chunks == [len(seen.pixels)]
    assert rows[1:] == [len(question)]
    torch.testing.assert_close(read.logits_BV, wanted, atol=1e-4, rtol=0)


def test_what_prompts_have_in_common_is_encoded_once(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    model = asked.model
    seen = max(asked.prompts, key=lambda prompt: prompt.num_image_tokens(len(prompt)))
    assert seen.pixels is not None
    encoded: list[int] = []
    encode = model.encode_chunks
    questions = [make_prompt(model, [*seen.token_ids, number], seen.pixels) for number in (5, 6)]
    known = make_prompt(model, seen.token_ids, encode_media(model, seen.pixels))
    text = make_prompt(model, [1, 2, 3])
    wanted = [read_prompt(model, prompt).logits_BV[0] for prompt in (*questions, text, known)]
    monkeypatch.setattr(model, "encode_chunks", lambda pixels: (encoded.append(len(pixels)), encode(pixels))[1])
    read = read_together(model, [*questions, text, known])
    assert sum(encoded) == len(set(questions[0].chunk_keys))
    torch.testing.assert_close(read.logits_BV, torch.stack(wanted), atol=1e-4, rtol=0)


@given(st.lists(st.integers(1, 3000), max_size=40))
def test_groups(lengths: list[int]) -> None:
    groups = groups_to_read(lengths)
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    for group in groups:
        longest = max(lengths[index] for index in group)
        assert len(group) == 1 or len(group) * longest <= ROWS_AT_ONCE["cpu"]
        # Padding never costs more than the passes it saves, each worth at most 64 rows.
        padding = sum(longest - lengths[index] for index in group)
        assert padding <= 64 * (len(group) - 1)


def test_short_questions_are_read_together_and_long_ones_alone() -> None:
    assert groups_to_read([40, 45, 2000, 42, 300, 300]) == [[0, 3, 1], [4], [5], [2]]
    assert groups_to_read([]) == []
