"""Samples per second of language-model training: packed, padded to the longest of the batch, padded to full length.

What bounds it. A step's arithmetic is the tower's, which is the same for all three (it runs on real chunks only), and
the decoder's, which is proportional to the tokens of its sequences, padding included, plus attention, which for padded
rows is the square of the row. So packing gains (tower + padded decoder) / (tower + real decoder): much where samples
are short or the tower is small or frozen, little where every sample is a picture of 36 tiles. Three mixes show that:

    even      chunks from 0 (text) to 37, all equally often
    short     half text alone, a third one chunk, the rest 0 to 37 chunks: chat and captions with some documents
    stage 3   the shares of the paper's last stage (training-recipes 6.2): pictures of 33 to 37 chunks, videos of 32
              frames, one sample in eight text alone

Everything is a sixteenth of the real size: 16 tokens a chunk, sequences of 720 tokens, texts of 10 to 40 tokens; the
model is PLM-Nano, whose tower takes two thirds of the arithmetic of a packed step (a half in PLM-1B). The three take
turns in one process on the same samples; a ratio is the median over rounds.

    python benchmarks/plm_packing.py                    # about 5 minutes on 4 cores
    python benchmarks/plm_packing.py --mix short --frozen-tower
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from perceptic.configs_plm import PerceptionLMPreprocessing, plm_config
from perceptic.data.packing import PackedBatch, collate, needed_tokens, pack_all
from perceptic.data.plm_samples import TrainingSample
from perceptic.media.chunks import ChunkTransform
from perceptic.models.perception_lm import PerceptionLM
from perceptic.text.conversations import TrainingTokens
from perceptic.train.plm_objective import token_losses

FULL_LENGTH, ROWS, SEQUENCES, WINDOW = 720, 8, 2, 64
MIXES = ("even", "short", "stage 3")
CONTENDERS = ("full length", "batch maximum", "packed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mix", choices=MIXES, action="append", help="default: all")
    parser.add_argument("--frozen-tower", action="store_true")
    parser.add_argument("--samples", type=int, default=32, help="of a round")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.manual_seed(0)
    # Pooled as the papers' models are: the mixes spread in tokens as theirs do.
    model = PerceptionLM(plm_config("PLM-Nano").replace(pooling_ratio=2)).train()
    model.set_frozen(vision=options.frozen_tower)
    results = [measure(model, mix, options.samples, options.rounds) for mix in options.mix or MIXES]
    print(json.dumps({"threads": torch.get_num_threads(), "frozen_tower": options.frozen_tower, "mixes": results}))


def measure(model: PerceptionLM, mix: str, num_samples: int, rounds: int) -> dict[str, object]:
    """All contenders on one mix, by turns."""
    samples = list(make_samples(model, mix, num_samples, torch.Generator().manual_seed(1)))
    seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    step(model, make_batches("packed", samples)[-1], is_packed=True)  # warms up
    for _ in range(rounds):
        for name in CONTENDERS:
            batches = make_batches(name, samples)
            started = time.perf_counter()
            for batch in batches:
                step(model, batch, is_packed=name == "packed")
            seconds[name].append(time.perf_counter() - started)
    rates = {name: num_samples / statistics.median(values) for name, values in seconds.items()}
    ratios = {
        name: statistics.median(a / b for a, b in zip(seconds[name], seconds["packed"], strict=True))
        for name in CONTENDERS[:2]
    }
    tokens = {name: sum(b.token_ids.numel() for b in make_batches(name, samples)) for name in CONTENDERS}
    mean = statistics.mean(sample.num_inputs for sample in samples)
    print(f"{mix}: {mean:.0f} of {FULL_LENGTH} tokens on average")
    for name in CONTENDERS:
        ratio = f"packed is {ratios[name]:.2f} times as fast" if name in ratios else ""
        print(f"  {name:14} {rates[name]:7.2f} samples/s {tokens[name]:7} tokens  {ratio}")
    return {"mix": mix, "mean_tokens": mean, "samples_per_second": rates, "packed_is_faster_by": ratios}


def make_samples(model: PerceptionLM, mix: str, count: int, generator: torch.Generator) -> Iterator[TrainingSample]:
    """Random samples; the last third of each text is learned."""
    config, size = model.config, model.image_size
    for _ in range(count):
        num_chunks = draw_chunks(mix, generator)
        length = draw(10, 40, generator)
        text = torch.randint(0, 1000, (length,), generator=generator).tolist()
        image = [config.image_token_id] * (num_chunks * config.tokens_per_chunk)
        total = len(image) + length
        learned = tuple(range(total - length // 3, total))
        tokens = TrainingTokens((*image, *text), tuple(range(len(image))), learned)
        chunks = torch.randint(0, 256, (num_chunks, 3, size, size), generator=generator, dtype=torch.uint8)
        yield TrainingSample("image" if num_chunks else "text", tokens, chunks if num_chunks else None)


def draw_chunks(mix: str, generator: torch.Generator) -> int:
    kind = float(torch.rand((), generator=generator))
    if mix == "even":
        return draw(0, 37, generator)
    if mix == "short":
        return 0 if kind < 1 / 2 else 1 if kind < 5 / 6 else draw(0, 37, generator)
    return 0 if kind < 0.13 else 32 if kind < 0.41 else draw(33, 37, generator)


def draw(first: int, last: int, generator: torch.Generator) -> int:
    return int(torch.randint(first, last + 1, (), generator=generator))


def make_batches(name: str, samples: Sequence[TrainingSample]) -> list[PackedBatch]:
    if name == "packed":
        sequences = pack_all(samples, lambda sample: sample.num_inputs, FULL_LENGTH, WINDOW)
        groups = [sequences[i : i + SEQUENCES] for i in range(0, len(sequences), SEQUENCES)]
        return [collate(group, needed_tokens(group, FULL_LENGTH), 0) for group in groups]
    rows = [samples[i : i + ROWS] for i in range(0, len(samples), ROWS)]
    return [
        collate(
            [[sample] for sample in group],
            FULL_LENGTH if name == "full length" else max(sample.num_inputs for sample in group),
            0,
        )
        for group in rows
    ]


def step(model: PerceptionLM, batch: PackedBatch, *, is_packed: bool) -> None:
    """Forward and backward. Logits are made for learned tokens only in all cases."""
    pixels = None if batch.chunks is None else ChunkTransform(PerceptionLMPreprocessing()).normalize(batch.chunks)
    hidden_BLD: Tensor = (
        model.hidden_packed(batch.token_ids, pixels, batch.packing())
        if is_packed
        else model.hidden(batch.token_ids, pixels)
    )
    hidden_ND = hidden_BLD.flatten(0, 1)[batch.label_positions]
    token_losses(model.decoder.logits, hidden_ND, batch.targets, 4096).nll_N.mean().backward()
    model.zero_grad()


if __name__ == "__main__":
    main()
