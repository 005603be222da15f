"""An accelerated PerceptionLM answers as the model does, shares its weights, and refuses what it cannot do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from perceptic.errors import ConfigError
from perceptic.inference.compiled import AcceleratedVisionTransformer
from perceptic.inference.generation import generate
from perceptic.inference.native import NativeLibrary, missing_features
from perceptic.inference.plm_accelerate import AcceleratedDecoder, accelerate_plm
from perceptic.inference.prompts import Prompt, make_prompt, prompt_rows
from perceptic.inference.sampling import GenerationOptions
from perceptic.models.kv_cache import KVCache
from perceptic.weights.plm_pretrained import PerceptionLM

NAMES = ["tied_scaled", "untied_unscaled", "untied_scaled_oddgrid", "tied_unscaled_pool1"]
OPTIONS = GenerationOptions(max_new_tokens=32, first_token_may_stop=False)
needs_bfloat16 = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="no bfloat16 in this machine's oneDNN"
)


def load(goldens: Path, name: str, folder: Path, dtype: str) -> PerceptionLM:
    for file in (goldens / "plm" / name / "params.json", goldens / "plm" / name / "consolidated.pth"):
        shutil.copy(file, folder)
    shutil.copy(goldens / "plm" / "tokenizer" / "tokenizer.model", folder)
    return PerceptionLM.from_pretrained(folder, dtype=dtype)


def golden_prompts(goldens: Path, name: str, model: PerceptionLM) -> tuple[list[dict[str, Any]], list[Prompt]]:
    cases = json.loads((goldens / "plm" / name / "generation.json").read_text())["cases"]
    images = load_file(goldens / "plm" / name / "inputs.safetensors")["gen.images"]
    return cases, [make_prompt(model, case["prompt_ids"], images[: case["num_tiles"]]) for case in cases]


@torch.inference_mode()
def logits_of(model: PerceptionLM, prompt: Prompt, answer: list[int]) -> torch.Tensor:
    """Of every token of an answer that is given, step by step, float32 (T, V)."""
    decoder = model.decoder
    cache = KVCache.empty(model.config.decoder, dtype=decoder.dtype)
    extended = decoder.extend(prompt_rows(model, prompt, 0), cache)
    logits = [decoder.logits(extended.hidden_BLD[0, -1])]
    for token in answer[:-1]:
        extended = decoder.extend(decoder.embed(torch.tensor([[token]])), extended.cache)
        logits.append(decoder.logits(extended.hidden_BLD[0, -1]))
    return torch.stack(logits).float()


@needs_bfloat16
@pytest.mark.parametrize("name", NAMES)
def test_best_tokens_of_the_original(goldens: Path, name: str, tmp_path: Path) -> None:
    """Where bfloat16 leaves no doubt, the best token is the original's; and there is seldom a doubt."""
    exact = load(goldens, name, tmp_path, "float32")
    eager = load(goldens, name, tmp_path, "bfloat16")
    fast = accelerate_plm(eager)
    cases, prompts = golden_prompts(goldens, name, exact)
    clear_tokens, tokens = 0, 0
    for case, prompt in zip(cases, prompts, strict=True):
        answer = case["tokens"]
        wanted, own, actual = (logits_of(model, prompt, answer) for model in (exact, eager, fast))
        noise = (own - wanted).abs().max()
        assert (actual - wanted).abs().max() <= 1.5 * noise
        top = wanted.topk(2, dim=-1).values
        clear = top[:, 0] - top[:, 1] > 2 * noise
        assert torch.equal(actual.argmax(-1)[clear], torch.tensor(answer)[clear])
        clear_tokens, tokens = clear_tokens + int(clear.sum()), tokens + len(answer)
    assert clear_tokens > 0.2 * tokens


@pytest.mark.parametrize("name", NAMES)
def test_float32_twin_answers_exactly(goldens: Path, name: str, tmp_path: Path) -> None:
    model = load(goldens, name, tmp_path, "float32")
    twin = accelerate_plm(model)
    assert not twin.decoder.uses_native_kernels
    assert model.tokenizer is not None
    assert twin.tokenizer is model.tokenizer
    _, prompts = golden_prompts(goldens, name, model)
    ours, theirs = (generate(it, model.tokenizer, prompts, OPTIONS) for it in (twin, model))
    assert [answer.token_ids for answer in ours] == [answer.token_ids for answer in theirs]


@pytest.mark.skipif(bool(missing_features(torch.bfloat16)), reason="no compiled bf16 kernels for this processor")
@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_quantised_twins(goldens: Path, weights: str, tmp_path: Path, kernel_library: NativeLibrary) -> None:
    """Compiled kernels and torch's operators see the same codes."""
    model = load(goldens, "untied_unscaled", tmp_path, "bfloat16")
    _, prompts = golden_prompts(goldens, "untied_unscaled", model)
    native, plain = (accelerate_plm(model, weights=weights, kernels=kernels) for kernels in ("native", "torch"))
    assert native.decoder.uses_native_kernels
    assert not plain.decoder.uses_native_kernels
    answer = list(range(5, 25))
    ours, theirs = (logits_of(it, prompts[0], answer) for it in (native, plain))
    assert (ours - theirs).abs().max() < 0.04 * theirs.std() * theirs.abs().max()
    assert torch.nn.functional.cosine_similarity(ours, theirs).min() > 0.999


@needs_bfloat16
def test_weights_are_shared_unless_others_are_asked_for(goldens: Path, tmp_path: Path) -> None:
    model = load(goldens, "tied_scaled", tmp_path, "bfloat16")
    twin = accelerate_plm(model)
    assert isinstance(twin.decoder, AcceleratedDecoder)
    assert isinstance(twin.vision_model, AcceleratedVisionTransformer)
    shared = dict(model.decoder.named_parameters())
    assert {name: p.data_ptr() for name, p in twin.decoder.named_parameters()} == {
        name: p.data_ptr() for name, p in shared.items()
    }
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for others in ({"weights": "int8"}, {"dtype": torch.float32}):
        accelerate_plm(model, **others)
        torch.testing.assert_close(dict(model.state_dict()), before, atol=0, rtol=0)
    cast = accelerate_plm(model, dtype=torch.float32)
    assert (cast.decoder.dtype, model.decoder.dtype) == (torch.float32, torch.bfloat16)


@needs_bfloat16
def test_what_it_refuses(goldens: Path, tmp_path: Path) -> None:
    model = load(goldens, "tied_scaled", tmp_path, "bfloat16")
    twin = accelerate_plm(model)
    for misuse in (lambda: twin.decoder.to(torch.float16), lambda: twin.decoder.state_dict(), lambda: twin.train()):
        with pytest.raises(ConfigError, match="use the model that was given"):
            misuse()
    assert twin.eval() is twin
    with pytest.raises(ConfigError, match="accelerated already"):
        accelerate_plm(twin)
    with pytest.raises(ConfigError, match="'auto', 'native' or 'torch'"):
        accelerate_plm(model, kernels="fast")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="int3"):
        accelerate_plm(model, weights="int3")


def test_native_kernels_say_what_does_not_fit(goldens: Path, tmp_path: Path, kernel_library: NativeLibrary) -> None:
    model = load(goldens, "tied_scaled", tmp_path, "float32")
    with pytest.raises(ConfigError, match="compute in bfloat16, not torch"):
        accelerate_plm(model, kernels="native")
