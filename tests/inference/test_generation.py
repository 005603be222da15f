"""Answers are the original's; a batch, a cache and a stream change nothing about them."""

from __future__ import annotations

import copy
import json
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from perceptic.errors import ConfigError
from perceptic.inference.generation import Generation, generate, stream
from perceptic.inference.prefix_cache import PrefixCache
from perceptic.inference.prompts import Prompt, encode_media, make_prompt
from perceptic.inference.sampling import GenerationOptions
from perceptic.inference.scoring import score_prompt
from perceptic.text.templates import Message, chat_prompt, encode_fragments
from perceptic.weights.plm_pretrained import PerceptionLM

NAMES = ["tied_scaled", "untied_unscaled", "untied_scaled_oddgrid", "tied_unscaled_pool1"]
COMPATIBLE = GenerationOptions(max_new_tokens=32, first_token_may_stop=False)


@dataclass(frozen=True)
class Golden:
    model: PerceptionLM
    cases: list[dict[str, Any]]
    prompts: list[Prompt]
    expected: dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Any:
    goldens = Path(__file__).parents[1] / "goldens" / "plm"
    loaded: dict[str, Golden] = {}

    def build(name: str) -> Golden:
        if name not in loaded:
            folder = tmp_path_factory.mktemp(name)
            for file in (goldens / name / "params.json", goldens / name / "consolidated.pth"):
                shutil.copy(file, folder)
            shutil.copy(goldens / "tokenizer" / "tokenizer.model", folder)
            model = PerceptionLM.from_pretrained(folder, dtype="float32")
            cases = json.loads((goldens / name / "generation.json").read_text())["cases"]
            images = load_file(goldens / name / "inputs.safetensors")["gen.images"]
            prompts = [make_prompt(model, case["prompt_ids"], images[: case["num_tiles"]]) for case in cases]
            loaded[name] = Golden(model, cases, prompts, load_file(goldens / name / "expected.safetensors"))
        return loaded[name]

    return build


def run(golden: Golden, prompts: list[Prompt], options: Any = COMPATIBLE, **arguments: Any) -> list[Generation]:
    assert golden.model.tokenizer is not None
    return generate(golden.model, golden.model.tokenizer, prompts, options, **arguments)


@pytest.mark.parametrize("name", NAMES)
def test_goldens(load: Any, name: str) -> None:
    golden = load(name)
    for case, prompt in zip(golden.cases, golden.prompts, strict=True):
        (answer,) = run(golden, [prompt])
        assert list(answer.token_ids) == case["tokens"]
        assert answer.text == case["text"]
        assert answer.finish_reason == ("stop" if case["tokens"][-1] in golden.model.tokenizer.stop_ids else "length")
        assert answer.num_prompt_tokens == len(case["prompt_ids"])


