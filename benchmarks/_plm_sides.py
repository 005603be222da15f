"""Two PerceptionLMs with the same random weights, ours and transformers', for the benchmarks to compare.

The weights are written once as a Hugging Face folder and each side loads them as its users do. They are random: speed
and memory do not depend on them, and what the two sides answer must agree all the same.
"""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from perceptic.configs_plm import DecoderConfig, PerceptionLMConfig, plm_config
from perceptic.inference.generation import GeneratedToken, stream
from perceptic.inference.plm_accelerate import accelerate_plm
from perceptic.inference.prefix_cache import PrefixCache
from perceptic.inference.prompts import Prompt, make_prompt, prompt_rows
from perceptic.inference.sampling import GenerationOptions
from perceptic.models.kv_cache import KVCache
from perceptic.text.llama_tokenizer import LlamaTokenizer
from perceptic.text.llama_vocabulary import NUM_SPECIAL_TOKENS, LlamaVocabulary
from perceptic.weights.plm_pretrained import PerceptionLM, load_plm

TEXT_TOKENS = 40  # of a question with its template


@dataclass(frozen=True)
class Question:
    """What both sides are asked: text, and the chunks (C, 3, S, S) that fill the image tokens in it, if any."""

    token_ids: tuple[int, ...]
    pixels: Tensor | None

    @property
    def num_chunks(self) -> int:
        return 0 if self.pixels is None else len(self.pixels)


def make_question(
    config: PerceptionLMConfig, num_chunks: int, text_tokens: int = TEXT_TOKENS, seed: int = 0
) -> Question:
    """Random text and noise pictures; those of one seed begin alike."""
    generator = torch.Generator().manual_seed(seed)
    text = torch.randint(0, config.image_token_id - 2, (text_tokens,), generator=generator).tolist()
    image_tokens = [config.image_token_id] * (num_chunks * config.tokens_per_chunk)
    side = config.vision.image_size
    pixels = torch.rand(num_chunks, 3, side, side, generator=generator) * 2 - 1 if num_chunks else None
    return Question((*text[:4], *image_tokens, *text[4:]), pixels)


def quick_config() -> PerceptionLMConfig:
    """A model that runs in milliseconds, to see that a benchmark works."""
    whole = plm_config("Perception-LM-1B")
    decoder = DecoderConfig(
        dim=128, n_layers=3, n_heads=4, n_kv_heads=2, vocab_size=1024, multiple_of=64, rope_theta=500000.0,
        rope_scale_factor=32, high_freq_factor=4, weight_tying=True,
    )  # fmt: skip
    vision = whole.vision.replace(image_size=112, width=64, layers=3, heads=2)
    return PerceptionLMConfig(decoder, vision, image_token_id=1024 - NUM_SPECIAL_TOKENS + 2)


def write_folder(config: PerceptionLMConfig, folder: Path) -> None:
    """Random weights in bfloat16, in the layout of Hugging Face."""
    with torch.device("meta"):
        model = PerceptionLM(config)
    model = model.to(torch.bfloat16).to_empty(device="cpu")
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            torch.nn.init.constant_(parameter, 1.0 if "norm" in name or "ln_" in name else 0.0)
        else:
            torch.nn.init.uniform_(parameter, -(bound := (3 / parameter[0].numel()) ** 0.5), bound)
    model.save_pretrained(folder, form="huggingface", tokenizer=make_tokenizer(config.decoder.vocab_size))


def make_tokenizer(vocab_size: int) -> LlamaTokenizer:
    """Some tokenizer with this many ids."""
    tuples = itertools.chain.from_iterable(itertools.product(range(256), repeat=length) for length in (1, 2, 3))
    return LlamaTokenizer(LlamaVocabulary(tuple(map(bytes, itertools.islice(tuples, vocab_size - NUM_SPECIAL_TOKENS)))))


class Ours:
    """perceptic, accelerated."""

    name = "perceptic"

    def __init__(self, folder: Path, **acceleration: Any) -> None:
        bundle = load_plm(folder)
        self.config = bundle.model.config
        self.tokenizer = bundle.tokenizer
        self.model = accelerate_plm(bundle.model, consume=True, **acceleration)

    def prompt(self, question: Question) -> Prompt:
        return make_prompt(self.model, question.token_ids, question.pixels)

    def tokens(self, question: Question, count: int, cache: PrefixCache | None = None) -> Iterator[GeneratedToken]:
        options = GenerationOptions(max_new_tokens=count)
        yield from stream(self.model, self.tokenizer, self.prompt(question), options, prefix_cache=cache)

    def first_token(self, question: Question, cache: PrefixCache | None = None) -> int:
        """All the work from pixels to the first token of an answer."""
        return next(iter(self.tokens(question, 1, cache))).token_id

    def logits(self, question: Question) -> Tensor:
        """Of the first token of the answer, float32 (V,)."""
        prompt = self.prompt(question)
        with torch.inference_mode():
            weight = self.model.decoder.norm.weight
            cache = KVCache.empty(self.config.decoder, 1, len(prompt), dtype=weight.dtype)
            hidden = self.model.decoder.extend(prompt_rows(self.model, prompt, 0), cache).hidden_BLD
            return self.model.decoder.logits(hidden[0, -1]).float()


class Theirs:
    """transformers, as it comes: its default attention, bfloat16, eager."""

    name = "transformers"

    def __init__(self, folder: Path) -> None:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        import transformers

        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = transformers.PerceptionLMForConditionalGeneration.from_pretrained(folder, dtype=torch.bfloat16)
        self.model = loaded.eval()

    def first_token(self, question: Question) -> int:
        """One forward pass that fills its cache, as `generate` does it."""
        return int(self.logits(question).argmax())

    @torch.inference_mode()
    def logits(self, question: Question) -> Tensor:
        """Of the first token of the answer, float32 (V,); no other position's are computed."""
        ids = torch.tensor([question.token_ids])
        pixels = None if question.pixels is None else question.pixels[None].to(torch.bfloat16)
        output = self.model(input_ids=ids, pixel_values=pixels, use_cache=True, logits_to_keep=1)
        logits_V: Tensor = output.logits[0, -1].float()
        return logits_V