@pytest.mark.parametrize("name", NAMES)
def test_prompt_log_likelihoods(load: Any, name: str) -> None:
    golden = load(name)
    for case, prompt in zip(golden.cases, golden.prompts, strict=True):
        scores = score_prompt(golden.model, prompt)
        wanted = golden.expected[f"{case['key']}.prompt_loglikelihood"]
        torch.testing.assert_close(scores.log_probabilities, wanted, atol=2e-4, rtol=0)
        assert int(scores.is_best.sum()) == case["prompt_greedy_matches"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batch_size", [3, 16])
def test_a_batch_gives_the_same_tokens(load: Any, name: str, batch_size: int) -> None:
    golden = load(name)
    answers = run(golden, golden.prompts, batch_size=batch_size)
    assert [list(answer.token_ids) for answer in answers] == [case["tokens"] for case in golden.cases]
    assert [answer.text for answer in answers] == [case["text"] for case in golden.cases]


def test_log_probabilities(load: Any) -> None:
    golden = load("tied_scaled")
    answers = run(golden, golden.prompts[:3], COMPATIBLE.replace(max_new_tokens=8))
    for answer, prompt in zip(answers, golden.prompts, strict=False):
        whole = make_prompt(golden.model, [*prompt.token_ids, *answer.token_ids], prompt.pixels)
        wanted = score_prompt(golden.model, whole).log_probabilities[-len(answer.token_ids) :]
        assert answer.log_probabilities == pytest.approx(wanted.tolist(), abs=2e-4)


def test_sampled_batches_give_the_same_tokens(load: Any) -> None:
    golden = load("tied_scaled")
    options = [
        GenerationOptions(max_new_tokens=5 + 3 * index, temperature=0.7, top_p=0.9, seed=index, repetition_penalty=1.1)
        for index in range(len(golden.prompts))
    ]
    together = run(golden, golden.prompts, options)
    alone = [run(golden, [prompt], one)[0] for prompt, one in zip(golden.prompts, options, strict=True)]
    assert [answer.token_ids for answer in together] == [answer.token_ids for answer in alone]
    again = run(golden, golden.prompts, options)
    assert [answer.token_ids for answer in again] == [answer.token_ids for answer in together]
    other = run(golden, golden.prompts[:1], options[0].replace(seed=99, max_new_tokens=20))
    assert other[0].token_ids[:5] != together[0].token_ids


@pytest.mark.parametrize("name", NAMES)
def test_streaming_gives_the_same_answer(load: Any, name: str) -> None:
    golden = load(name)
    for case, prompt in zip(golden.cases, golden.prompts, strict=True):
        tokens = list(stream(golden.model, golden.model.tokenizer, prompt, COMPATIBLE))
        assert [token.token_id for token in tokens] == case["tokens"]
        assert "".join(token.text for token in tokens) == case["text"]
        assert [token.finish_reason is not None for token in tokens] == [False] * (len(tokens) - 1) + [True]


@pytest.mark.parametrize("name", NAMES)
def test_known_beginnings_change_nothing_but_the_work(load: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = load(name)
    encoded: list[int] = []
    plain = golden.model.encode_chunks

    def counting(pixels: torch.Tensor) -> torch.Tensor:
        encoded.append(len(pixels))
        return plain(pixels)

    monkeypatch.setattr(golden.model, "encode_chunks", counting)
    cache = PrefixCache(max_entries=len(golden.prompts))
    for _ in range(2):
        answers = run(golden, golden.prompts, prefix_cache=cache)
        assert [list(answer.token_ids) for answer in answers] == [case["tokens"] for case in golden.cases]
    first_round = sum(encoded)
    encoded.clear()
    run(golden, golden.prompts, prefix_cache=cache)
    assert 0 < first_round <= sum(len(prompt.pixels) for prompt in golden.prompts if prompt.pixels is not None)
    assert encoded == []


def test_the_next_turn_reads_only_what_is_new(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = load("tied_scaled")
    tokenizer, model = golden.model.tokenizer, golden.model
    read: list[int] = []
    plain = model.decoder.extend

    def counting(x: torch.Tensor, cache: Any) -> Any:
        read.append(x.shape[1])
        return plain(x, cache)

    monkeypatch.setattr(model.decoder, "extend", counting)
    cache = PrefixCache()
    options = GenerationOptions(max_new_tokens=12, stop=("\n\n\n",))
    first = golden.prompts[0]
    answer = list(stream(model, tokenizer, first, options, prefix_cache=cache))
    turn = tokenizer.encode(" And then?")
    following = make_prompt(model, [*first.token_ids, *(token.token_id for token in answer), *turn], first.pixels)
    read.clear()
    (with_cache,) = run(golden, [following], prefix_cache=cache)
    assert read[0] <= len(turn) + 1
    monkeypatch.undo()
    (without,) = run(golden, [following])
    assert with_cache.token_ids == without.token_ids


def test_two_continuations_of_one_conversation(load: Any) -> None:
    golden = load("untied_unscaled")
    cache = PrefixCache(max_entries=1)
    stem = golden.prompts[0]
    run(golden, [stem], prefix_cache=cache)
    endings = [golden.model.tokenizer.encode(text) for text in ("one", "two", "three")]
    prompts = [make_prompt(golden.model, [*stem.token_ids, *ending], stem.pixels) for ending in endings]
    wanted = [run(golden, [prompt])[0].token_ids for prompt in prompts]
    cached = [run(golden, [prompt], prefix_cache=cache)[0].token_ids for prompt in prompts]
    assert cached == wanted


def test_media_is_encoded_once(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = load("tied_scaled")
    index = next(i for i, prompt in enumerate(golden.prompts) if prompt.pixels is not None)
    prompt, case = golden.prompts[index], golden.cases[index]
    media = encode_media(golden.model, prompt.pixels, chunks_at_once=1)
    monkeypatch.setattr(golden.model, "encode_chunks", None)  # not needed any more
    again = make_prompt(golden.model, case["prompt_ids"], media)
    assert list(run(golden, [again])[0].token_ids) == case["tokens"]


def test_stop_strings(load: Any) -> None:
    golden = load("tied_scaled")
    text = golden.cases[1]["text"]
    middle = text[8:11]
    options = COMPATIBLE.replace(stop=(middle,))
    (answer,) = run(golden, golden.prompts[1:2], options)
    assert answer.text == text[: text.find(middle)]
    assert answer.finish_reason == "stop_string"
    assert list(answer.token_ids) == golden.cases[1]["tokens"][: len(answer.token_ids)]
    assert len(answer.log_probabilities) == len(answer.token_ids)


def test_an_immediate_stop_is_an_empty_answer(load: Any) -> None:
    golden = load("untied_unscaled")
    model = copy.deepcopy(golden.model)
    prompt = make_prompt(model, golden.prompts[0].token_ids[:1])
    with torch.inference_mode():
        # The end of turn becomes by far the most probable continuation of this prompt.
        hidden = model.hidden(torch.tensor([prompt.token_ids]))[0, -1]
        model.decoder.output.weight[golden.model.tokenizer.eot_id] = 10 * hidden
    options = GenerationOptions(max_new_tokens=4)
    (answer,) = generate(model, golden.model.tokenizer, [prompt], options)
    assert answer.token_ids == (golden.model.tokenizer.eot_id,)
    assert (answer.text, answer.finish_reason) == ("", "stop")
    (compatible,) = generate(model, golden.model.tokenizer, [prompt], options.replace(first_token_may_stop=False))
    assert len(compatible.token_ids) > 1


class CancelAfter:
    def __init__(self, checks: int) -> None:
        self.checks = checks

    def is_set(self) -> bool:
        self.checks -= 1
        return self.checks < 0


def test_cancel(load: Any) -> None:
    golden = load("tied_scaled")
    (answer,) = run(golden, golden.prompts[:1], cancel=CancelAfter(4))
    assert answer.finish_reason == "cancelled"
    assert list(answer.token_ids) == golden.cases[0]["tokens"][: len(answer.token_ids)]
    assert 0 < len(answer.token_ids) < 5
    stopped = threading.Event()
    stopped.set()
    assert [answer.finish_reason for answer in run(golden, golden.prompts, cancel=stopped)] == ["cancelled"] * len(
        golden.prompts
    )
    assert list(stream(golden.model, golden.model.tokenizer, golden.prompts[0], cancel=stopped)) == []


def test_a_closed_stream_leaves_its_work_behind(load: Any) -> None:
    golden = load("tied_scaled")
    cache = PrefixCache()
    tokens = stream(golden.model, golden.model.tokenizer, golden.prompts[0], COMPATIBLE, prefix_cache=cache)
    next(tokens)
    next(tokens)
    tokens.close()
    assert cache.longest((*golden.prompts[0].cells, -1)) is not None


def test_text_alone(load: Any) -> None:
    golden = load("untied_unscaled")
    ids = encode_fragments(golden.model.tokenizer, chat_prompt([Message.text("user", "Is a cat an animal?")], 4))
    (answer,) = run(golden, [make_prompt(golden.model, ids)])
    assert len(answer.token_ids) == 32


def test_the_answer_ends_where_positions_end(load: Any) -> None:
    whole = load("untied_unscaled").model
    short = copy.deepcopy(whole)
    short.config = whole.config.replace(decoder=whole.config.decoder.replace(max_seqlen=40))
    prompt = make_prompt(short, [1] * 37)
    (answer,) = generate(short, whole.tokenizer, [prompt], COMPATIBLE)
    assert len(answer.token_ids) == 3
    assert answer.finish_reason == "length"
    with pytest.raises(ConfigError, match="fewer tiles or frames"):
        make_prompt(short, [1] * 40)


def test_wrong_prompts_and_options(load: Any) -> None:
    golden = load("tied_scaled")
    first = golden.prompts[0]
    with pytest.raises(ConfigError, match="image tokens"):
        make_prompt(golden.model, first.token_ids)
    with pytest.raises(ConfigError, match="1 to"):
        make_prompt(golden.model, [])
    with pytest.raises(ConfigError, match="2 options for 1 prompts"):
        run(golden, [first], [COMPATIBLE, COMPATIBLE])
    with pytest.raises(ConfigError, match="batch_size"):
        run(golden, [first], batch_size=0)
    assert run(golden, []) == []
